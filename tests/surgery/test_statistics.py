"""Statistics shared over shards, started anew, merged by count, and fitted to averaged weights."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm
from jaxnorm.linen import BatchNorm
from jaxnorm.surgery import (
    average_weights,
    interpolate,
    merge_statistics,
    recalibrate,
    reset_statistics,
    sync_norms,
    unsync,
)

from .models import digits, mlp, trained

RNG = np.random.default_rng(0)
X = jnp.asarray(digits()[:16])
BOUND = 64 * np.finfo(np.float32).eps


def trained_step(model, variables, x):
    return model.apply(variables, x, train=True, mutable=["batch_stats"])


@pytest.mark.parametrize("norm", [BatchNorm, nn.BatchNorm])
def test_shards_of_a_synchronized_model_are_one_batch(norm):
    model = mlp(norm)
    variables = trained(model)
    synced = sync_norms(model, "shards")
    assert unsync(synced).init(jax.random.key(0), X).keys() == variables.keys()
    shards = X.reshape(2, 8, 8, 8, 1)

    @jax.jit
    def both(variables):
        def shard(model):
            return jax.vmap(lambda x: trained_step(model, variables, x), axis_name="shards")

        whole = trained_step(model, variables, X)
        return (*(shard(m)(shards) for m in (synced, unsync(synced))), whole)

    (y, stats), (apart, _), (whole, of_whole) = both(variables)
    scale = np.abs(whole).max()
    np.testing.assert_allclose(y.reshape(whole.shape), whole, rtol=0, atol=8 * BOUND * scale)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-5, atol=BOUND), stats, of_whole
    )
    assert np.abs(apart.reshape(whole.shape) - whole).max() > 0.01 * scale


def test_norms_of_an_nnx_tree_are_synchronized_in_a_copy_with_what_they_share():
    rngs = nnx.Rngs(0)
    batch = jaxnorm.nnx.BatchNorm(4, rngs=rngs)
    layer = nnx.LayerNorm(4, rngs=rngs)
    model = nnx.Sequential(batch, layer, batch, nnx.BatchNorm(4, rngs=rngs))
    synced = sync_norms(model, "shards", [[0, 1], [2, 3]])
    assert synced.layers[0] is synced.layers[2]
    assert [synced.layers[i].axis_name for i in (0, 1, 3)] == ["shards", None, "shards"]
    assert synced.layers[0].axis_index_groups == ((0, 1), (2, 3))
    assert batch.axis_name is None
    assert unsync(synced).layers[3].axis_name is None


def test_reset_statistics_start_anew_and_parameters_stay():
    norm = functools.partial(BatchNorm, estimator=jaxnorm.cumulative(), use_running_average=False)
    model = nn.Sequential([norm(), nn.Dense(3), nn.BatchNorm(use_running_average=False)])
    x = jnp.asarray(RNG.normal(3, 2, (8, 2)), jnp.float32)
    first = model.init(jax.random.key(1), x)
    moved = {**first, **model.apply(first, x, mutable=["batch_stats"])[1]}
    assert moved["batch_stats"]["layers_0"]["estimator_state"].count[0] == 8
    reset = reset_statistics(model, moved, x)
    jax.tree.map(np.testing.assert_array_equal, reset, first)

    rngs = nnx.Rngs(0)
    tree = nnx.Sequential(
        jaxnorm.nnx.BatchNorm(2, estimator=jaxnorm.cumulative(), rngs=rngs),
        nnx.BatchNorm(2, rngs=rngs),
    )
    before = nnx.state(nnx.clone(tree))
    tree(x)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(reset_statistics(tree)), before)
    assert tree.layers[0].estimator_state.count[...][0] == 8
    with pytest.raises(ValueError, match="the linen model Sequential alone"):
        reset_statistics(model)


def test_merged_statistics_are_those_of_all_examples():
    parts = [RNG.normal(shift, 1 + shift, (n, 3)) for shift, n in ((0, 4), (5, 9), (1, 2))]
    several = [
        {
            "params": {"scale": jnp.full(3, float(i))},
            "batch_stats": {
                "norm": {"mean": jnp.float32(part.mean(0)), "var": jnp.float32(part.var(0))},
                "spectral": {"dense/kernel/u": jnp.full(2, float(i))},
            },
        }
        for i, part in enumerate(parts)
    ]
    merged = jax.jit(functools.partial(merge_statistics, counts=[4, 9, 2]))(several)
    whole = np.concatenate(parts)
    np.testing.assert_allclose(merged["batch_stats"]["norm"]["mean"], whole.mean(0), rtol=1e-6)
    np.testing.assert_allclose(merged["batch_stats"]["norm"]["var"], whole.var(0), rtol=1e-6)
    assert (
        merged["params"]["scale"][0] == merged["batch_stats"]["spectral"]["dense/kernel/u"][0] == 0
    )


def test_states_of_cumulative_statistics_merge_by_their_own_counts():
    parts = [jnp.asarray(RNG.normal(i, 1, (n, 2)), jnp.float32) for i, n in ((0, 5), (3, 2))]
    models = []
    for part in parts:
        models.append(jaxnorm.nnx.BatchNorm(2, estimator=jaxnorm.cumulative(), rngs=nnx.Rngs(0)))
        models[-1](part)
    merged = merge_statistics(models)
    whole = np.concatenate([np.float64(part) for part in parts])
    np.testing.assert_allclose(merged.mean[...], whole.mean(0), rtol=1e-6)
    np.testing.assert_allclose(merged.var[...], whole.var(0), rtol=1e-6)
    assert merged.estimator_state.count[...][0] == 7
    np.testing.assert_allclose(models[0].mean[...], np.mean(parts[0], 0), rtol=1e-6)


def test_what_cannot_be_merged_is_said():
    stats = {"mean": jnp.zeros(1), "var": jnp.ones(1)}
    window = jaxnorm.nnx.BatchNorm(1, estimator=jaxnorm.window(2), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="estimator_state is a WindowState"):
        merge_statistics([window, window])
    with pytest.raises(ValueError, match="norm/covariance is a state that cannot"):
        merge_statistics([{"batch_stats": {"norm": {**stats, "covariance": jnp.ones(1)}}}] * 2)
    with pytest.raises(ValueError, match="models 0 and 1 differ in structure at norm/mean"):
        merge_statistics([{"batch_stats": {"norm": stats}}, {"batch_stats": {"other": stats}}])
    with pytest.raises(ValueError, match="got 1 counts for 2 models"):
        merge_statistics([{"batch_stats": stats}] * 2, counts=[3])
    with pytest.raises(ValueError, match="no variables"):
        merge_statistics([])


def test_averages_of_weights_are_those_of_numpy():
    values = RNG.normal(0, 1, (4, 5))
    checkpoints = [{"params": {"w": jnp.asarray(v, jnp.bfloat16)}} for v in values]
    rounded = np.stack([np.float64(c["params"]["w"].astype(jnp.float32)) for c in checkpoints])
    weights = (1, 0, 2, 5)
    ema = rounded[0]
    for value in rounded[1:]:
        ema = 0.75 * ema + 0.25 * value
    for options, expected in [
        ({}, rounded.mean(0)),
        ({"weights": weights}, np.average(rounded, axis=0, weights=weights)),
        ({"decay": 0.75}, ema),
    ]:
        found = average_weights(iter(checkpoints), **options)["params"]["w"]
        assert found.dtype == jnp.bfloat16
        # The average is rounded to bfloat16 once.
        eps = float(jnp.finfo(jnp.bfloat16).eps)
        np.testing.assert_allclose(np.float64(found.astype(jnp.float32)), expected, rtol=eps)


def test_interpolated_models_have_statistics_of_the_averaged_weights():
    model = mlp()
    ends = [trained(model), trained(model, 1)]
    apply = functools.partial(model.apply, train=True)
    batches = X.reshape(2, 8, 8, 8, 1)
    found = interpolate(ends, batches, apply=apply, weights=(0.25, 0.75))
    middle = jax.tree.map(lambda a, b: 0.25 * a + 0.75 * b, *ends)
    expected = recalibrate(apply, middle, batches)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=BOUND), found, expected
    )


def test_interpolated_nnx_models_have_statistics_of_the_averaged_weights():
    def make(seed):
        rngs = nnx.Rngs(seed)
        return nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), jaxnorm.nnx.BatchNorm(4, rngs=rngs))

    x = jnp.asarray(RNG.normal(1, 2, (2, 6, 3)), jnp.float32)
    models = [make(0), make(1)]
    found = interpolate(models, x)
    kernel = np.mean([np.float64(m.layers[0].kernel[...]) for m in models], axis=0)
    z = np.asarray(x, np.float64).reshape(12, 3) @ kernel
    np.testing.assert_allclose(found.layers[1].mean[...], z.mean(0), rtol=1e-5, atol=BOUND)
    np.testing.assert_allclose(found.layers[1].var[...], z.var(0), rtol=1e-5)
    assert models[1].layers[1].mean[...][0] == 0


def test_wrong_averages_are_refused():
    one = {"params": {"w": jnp.ones(1)}}
    for options, message in [
        ({"weights": (1,)}, "got 1 weights for more checkpoints"),
        ({"weights": (1, 2, 3)}, "got 2 checkpoints for more weights"),
        ({"weights": (1, 2), "decay": 0.5}, "both weights and decay"),
        ({"decay": 2.0}, "decay=2.0 must be from 0 to 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            average_weights([one, one], **options)
    with pytest.raises(ValueError, match="no checkpoints"):
        average_weights([])
    with pytest.raises(TypeError, match="no apply"):
        interpolate([one], [jnp.ones(1)])
