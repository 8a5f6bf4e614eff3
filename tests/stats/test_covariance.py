"""Covariances against NumPy in float64, and the inverse root with its derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.stats import covariance, inverse_root
from tests.stats.reference import relative_error, rounding

X = np.random.default_rng(0).normal(size=(5, 6, 4)).astype(np.float32)


def reference(x, groups, w=None):
    """Returns mean and covariances of the vectors on the last axis, by group."""
    rows = x.astype(np.float64).reshape(-1, groups, x.shape[-1] // groups)
    w = np.ones(rows.shape[:2]) if w is None else w.reshape(rows.shape[:2])
    mean = (w[..., None] * rows).sum(0) / w.sum(0)[:, None]
    d = rows - mean
    return mean, np.einsum("mg,mgi,mgj->gij", w, d, d) / w.sum(0)[:, None, None]


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.sampled(4)
def test_covariance_keeps_its_digits_at_every_offset(groups, offset):
    x = (X + offset).astype(np.float32)
    taken, (mean, cov) = covariance(x, groups), reference(x, groups)
    assert relative_error(taken.cov, cov) < rounding(np.float32, 30)
    assert relative_error(np.asarray(taken.mean).reshape(mean.shape), mean) < 1e-6
    np.testing.assert_array_equal(taken.count, np.full(groups, 30.0))


def test_channels_may_stand_on_any_axis():
    want = covariance(X, 2)
    got = covariance(np.moveaxis(X, -1, 1), 2, 1)
    assert got.mean.shape == (1, 4, 1)
    assert relative_error(got.cov, want.cov) < rounding(np.float32, 30)


def test_a_vector_takes_part_where_all_entries_of_its_group_do():
    mask = np.random.default_rng(1).random(X.shape) < 0.8
    hidden = np.where(mask, X, np.nan)
    w = mask.reshape(30, 2, 2).all(-1).astype(float)
    got, (_, cov) = covariance(hidden, 2, mask=mask), reference(X, 2, w)
    assert relative_error(got.cov, cov) < rounding(np.float32, 30)
    np.testing.assert_array_equal(got.count, w.sum(0))
    gradient = jax.grad(lambda x: covariance(x, 2, mask=mask).cov.sum())(jnp.asarray(hidden))
    assert np.isfinite(gradient).all()


def test_a_vector_of_weight_two_stands_there_twice():
    weights = np.r_[2.0, np.ones(4)][:, None, None]
    got, want = covariance(X, 2, weights=weights), covariance(np.concatenate([X[:1], X]), 2)
    assert relative_error(got.cov, want.cov) < rounding(np.float32, 36)


def test_an_empty_sample_has_no_covariance():
    taken = covariance(X, mask=np.zeros(X.shape, bool))
    assert not np.asarray(taken.cov).any()
    assert not np.asarray(taken.count).any()


@pytest.mark.nightly
def test_shards_share_one_covariance():
    want = covariance(X.reshape(30, 4), 2)
    got = jax.vmap(lambda x: covariance(x, 2, axis_name="batch"), axis_name="batch")(X)
    for cov in got.cov:
        assert relative_error(cov, want.cov) < rounding(np.float32, 30)


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="num_groups=3 does not divide the 4 channels"):
        covariance(X, 3)
    with pytest.raises(TypeError, match="needs a real x"):
        covariance(X.astype(np.complex64))


def newton(a):
    """Returns the inverse root of a matrix by Newton's method alone, which knows no eigenvectors.

    Denman, Beavers: The matrix sign function and computations in systems, 1976.
    """
    y, z = a, jnp.eye(len(a), dtype=a.dtype)
    for _ in range(12):
        y, z = (y + jnp.linalg.inv(z)) / 2, (z + jnp.linalg.inv(y)) / 2
    return z


TURNED = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))[0]
SPECTRA = {
    "equal": [1.0, 1.0, 1.0, 1.0],
    "two equal": [3.0, 0.5, 0.5, 0.2],
    "nearly equal": [2.0, 1.0, 1.0 + 1e-6, 0.3],
    "distinct": [4.0, 2.0, 1.0, 0.1],
}


@pytest.mark.parametrize("name", SPECTRA)
def test_the_gradient_of_the_inverse_root_is_that_of_newtons_method(name):
    a = (TURNED * np.array(SPECTRA[name])) @ TURNED.T
    a = ((a + a.T) / 2).astype(np.float32)
    direction = np.cos(1.7 * np.arange(16)).reshape(4, 4)
    direction = direction + direction.T

    def of(function):
        return jax.value_and_grad(lambda a: (function(a) * direction).sum())

    value, gradient = of(inverse_root)(jnp.asarray(a))
    with jax.enable_x64(True):
        want, exact = of(newton)(jnp.asarray(a, jnp.float64))
        want, exact = np.asarray(want), np.asarray(exact)
    # Both move by the condition of the matrix times its rounding.
    condition = max(SPECTRA[name]) / min(SPECTRA[name])
    assert abs(value - want) < condition * rounding(np.float32, 16)
    assert relative_error(gradient, (exact + exact.T) / 2) < condition * rounding(np.float32, 16)


def test_directions_without_variance_stay_finite():
    a = jnp.diag(jnp.array([1.0, 0.0, 0.0]))
    gradient = jax.grad(lambda a: inverse_root(a).sum())(a)
    assert np.isfinite(gradient).all()
    np.testing.assert_allclose(inverse_root(a), np.diag([1.0, 0.0, 0.0]), atol=1e-6)


def test_epsilon_is_added_to_the_eigenvalues_and_may_move():
    a = jnp.diag(jnp.array([3.0, 0.0]))
    np.testing.assert_allclose(inverse_root(a, 1.0), np.diag([0.5, 1.0]), rtol=1e-6)
    gradient = jax.grad(lambda e: inverse_root(a, e).sum())(1.0)
    np.testing.assert_allclose(gradient, -0.5 * (0.5**3 + 1), rtol=1e-6)
