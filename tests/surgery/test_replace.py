"""Other norms in a model's own places: the variables go along, the source stays."""

import functools
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm
from jaxnorm.linen import BatchNorm, GhostBatchNorm, GroupNorm, LayerNorm, RMSNorm
from jaxnorm.surgery import (
    DROP_INS,
    find_norms,
    freeze_statistics,
    replace_norms,
    reset_statistics,
)

from .models import cnn, digits, mlp, trained
from .test_find import Mixed
from .test_pickles import Net

X = jnp.asarray(digits()[:16])
TO_GROUP = {"batch_norm": functools.partial(GroupNorm, num_groups=1)}


def output(model, variables, *args, **kwargs):
    def apply(variables):
        return model.apply(variables, *args, mutable=["batch_stats"], **kwargs)

    return jax.jit(apply)(variables)


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_flax_norms_become_ours_and_every_leaf_stays_bit_for_bit():
    model, ours = cnn(nn.BatchNorm), cnn(BatchNorm)
    variables = trained(model)
    found = replace_norms(model, DROP_INS, variables, X)
    change = "flax.linen.BatchNorm -> jaxnorm.linen.BatchNorm"
    assert found.replaced == {f"norm_{i}": change for i in range(3)}
    assert found.fresh == found.dropped == ()
    assert_equal(found.variables, variables)
    assert_equal(
        output(found.model, variables, X, train=True), output(ours, variables, X, train=True)
    )
    assert_equal(output(found.model, variables, X), output(ours, variables, X))


def test_batch_norm_becomes_group_norm_with_its_scale_and_bias_and_without_statistics():
    model = cnn()
    variables = trained(model)
    found = replace_norms(model, TO_GROUP, variables, X)
    grouped = cnn(functools.partial(GroupNorm, num_groups=1))
    assert_equal(found.variables, {"params": variables["params"]})
    assert_equal(output(found.model, found.variables, X), output(grouped, found.variables, X))
    assert set(found.dropped) == {
        f"batch_stats/norm_{i}/{name}" for i in range(3) for name in ("mean", "var")
    }
    # A new model makes the variables of the new norms by itself.
    made = found.model.init(jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, found.variables)
    assert replace_norms(model, TO_GROUP).model == found.model


def test_norms_in_scans_lists_setup_and_around_kernels_are_replaced():
    x = jax.random.normal(jax.random.key(0), (4, 8))
    variables = Mixed().init(jax.random.key(1), x, train=False)
    rule = {
        "batch_norm": "layer_norm",
        "layer_norm": "rms_norm",
        "group_norm": "dynamic_tanh",
        nn.SpectralNorm: jaxnorm.linen.SpectralNorm,
    }
    found = replace_norms(Mixed(), rule, variables, x, train=False)
    assert found.fresh == ("params/shared/alpha",)
    assert found.dropped == ("batch_stats/steps/norm/mean", "batch_stats/steps/norm/var")
    y, _ = output(found.model, found.variables, x, train=True)

    p = jax.tree.map(np.asarray, found.variables["params"])

    def normalized(x):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    z = np.asarray(x, np.float64)
    for _ in range(3):
        z = normalized(z)
    z = z / np.sqrt((z**2).mean(-1, keepdims=True) + 1e-6)
    z = z @ p["blocks_0"]["kernel"]
    z = z / np.sqrt((z**2).mean(-1, keepdims=True) + 1e-6)
    for _ in range(2):
        z = np.tanh(p["shared"]["alpha"] * z)
    kernel = p["dense"]["kernel"].astype(np.float64)
    kernel = (kernel - kernel.mean(0)) / np.sqrt(kernel.var(0) + 1e-6)
    sigma = found.variables["batch_stats"]["spectral"]["Dense_0/kernel/sigma"]
    z = z @ kernel @ (p["Dense_0"]["kernel"] / sigma)
    np.testing.assert_allclose(y, z, rtol=0, atol=64 * np.finfo(np.float32).eps * np.abs(z).max())


def test_a_function_of_the_row_picks_norms_and_a_zero_centered_scale_is_shifted():
    model = mlp()
    variables = trained(model)

    def rule(row):
        if row.path == "norm_1" and row.features == (6,):
            return LayerNorm(zero_centered=True)
        return None

    found = replace_norms(model, rule, variables, X)
    assert found.replaced == {"norm_1": "jaxnorm.linen.BatchNorm -> jaxnorm.linen.LayerNorm"}
    old, new = (v["params"]["norm_1"] for v in (variables, found.variables))
    np.testing.assert_array_equal(new["scale"], old["scale"] - 1)
    assert_equal(found.variables["batch_stats"]["norm_0"], variables["batch_stats"]["norm_0"])
    shapes = jax.eval_shape(found.model.init, jax.random.key(0), X)
    assert jax.tree.structure(shapes) == jax.tree.structure(found.variables)


