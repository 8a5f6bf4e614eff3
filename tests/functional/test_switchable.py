"""Switchable norm and batch-instance norm: evaluation, shards, and what is refused."""

import functools

import jax
import numpy as np
import pytest

from jaxnorm import BatchStats, batch_instance_norm, batch_norm, ema, switchable_norm
from tests.stats.reference import relative_error, rounding

RNG = np.random.default_rng(0)
X = RNG.normal(2, 1, size=(4, 5, 3)).astype(np.float32)
STATS = BatchStats(*(RNG.uniform(0.5, 2, 3).astype(np.float32) for _ in range(2)))
FAR = np.array([-99.0, -99.0, 99.0], np.float32)

CALLS = {
    "switchable": functools.partial(
        switchable_norm,
        mean_logits=np.array([0.1, 0.5, -0.3], np.float32),
        var_logits=np.array([1.0, 0.0, 0.2], np.float32),
    ),
    "batch_instance": functools.partial(
        batch_instance_norm, gate=np.array([0.1, 0.5, 0.8], np.float32)
    ),
}


@pytest.mark.nightly
@pytest.mark.parametrize("average", [False, True])
def test_all_weight_on_the_batch_is_batch_norm(average):
    run = functools.partial(batch_norm, estimator=ema(0.9), use_running_average=average)
    want, stats = run(X, STATS)
    options = {"estimator": ema(0.9), "use_running_average": average}
    for got, new in (
        switchable_norm(X, STATS, FAR, FAR, **options),
        batch_instance_norm(X, STATS, np.ones(3, np.float32), **options),
    ):
        assert relative_error(got, np.asarray(want)) < rounding(np.float32, 20)
        assert relative_error(new.var, np.asarray(stats.var)) < rounding(np.float32, 20)


@pytest.mark.nightly
@pytest.mark.parametrize("name", CALLS)
def test_shards_of_a_batch_give_the_whole(name):
    def run(x, axis_name=None):
        return CALLS[name](x, STATS, use_running_average=False, axis_name=axis_name)

    want, stats = run(X)
    got, new = jax.vmap(functools.partial(run, axis_name="i"), axis_name="i")(X.reshape(2, 2, 5, 3))
    assert relative_error(got.reshape(X.shape), np.asarray(want)) < rounding(np.float32, 20)
    assert relative_error(new.mean[0], np.asarray(stats.mean)) < rounding(np.float32, 20)


def test_fewer_candidates_take_fewer_logits():
    two = np.array([-99.0, 99.0], np.float32)
    got, _ = switchable_norm(
        X, STATS, two, two, candidates=("instance", "layer"), use_running_average=False
    )
    x = X.astype(np.float64)
    expected = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    assert relative_error(got, expected) < rounding(np.float32, 15)
    with pytest.raises(ValueError, match=r"mean_logits \[2\] must have one entry for each"):
        switchable_norm(X, STATS, two, two, use_running_average=False)


def test_shards_of_which_one_is_huge_have_the_statistics_of_the_whole_batch():
    # The squares of the huge shard overflow; the other shard is of ordinary size.
    x = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    x[2:] *= np.float32(1e20)
    logits, stats = np.zeros(3, np.float32), ema().init((2,))

    def run(x, **how):
        return switchable_norm(x, stats, logits, logits, use_running_average=False, **how)[0]

    whole = jax.jit(run)(x)
    shards = jax.vmap(lambda v: run(v, axis_name="shards"), axis_name="shards")
    parts = jax.jit(shards)(x.reshape(2, 2, 3, 2)).reshape(x.shape)
    assert relative_error(parts, whole) < rounding(np.float32, x.size)
