"""Moments of very large and very small numbers without a branch, as on GPU and TPU."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.stats import measuring
from jaxnorm.stats.measuring import measure
from jaxnorm.stats.sampling import Sampling
from tests.stats.reference import reference_moments, relative_error

SHAPE = (4, 37, 6)
MASK = np.random.default_rng(1).random(SHAPE) < 0.7
LAW = 4e-6


@pytest.fixture(autouse=True)
def no_branch(monkeypatch):
    """Lets the code of GPU and TPU compute on a CPU."""
    chosen = types.SimpleNamespace(bind=measuring._rescued_by_choice)
    monkeypatch.setattr(measuring, "rescue_p", chosen)


@pytest.mark.parametrize("stats_shape", [(4, 1, 1), (1, 1, 6), (4, 1, 2)])
@pytest.mark.parametrize(
    ("variance", "center", "weights"),
    [
        ("one_pass", True, None),
        ("two_pass", True, None),
        ("one_pass", False, None),
        ("one_pass", True, MASK.astype(np.float32)),
    ],
)
@pytest.mark.sampled(6)
def test_mean_and_variance_hold_for_every_size(stats_shape, variance, center, weights):
    sampling = Sampling(stats_shape, center=center, variance=variance)
    w = None if weights is None else jnp.asarray(weights)
    run = jax.jit(lambda x: measure(sampling, x, w, 0.0))
    x = np.random.default_rng(0).normal(1, 1, SHAPE).astype(np.float32)
    want = reference_moments(x, stats_shape, weights, center)
    for power in (-110, -60, 0, 60, 110):
        measured = run(jnp.asarray(x * np.float32(2.0**power)))
        units = np.asarray(measured.unit, np.float64) / 2.0**power
        assert relative_error(np.asarray(measured.var) * units**2, want.var) < LAW
        if center:
            mean = np.asarray(measured.mean, np.float64) + np.asarray(measured.tail, np.float64)
            assert relative_error(mean / 2.0**power, want.mean) < LAW


def test_a_unit_is_one_unless_squares_are_lost():
    x = np.random.default_rng(0).normal(0, 1, (3, 50)).astype(np.float32)
    x[1] *= np.float32(1e25)
    measured = measure(Sampling((3, 1)), jnp.asarray(x), None, 1e-6)
    assert [unit == 1 for unit in measured.unit.ravel()] == [True, False, True]
