"""Adaptation to another domain: statistics by the count of a prior, and entropy minimization."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxnorm
from jaxnorm.linen import BatchNorm
from jaxnorm.surgery import adapt_statistics, get_variables, tent

from .models import digits, mlp, trained

X = jnp.asarray(digits()[:16])
EPS = np.finfo(np.float32).eps


def test_statistics_are_mixed_by_the_count_of_the_prior():
    model = BatchNorm(use_running_average=False)
    source = {"mean": jnp.array([1.0, -1.0]), "var": jnp.array([4.0, 0.5])}
    variables = {"params": {"scale": jnp.ones(2), "bias": jnp.zeros(2)}, "batch_stats": source}
    batches = [
        jnp.asarray(np.random.default_rng(i).normal(3, 2, (n, 2))) for i, n in ((0, 6), (1, 2))
    ]
    target = np.concatenate([np.float64(batch) for batch in batches])
    for prior in (0, 8, 24):
        share = 8 / (8 + prior)
        found = adapt_statistics(model.apply, variables, iter(batches), prior_count=prior)
        for name, value in (("mean", target.mean(0)), ("var", target.var(0))):
            expected = (1 - share) * np.float64(source[name]) + share * value
            np.testing.assert_allclose(found["batch_stats"][name], expected, rtol=32 * EPS)
    with pytest.raises(ValueError, match="prior_count=-1"):
        adapt_statistics(model.apply, variables, batches, prior_count=-1)


@pytest.mark.parametrize("library", ["jaxnorm", "flax"])
def test_each_layer_sees_inputs_that_the_mixture_normalized(library):
    rng = np.random.default_rng(1)
    norm = {"jaxnorm": jaxnorm.nnx.BatchNorm, "flax": nnx.BatchNorm}[library]
    model = nnx.Sequential(norm(3, rngs=nnx.Rngs(0)), jnp.tanh, norm(3, rngs=nnx.Rngs(0)))
    for layer in (model.layers[0], model.layers[2]):
        layer.mean[...], layer.var[...] = (jnp.float32(rng.uniform(0.5, 2, 3)) for _ in range(2))
    x = rng.normal(2, 3, (8, 3))
    adapted = adapt_statistics(model, [jnp.float32(x)], prior_count=24)
    for before, after in zip(model.layers, adapted.layers, strict=True):
        if not hasattr(before, "mean"):
            x = np.tanh(x)
            continue
        mean = 0.75 * np.float64(before.mean[...]) + 0.25 * x.mean(0)
        var = 0.75 * np.float64(before.var[...]) + 0.25 * x.var(0)
        np.testing.assert_allclose(after.mean[...], mean, rtol=64 * EPS, atol=8 * EPS)
        np.testing.assert_allclose(after.var[...], var, rtol=64 * EPS)
        x = (x - mean) / np.sqrt(var + 1e-5)


def test_linen_models_mix_as_nnx_models_do():
    model = mlp()
    variables = trained(model)
    apply = functools.partial(model.apply, train=True)
    found = adapt_statistics(apply, variables, [X], prior_count=16)["batch_stats"]
    p, old = variables["params"], variables["batch_stats"]
    z = np.asarray(X, np.float64).reshape(16, -1)
    for i in range(2):
        layer, norm, stats = p[f"hidden_{i}"], p[f"norm_{i}"], old[f"norm_{i}"]
        z = z @ np.float64(layer["kernel"])
        mean = 0.5 * np.float64(stats["mean"]) + 0.5 * z.mean(0)
        var = 0.5 * np.float64(stats["var"]) + 0.5 * z.var(0)
        bound = 64 * EPS * np.abs(z).max()
        np.testing.assert_allclose(found[f"norm_{i}"]["mean"], mean, rtol=0, atol=bound)
        np.testing.assert_allclose(found[f"norm_{i}"]["var"], var, rtol=128 * EPS)
        z = np.tanh((z - mean) / np.sqrt(var + 1e-5) * norm["scale"] + norm["bias"])


def test_shards_of_a_batch_count_together():
    model = jaxnorm.nnx.BatchNorm(1, rngs=nnx.Rngs(0))
    shards = jnp.asarray(np.random.default_rng(0).normal(3, 2, (2, 4, 1)), jnp.float32)

    def shard(x):
        return adapt_statistics(model, [x], prior_count=8, axis_name="shards").mean[...]

    found = jax.vmap(shard, axis_name="shards")(shards)
    np.testing.assert_allclose(found, np.full((2, 1), np.float64(shards).mean() / 2), rtol=32 * EPS)


def entropy_gradients(x, scale, bias, epsilon):
    """Returns the mean entropy of the softmax of a batch norm, and its gradients, in float64."""
    z = (x - x.mean(0)) / np.sqrt(x.var(0) + epsilon)
    logits = z * scale + bias
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    entropy = -(p * np.log(p)).sum(1, keepdims=True)
    gradient = -p * (np.log(p) + entropy) / len(x)
    return entropy.mean(), (gradient * z).sum(0), gradient.sum(0)


def test_a_step_of_tent_is_the_gradient_of_the_entropy_by_hand():
    x = np.random.default_rng(0).normal(3, 2, (7, 4))
    model = jaxnorm.nnx.BatchNorm(4, use_running_average=True, rngs=nnx.Rngs(0))
    model.scale[...], model.bias[...] = jnp.array([1.0, 2.0, -1.0, 0.5]), jnp.arange(4.0)
    adapt = tent(model, optax.sgd(0.5))
    variables = get_variables(model)
    step = adapt.update(variables, adapt.init(variables), jnp.asarray(x, jnp.float32))
    scale, bias = np.float64(model.scale[...]), np.float64(model.bias[...])
    entropy, of_scale, of_bias = entropy_gradients(x, scale, bias, 1e-5)
    np.testing.assert_allclose(step.entropy, entropy, rtol=32 * EPS)
    np.testing.assert_allclose(
        step.variables["params"]["scale"], scale - 0.5 * of_scale, rtol=32 * EPS
    )
    np.testing.assert_allclose(
        step.variables["params"]["bias"], bias - 0.5 * of_bias, rtol=32 * EPS, atol=32 * EPS
    )
    assert model.mean[...][0] == step.variables["batch_stats"]["mean"][0] == 0


def test_tent_moves_norms_alone_and_lowers_the_entropy():
    model = mlp()
    variables = trained(model)
    adapt = tent(functools.partial(model.apply, train=True), optax.adam(0.05))
    update = jax.jit(adapt.update)
    state, entropies = adapt.init(variables), []
    new = variables
    for _ in range(10):
        new, state, _, entropy = update(new, state, X)
        entropies.append(float(entropy))
    assert entropies[-1] < 0.8 * entropies[0]
    same = jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), new, variables)
    moved = {name for name, part in same["params"].items() if not all(jax.tree.leaves(part))}
    assert moved == {"norm_0", "norm_1"}
    assert jax.tree.all(same["batch_stats"])
    with pytest.raises(ValueError, match="no norm of the model has a scale or a bias"):
        adapt.init({"params": {"dense": {"kernel": X}}})
