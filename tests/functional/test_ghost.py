"""Ghost batch normalization against float64 NumPy."""

import jax
import numpy as np
import pytest

import jaxnorm
from jaxnorm import BatchStats, cumulative, ema
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

ghost_batch_norm = compiled(jaxnorm.ghost_batch_norm)

X = np.random.default_rng(0).normal(3, 2, (8, 3, 6)).astype(np.float32)
SCALE = np.random.default_rng(1).normal(1, 0.5, 6).astype(np.float32)
BIAS = np.random.default_rng(2).normal(0, 1, 6).astype(np.float32)
RUNNING = BatchStats(np.full(6, 2.0, np.float32), np.full(6, 3.0, np.float32))


def expected(x, size):
    parts = np.split(x.astype(np.float64), len(x) // size)
    axes = tuple(range(x.ndim - 1))
    normalized = [(p - p.mean(axes)) / np.sqrt(p.var(axes) + 1e-5) for p in parts]
    return np.concatenate(normalized)


def assert_kept(stats):
    for have, want in zip(stats, RUNNING, strict=True):
        np.testing.assert_array_equal(have, want)


def assert_right(y, want):
    assert relative_error(y, want) < rounding(np.float32, 24)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_contiguous_examples_form_a_ghost_batch(size):
    y, _ = ghost_batch_norm(
        X, RUNNING, SCALE, BIAS, ghost_batch_size=size, use_running_average=False
    )
    assert_right(y, expected(X, size) * SCALE + BIAS)


def test_the_running_statistics_are_those_of_the_whole_batch():
    population = cumulative()
    _, state = ghost_batch_norm(
        X,
        population.init((6,)),
        ghost_batch_size=2,
        use_running_average=False,
        estimator=population,
    )
    assert_right(state.mean, X.astype(np.float64).mean((0, 1)))
    assert_right(state.var, X.astype(np.float64).var((0, 1)))
    assert float(state.count[0]) == 24


def test_a_masked_ghost_batch_enters_by_its_valid_entries():
    mask = np.arange(8)[:, None, None] < 5
    _, state = ghost_batch_norm(
        X,
        ema(0.0).init((6,)),
        ghost_batch_size=2,
        use_running_average=False,
        mask=mask,
        estimator=ema(0.0),
    )
    assert_right(state.var, X[:5].astype(np.float64).var((0, 1)))


def test_evaluation_is_that_of_batch_norm():
    y, stats = ghost_batch_norm(X, RUNNING, ghost_batch_size=2, use_running_average=True)
    assert_right(y, (X.astype(np.float64) - 2) / np.sqrt(3 + 1e-5))
    assert_kept(stats)


def test_the_statistics_may_stay_in_training():
    _, stats = ghost_batch_norm(
        X, RUNNING, ghost_batch_size=2, use_running_average=False, update_stats=False
    )
    assert_kept(stats)


def test_features_may_stand_at_another_axis_than_the_first():
    y, _ = ghost_batch_norm(
        np.moveaxis(X, -1, 1), RUNNING, SCALE, axis=1, ghost_batch_size=4, use_running_average=False
    )
    assert_right(np.moveaxis(np.asarray(y), 1, -1), expected(X, 4) * SCALE)


def test_a_size_that_does_not_divide_the_batch_is_refused():
    message = r"ghost_batch_size=3 does not divide the 8 examples of x \[8, 3, 6\]; use a divisor"
    with pytest.raises(ValueError, match=message):
        ghost_batch_norm(X, RUNNING, ghost_batch_size=3, use_running_average=False)


def test_the_first_axis_cannot_be_a_feature_axis():
    with pytest.raises(ValueError, match=r"axis=0 of x \[8, 3, 6\] names axis 0, which is the b"):
        ghost_batch_norm(X, RUNNING, axis=0, ghost_batch_size=2, use_running_average=False)


def test_one_value_per_feature_and_ghost_batch_is_refused_with_the_remedies():
    message = r"x \[8, 6\] with ghost_batch_size=1: its variance is zero .*single_value='allow'"
    with pytest.raises(ValueError, match=message):
        ghost_batch_norm(X[:, 0], RUNNING, ghost_batch_size=1, use_running_average=False)


def test_one_value_per_feature_and_ghost_batch_may_be_allowed_and_gives_the_bias():
    y, _ = ghost_batch_norm(
        X[:, 0],
        RUNNING,
        None,
        BIAS,
        ghost_batch_size=1,
        use_running_average=False,
        single_value="allow",
    )
    np.testing.assert_array_equal(y, np.broadcast_to(BIAS, (8, 6)))


def test_a_ghost_batch_may_span_shards():
    mapped = jax.vmap(
        lambda x: jaxnorm.ghost_batch_norm(
            x, RUNNING, ghost_batch_size=2, use_running_average=False, axis_name="i"
        )[0],
        axis_name="i",
    )
    y = compiled(mapped)(X.reshape(2, 4, 3, 6))
    spanning = X.reshape(2, 2, 2, 3, 6).swapaxes(0, 1).reshape(8, 3, 6)
    want = expected(spanning, 4).reshape(2, 2, 2, 3, 6).swapaxes(0, 1).reshape(2, 4, 3, 6)
    assert_right(y, want)


def test_evaluation_takes_a_batch_of_any_size():
    y, stats = ghost_batch_norm(X[:5], RUNNING, ghost_batch_size=2, use_running_average=True)
    assert_right(y, (X[:5].astype(np.float64) - 2) / np.sqrt(3 + 1e-5))
    assert_kept(stats)


def test_a_batch_of_fewer_examples_is_one_ghost_batch():
    y, _ = ghost_batch_norm(X[:3], RUNNING, ghost_batch_size=4, use_running_average=False)
    assert_right(y, expected(X[:3], 3))


@pytest.mark.parametrize("choice", ["running", "warn"])
@pytest.mark.filterwarnings("ignore:ghost_batch_norm in training mode")
def test_one_value_per_feature_and_ghost_batch_may_use_the_running_statistics(choice):
    y, stats = ghost_batch_norm(
        X[:, 0], RUNNING, ghost_batch_size=1, use_running_average=False, single_value=choice
    )
    assert_right(y, (X[:, 0].astype(np.float64) - 2) / np.sqrt(3 + 1e-5))
    assert_kept(stats)
