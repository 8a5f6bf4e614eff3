"""Batch renormalization: bounds that are traced, means that are large and close, the schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from jaxnorm import BatchStats, batch_renorm_schedule, ema
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

batch_renorm = compiled(jaxnorm.batch_renorm)

X = np.random.default_rng(0).normal(3, 2, (8, 6)).astype(np.float32)
RUNNING = BatchStats(np.full(6, 2.5, np.float32), np.full(6, 3.0, np.float32))


def assert_right(y, want):
    assert relative_error(y, want) < rounding(np.float32, 48)


def by_running(x, stats=RUNNING):
    return (x.astype(np.float64) - stats.mean) / np.sqrt(np.float64(stats.var) + 1e-5)


def test_without_bounds_the_output_is_that_of_evaluation():
    y, _ = batch_renorm(X, RUNNING, use_running_average=False, r_max=1e9, d_max=1e9)
    assert_right(y, by_running(X))


def test_with_the_narrowest_bounds_it_is_batch_normalization():
    y, _ = batch_renorm(X, RUNNING, use_running_average=False, r_max=1.0, d_max=0.0)
    want, _ = jaxnorm.batch_norm(X, RUNNING, use_running_average=False)
    assert_right(y, want)


def test_a_batch_near_a_large_running_mean_keeps_its_digits():
    far = (X + np.float32(1e6)).astype(np.float32)
    stats = RUNNING._replace(mean=np.full(6, 1e6 + 2, np.float32))
    y, _ = batch_renorm(far, stats, use_running_average=False, r_max=1e9, d_max=1e9)
    assert_right(y, by_running(far, stats))


def test_a_wholly_masked_batch_is_not_corrected_and_changes_no_statistic():
    mask = np.zeros((8, 1), bool)
    y, stats = batch_renorm(X, RUNNING, use_running_average=False, mask=mask)
    np.testing.assert_array_equal(y, X)
    np.testing.assert_array_equal(stats.mean, RUNNING.mean)


def test_the_schedule_is_that_of_the_paper_and_may_be_traced():
    steps = np.array([0, 5_000, 15_000, 22_500, 25_000, 40_000, 90_000])
    r_max, d_max = jax.vmap(batch_renorm_schedule)(steps)
    assert_right(r_max, [1, 1, 1 + 2 * 10 / 35, 2, 1 + 2 * 20 / 35, 3, 3])
    assert_right(d_max, [0, 0, 2.5, 4.375, 5, 5, 5])


def test_the_bounds_of_a_module_may_be_given_in_the_call():
    layer = jaxnorm.linen.BatchRenorm(use_running_average=False)
    stats = {"batch_stats": jax.tree.map(jnp.asarray, RUNNING._asdict())}
    variables = {**layer.init(jax.random.key(0), X), **stats}

    @jax.jit
    def run(r_max, d_max):
        y, _ = layer.apply(variables, X, r_max=r_max, d_max=d_max, mutable=["batch_stats"])
        return y

    assert_right(run(1e9, 1e9), by_running(X))
    want, _ = jaxnorm.batch_norm(X, RUNNING, use_running_average=False)
    assert_right(run(1.0, 0.0), want)


def test_bounds_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match=r"r_max=0.5 must be at least 1 and d_max=5.0 not negat"):
        batch_renorm(X, RUNNING, use_running_average=False, r_max=0.5)


def test_complex_inputs_are_refused():
    state = ema().init((6,), np.complex64)
    with pytest.raises(TypeError, match=r"needs a real x, got complex64 \[8, 6\]"):
        batch_renorm(X + 1j, state, use_running_average=False)