def test_a_norm_of_the_same_kind_keeps_its_fields_but_for_what_the_rule_says():
    model = nn.Sequential([BatchNorm(use_running_average=False, epsilon=0.5, momentum=0.75)])
    x = jnp.array([[1.0], [3.0]])
    seen = []
    for factory in (
        functools.partial(BatchNorm, momentum=0.5),
        functools.partial(GhostBatchNorm, ghost_batch_size=2),
    ):
        new = replace_norms(model, {"batch_norm": factory}).model
        variables = new.init(jax.random.key(0), x)
        seen.append(new.apply(variables, x, mutable=["batch_stats"]))
    # The mean of the batch is 2 and its variance 1.
    np.testing.assert_allclose(seen[0][0].ravel(), [-1 / np.sqrt(1.5), 1 / np.sqrt(1.5)], 1e-6)
    means = [state["batch_stats"]["layers_0"]["mean"][0] for _, state in seen]
    assert means == [0.5 * 2, 0.25 * 2]


def test_rules_apply_in_the_order_in_which_they_were_given():
    x = jax.random.normal(jax.random.key(0), (4, 3))
    swap = {"layer_norm": "rms_norm", "rms_norm": "layer_norm"}
    once = replace_norms(nn.Sequential([LayerNorm(), RMSNorm()]), swap).model
    twice = replace_norms(once, swap).model
    kinds = [[row.kind for row in find_norms(model, x).rows] for model in (once, twice)]
    assert kinds == [["rms_norm", "layer_norm"], ["layer_norm", "rms_norm"]]


class Two(nn.Module):
    """A norm that is made of a norm, and whose wrapped layer has one."""

    @nn.compact
    def __call__(self, x):
        return LayerNorm(name="inner")(x) + 1


def test_what_a_new_norm_is_made_of_is_not_replaced_and_what_it_wraps_is():
    x = jax.random.normal(jax.random.key(0), (4, 3))
    model = replace_norms(nn.Sequential([LayerNorm()]), {"layer_norm": Two}).model
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    assert list(shapes["params"]["layers_0"]) == ["inner"]
    wrapped = nn.WeightNorm(nn.Sequential([nn.Dense(3), nn.BatchNorm(use_running_average=True)]))
    found = replace_norms(wrapped, DROP_INS).model
    kinds = {row.module for row in find_norms(found, x).rows}
    assert kinds == {"jaxnorm.linen.WeightNorm", "jaxnorm.linen.BatchNorm"}


def test_a_replaced_model_is_frozen_copied_and_pickled_as_any_other():
    model = replace_norms(Net(), {BatchNorm: nn.BatchNorm}).model
    copy = pickle.loads(pickle.dumps(model))
    assert copy == model
    assert hash(type(copy)) == hash(type(model))
    x = jnp.arange(12.0).reshape(4, 3)
    variables = model.init(jax.random.key(0), x)
    frozen = freeze_statistics(copy)
    kept, _ = frozen.apply(
        variables, x, train=True, rngs={"dropout": jax.random.key(1)}, mutable=["batch_stats"]
    )
    train = (jnp.abs(kept) > 0) * 2 * model.apply(variables, x)
    np.testing.assert_allclose(kept, train, rtol=1e-6)


def test_what_the_new_norm_cannot_do_is_said():
    x = jnp.ones((2, 4))
    to_batch = replace_norms(nn.Sequential([LayerNorm()]), {"layer_norm": BatchNorm}).model
    with pytest.raises(ValueError, match="layers_0 is called without use_running_average"):
        to_batch.init(jax.random.key(0), x)
    model = replace_norms(LayerNorm(), {"layer_norm": "dynamic_tanh"}).model
    with pytest.raises(ValueError, match="the model is called with mask, which .*DynamicTanh"):
        model.init(jax.random.key(0), x, mask=x > 0)
    with pytest.raises(ValueError, match="'conv' is no norm"):
        replace_norms(model, {"conv": GroupNorm})
    with pytest.raises(TypeError, match="rule is a list"):
        replace_norms(model, [GroupNorm])
    with pytest.raises(ValueError, match="one normalizes kernels"):
        replace_norms(LayerNorm(), {"layer_norm": lambda: nn.WeightNorm(nn.Dense(1))}).model.init(
            jax.random.key(0), x
        )


