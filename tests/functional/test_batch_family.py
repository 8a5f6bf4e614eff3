"""What the norms over the batch claim of weights and of shards, and how they treat running ones."""

import functools

import jax
import numpy as np
import pytest

import jaxnorm
from jaxnorm import BatchStats, L1State, ema
from tests.stats.reference import relative_error, rounding

X = np.random.default_rng(0).normal(3, 2, (8, 3, 6)).astype(np.float32)
# Entries that stand twice: each example's second position.
SHARES = np.array([1.0, 2.0, 1.0], np.float32)[:, None]
TWICE = [0, 1, 1, 2]


def state(*shape):
    rng = np.random.default_rng(3)
    mean, var = rng.normal(2, 1, shape), rng.gamma(2, 1, shape)
    return BatchStats(mean.astype(np.float32), var.astype(np.float32))


DOMAINS = {"domain": np.array([0, 1, 1, 0, 2, 2, 0, 2]), "num_domains": 3}
# The function, the shape of its statistics, and what else it is called with.
FAMILY = {
    "batch_renorm": (jaxnorm.batch_renorm, (6,), {}),
    "ema_batch_norm": (jaxnorm.ema_batch_norm, (6,), {}),
    "mean_only_batch_norm": (jaxnorm.mean_only_batch_norm, (6,), {}),
    "split_batch_norm": (jaxnorm.split_batch_norm, (2, 6), {}),
    "domain_batch_norm": (jaxnorm.domain_batch_norm, (3, 6), DOMAINS),
    "recurrent_batch_norm": (jaxnorm.recurrent_batch_norm, (4, 6), {"step": 2, "max_steps": 4}),
    "l1_batch_norm": (jaxnorm.l1_batch_norm, (6,), {}),
    "batch_group_norm": (jaxnorm.batch_group_norm, (3,), {"num_groups": 3}),
}
over_family = pytest.mark.parametrize("name", FAMILY)


def normalizer(name, **options):
    function, shape, given = FAMILY[name]
    how = {"stats": state(*shape), "estimator": ema(0.7)}
    if name == "l1_batch_norm":
        how = {"state": L1State(*state(*shape)), "decay": 0.7}
    how = {**how, **given, **options}
    call = functools.partial(function, **how)
    return jax.jit(lambda x, **sample: call(x, **sample))


def assert_right(have, want):
    for one, other in zip(jax.tree.leaves(have), jax.tree.leaves(want), strict=True):
        assert relative_error(one, np.asarray(other)) < rounding(np.float32, X.size)


@over_family
@pytest.mark.sampled(2)
def test_an_entry_of_weight_two_stands_there_twice(name):
    norm = normalizer(name, use_running_average=False)
    y, stats = norm(X, weights=SHARES)
    want, wanted = norm(X[:, TWICE])
    assert_right((y[:, TWICE], stats), (want, wanted))


@over_family
@pytest.mark.sampled(2)
def test_shards_share_their_statistics(name):
    norm = normalizer(name, use_running_average=False)
    mapped = normalizer(name, use_running_average=False, axis_name="shards")
    # Along the positions, so that examples keep their places.
    y, stats = jax.vmap(mapped, 1, (1, 0), axis_name="shards")(X[:, :, None])
    want, wanted = norm(X)
    assert_right(y[:, :, 0], want)
    for shard in range(3):
        assert_right(jax.tree.map(lambda v, shard=shard: v[shard], stats), wanted)


@over_family
def test_evaluation_keeps_the_statistics(name):
    _, stats = normalizer(name, use_running_average=True)(X)
    for have, want in zip(stats, state(*FAMILY[name][1]), strict=True):
        np.testing.assert_array_equal(have, want)


@over_family
@pytest.mark.sampled(4)
def test_the_statistics_may_stay_in_training(name):
    y, stats = normalizer(name, use_running_average=False, update_stats=False)(X)
    want, _ = normalizer(name, use_running_average=False)(X)
    assert_right(y, want)
    for have, want in zip(stats, state(*FAMILY[name][1]), strict=True):
        np.testing.assert_array_equal(have, want)


@over_family
@pytest.mark.sampled(4)
def test_the_statistics_may_move_in_evaluation(name):
    _, stats = normalizer(name, use_running_average=True, update_stats=True)(X)
    _, want = normalizer(name, use_running_average=False)(X)
    assert_right(stats, want)
