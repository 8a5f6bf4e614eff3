"""Moments of segments against NumPy: offsets, padding, masks, weights, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.stats import segment_moments, segment_units, units
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

IDS = np.array([2, 0, 2, -1, 0, 0, 4, 2, 3, 0, 7, 2], np.int32)  # 1 is empty, 3 has one row, S = 4
SEGMENTS = 4
INSIDE = (IDS >= 0) & (IDS < SEGMENTS)
X = np.random.default_rng(0).normal(2, 1, (len(IDS), 3)).astype(np.float32)
X[~INSIDE] = np.nan
BOUND = rounding(np.float32, len(IDS))

taken = compiled(segment_moments)


def reference(x, weights=None, center=True):
    """Returns mean, variance and count of each segment in float64."""
    mean, var, count = np.zeros((3, SEGMENTS, x.shape[1]))
    w = np.ones(x.shape) if weights is None else np.broadcast_to(np.float64(weights), x.shape)
    for s in range(SEGMENTS):
        for c in range(x.shape[1]):
            rows = (s == IDS) & (w[:, c] > 0)
            values, shares = x[rows, c].astype(np.float64), w[rows, c]
            count[s, c] = shares.sum()
            if rows.any():
                mean[s, c] = np.average(values, weights=shares) if center else 0
                var[s, c] = np.average((values - mean[s, c]) ** 2, weights=shares)
    return mean, var, count


def assert_right(got, want):
    for have, wanted in zip(got[:3], want, strict=True):
        have = np.broadcast_to(np.asarray(have, np.float64), wanted.shape)
        assert relative_error(have, wanted) < BOUND


@pytest.mark.parametrize("center", [True, False])
def test_moments_of_segments_are_those_of_numpy(center):
    got = taken(X, IDS, num_segments=SEGMENTS, center=center)
    assert_right(got, reference(X, center=center))


@pytest.mark.parametrize("offset", [1e2, 1e4, 1e6])
def test_mean_and_variance_keep_their_digits_at_every_offset(offset):
    x = (X + offset).astype(np.float32)
    got = taken(x, IDS, num_segments=SEGMENTS)
    mean, var, _ = reference(x)
    assert relative_error(got.var, var) < BOUND
    exact = np.float64(got.mean) + np.float64(got.tail)
    assert np.abs(exact - mean).max() < BOUND  # to the digits of the deviation, not of the mean


def test_a_mask_of_entries_with_nan_behind_it_leaves_them_out():
    mask = np.random.default_rng(1).random(X.shape) < 0.6
    got = taken(np.where(mask, X, np.nan), IDS, num_segments=SEGMENTS, mask=mask)
    assert_right(got, reference(X, mask))


def test_weights_of_rows_weigh():
    weights = np.random.default_rng(1).exponential(size=(len(IDS), 1)).astype(np.float32)
    got = taken(X, IDS, num_segments=SEGMENTS, weights=weights)
    assert got.count.shape == (SEGMENTS, 1)
    assert_right(got, reference(X, weights))


def loss_of(moments_of):
    """Returns a sum of means and variances with fixed weights."""

    def loss(x, weights):
        mean, var = moments_of(x, weights)[:2]
        return jnp.sum(mean * jnp.arange(1.0, 13).reshape(4, 3)) + jnp.sum(var * var)

    return loss


def dense(x, weights):
    """Returns the moments by a matrix of memberships, in plain `jax.numpy`."""
    member = jnp.where(jnp.asarray(IDS)[None] == jnp.arange(SEGMENTS)[:, None], 1.0, 0.0)
    member = member * weights[:, 0]
    x = jnp.where(jnp.asarray(INSIDE)[:, None], x, 0)
    total = jnp.maximum(member.sum(1), 1e-30)[:, None]
    mean = member @ x / total
    squares = (x[None] - mean[:, None]) ** 2
    return mean, (member[:, :, None] * squares).sum(1) / total


def by_segments(x, weights):
    return segment_moments(x, IDS, SEGMENTS, weights=weights)


@pytest.mark.nightly
def test_gradients_in_both_modes_are_those_of_the_definition_and_zero_in_padding():
    weights = np.random.default_rng(1).uniform(0.5, 2, (len(IDS), 1)).astype(np.float32)
    weights = jnp.asarray(weights)
    with jax.enable_x64(True):
        exact = jax.grad(loss_of(dense), (0, 1))(jnp.float64(X), jnp.float64(weights))
        want = [np.asarray(g) for g in exact]
    got = jax.jit(jax.grad(loss_of(by_segments), (0, 1)))(jnp.asarray(X), weights)
    forward = jax.jit(jax.jacfwd(loss_of(by_segments), (0, 1)))(jnp.asarray(X), weights)
    for reverse, ahead, wanted in zip(got, forward, want, strict=True):
        assert relative_error(reverse, wanted) < BOUND
        assert relative_error(ahead, wanted) < BOUND
    assert not np.asarray(got[0])[~INSIDE].any()


def test_ids_may_be_mapped_and_traced():
    pairs = [np.stack([v, v[::-1]]) for v in (X, IDS)]
    got = jax.jit(jax.vmap(lambda x, ids: segment_moments(x, ids, SEGMENTS).mean))(*pairs)
    assert relative_error(got[0], reference(X)[0]) < BOUND
    assert relative_error(got[1], got[0]) < BOUND


def test_units_are_powers_of_two_of_the_largest_entries():
    x = np.array([[3.0], [-40.0], [1e30], [0.0], [np.nan]], np.float32)
    units = segment_units(x, np.array([0, 0, 1, 2, -1]), 4, at_least=1e-3)
    np.testing.assert_array_equal(units.ravel(), [32.0, 2.0**99, 2.0**-10, 1.0])


def test_units_of_samples_leave_out_what_is_masked():
    x = np.array([[3.0, 1e30], [-5.0, np.nan], [0.0, 2.0]], np.float32)
    mask = np.array([[True, False], [True, False], [True, True]])
    np.testing.assert_array_equal(units(x, (1, 2), mask=mask), [[4.0, 2.0]])
    np.testing.assert_array_equal(units(x[:1], (1, 1), at_least=2e30), [[2.0**100]])


def test_ids_that_are_no_integers_or_too_few_are_refused():
    with pytest.raises(TypeError, match="segment_ids must be integers, got float32"):
        segment_moments(X, IDS.astype(np.float32), SEGMENTS)
    with pytest.raises(ValueError, match=r"segment_ids \[3\] must have one id for each row of x"):
        segment_moments(X, IDS[:3], SEGMENTS)


def test_no_rows_give_empty_segments():
    got = segment_moments(jnp.zeros((0, 2)), jnp.zeros(0, jnp.int32), 3)
    assert not np.asarray(got.count).any() and got.mean.shape == (3, 2)