def test_norms_of_an_nnx_tree_are_replaced_in_a_copy_and_stay_shared():
    rngs = nnx.Rngs(0)
    shared = nnx.LayerNorm(4, epsilon=0.25, rngs=rngs)
    batch = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
    batch.mean[...] = jnp.arange(4.0)
    kernel = nnx.WeightNorm(nnx.Linear(4, 4, rngs=rngs), rngs=rngs)
    spectral = nnx.SpectralNorm(nnx.Linear(4, 4, rngs=rngs), rngs=rngs)
    model = nnx.Sequential(shared, batch, shared, kernel, spectral)
    x = jax.random.normal(jax.random.key(0), (3, 4))
    found = replace_norms(model, DROP_INS)
    assert find_norms(found.model).rows[0].module == "jaxnorm.nnx.LayerNorm"
    assert len(found.replaced) == 4
    assert found.fresh == found.dropped == ()
    assert found.model.layers[0] is found.model.layers[2]
    assert model.layers[0] is shared
    bound = 64 * np.finfo(np.float32).eps
    np.testing.assert_allclose(found.model(x), model(x), rtol=0, atol=bound)
    np.testing.assert_array_equal(found.model.layers[1].mean[...], batch.mean[...])

    grouped = replace_norms(
        model, {"batch_norm": functools.partial(jaxnorm.nnx.GroupNorm, num_groups=2)}
    )
    assert grouped.dropped == ("layers/1/mean", "layers/1/var")
    assert isinstance(grouped.model.layers[1], jaxnorm.nnx.GroupNorm)
    assert isinstance(replace_norms(batch, DROP_INS).model, jaxnorm.nnx.BatchNorm)


def test_stacked_norms_of_an_nnx_scan_stay_stacked():
    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(rngs):
        return jaxnorm.nnx.BatchNorm(4, use_running_average=True, rngs=rngs)

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def run(norm, x):
        return norm(x)

    stacked = make(nnx.Rngs(0))
    stacked.mean[...] = jnp.arange(12.0).reshape(3, 4)
    x = jax.random.normal(jax.random.key(0), (5, 4))
    flax = replace_norms(stacked, {"batch_norm": nnx.BatchNorm})
    assert flax.fresh == flax.dropped == ()
    np.testing.assert_allclose(run(flax.model, x), run(stacked, x), rtol=1e-6, atol=1e-6)
    tanh = replace_norms(stacked, {"batch_norm": "dynamic_tanh"})
    assert tanh.fresh == ("alpha",)
    expected = np.float64(x)
    for alpha in np.float64(tanh.model.alpha[...]):
        expected = np.tanh(alpha * expected)
    np.testing.assert_allclose(run(tanh.model, x), expected, rtol=1e-5, atol=1e-6)
    reset = reset_statistics(stacked)
    np.testing.assert_array_equal(reset.mean[...], np.zeros((3, 4)))


def test_an_activation_goes_along_or_is_refused():
    model, x = nn.Sequential([BatchNorm(use_running_average=False, activation="relu")]), X[:2, 0, 0]
    new = replace_norms(model, {"batch_norm": "layer_norm"}).model
    norm = nn.Sequential([jaxnorm.linen.LayerNorm()])
    variables = new.init(jax.random.key(0), x)
    expected = jax.nn.relu(norm.apply(variables, x))
    np.testing.assert_allclose(new.apply(variables, x), expected, rtol=0, atol=1e-6)
    assert find_norms(new, x).rows[0].options == {"activation": "relu"}
    frozen = freeze_statistics(model)
    running = model.init(jax.random.key(0), x)
    expected = jax.nn.relu(x / np.sqrt(1 + 1e-5))
    np.testing.assert_allclose(frozen.apply(running, x), expected, rtol=0, atol=1e-6)
    for other in (nn.BatchNorm, functools.partial(GhostBatchNorm, ghost_batch_size=2)):
        with pytest.raises(ValueError, match="is a batch_norm with activation='relu', which"):
            replace_norms(model, {"batch_norm": other}).model.init(jax.random.key(0), x)
    tree = nnx.Sequential(jaxnorm.nnx.BatchNorm(3, activation="relu", rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="layers/0 is a batch_norm with activation='relu'"):
        replace_norms(tree, {"batch_norm": nnx.BatchNorm})
