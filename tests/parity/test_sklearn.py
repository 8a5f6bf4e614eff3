"""Statistics beside scikit-learn's scalers."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import batch_norm, cumulative, rms_norm, weight_norm
from jaxnorm.stats import Moments, moments
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

preprocessing = pytest.importorskip("sklearn.preprocessing", reason="needs scikit-learn")

X = np.random.default_rng(0).normal(3, 2, (60, 4)).astype(np.float32)
PARTS = np.split(X, [7, 20, 21, 45])  # unequal batches
BOUND = rounding(np.float32, 60)


@compiled
def collected(parts):
    population = cumulative()
    state = population.init((4,))
    for part in parts:
        mean, var, count, _ = moments(part, (1, 4))
        state = population.update(state, Moments(mean[0], var[0], count))
    return state


def test_statistics_over_unequal_batches_are_those_of_partial_fit():
    scaler = preprocessing.StandardScaler()
    for part in PARTS:
        scaler.partial_fit(part.astype(np.float64))
    state = collected(PARTS)
    assert relative_error(state.mean, scaler.mean_) < BOUND
    assert relative_error(state.var, scaler.var_) < BOUND
    assert state.count.tolist() == [60] * 4


def test_evaluation_with_population_statistics_is_transform():
    scaler = preprocessing.StandardScaler().fit(X.astype(np.float64))
    y, _ = batch_norm(
        X, collected(PARTS), use_running_average=True, estimator=cumulative(), epsilon=0.0
    )
    assert relative_error(y, scaler.transform(X.astype(np.float64))) < BOUND


def test_weighted_moments_are_those_of_sample_weights():
    weights = np.random.default_rng(1).random(60).astype(np.float32)
    scaler = preprocessing.StandardScaler().fit(X.astype(np.float64), sample_weight=weights)
    taken = moments(X, (1, 4), weights=weights[:, None])
    assert relative_error(taken.mean[0], scaler.mean_) < BOUND
    assert relative_error(taken.var[0], scaler.var_) < BOUND


def test_missing_entries_may_be_masked_out():
    missing = np.random.default_rng(1).random(X.shape) < 0.2
    dirty = np.where(missing, np.nan, X)
    scaler = preprocessing.StandardScaler().fit(dirty.astype(np.float64))
    taken = moments(jnp.asarray(dirty, jnp.float32), (1, 4), mask=~missing)
    assert relative_error(taken.mean[0], scaler.mean_) < BOUND
    assert relative_error(taken.var[0], scaler.var_) < BOUND
    np.testing.assert_array_equal(taken.count[0], scaler.n_samples_seen_)


def test_rows_of_length_one_are_those_of_normalize():
    expected = preprocessing.normalize(X.astype(np.float64))
    assert relative_error(weight_norm(X, feature_axes=0), expected) < BOUND
    assert relative_error(rms_norm(X, epsilon=0.0) / 2, expected) < BOUND
