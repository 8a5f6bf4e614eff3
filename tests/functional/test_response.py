"""Norms by windows: whole axes are the norms of these axes; zeros and mixed sizes stay finite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import (
    divisive_norm,
    global_response_norm,
    instance_norm,
    layer_norm,
    local_contrast_norm,
    local_response_norm,
)
from tests.stats.reference import relative_error, rounding

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 4, 5, 3)).astype(np.float32)

MEMBERS = {
    "local_response": local_response_norm,
    "local_contrast": functools.partial(local_contrast_norm, window=3),
    "divisive": functools.partial(divisive_norm, window=3),
    "global_response": global_response_norm,
}
every_member = pytest.mark.parametrize("norm", MEMBERS.values(), ids=MEMBERS)


def test_divisive_norm_by_whole_axes_is_layer_norm_and_instance_norm():
    layer = divisive_norm(X, window=(None,), axes=(-1,), smoother=0.1)
    assert relative_error(layer, np.asarray(layer_norm(X, epsilon=0.01))) < rounding(np.float32, 3)
    instance = divisive_norm(X, window=(None, None), smoother=0.1)
    expected = np.asarray(instance_norm(X, epsilon=0.01))
    assert relative_error(instance, expected) < rounding(np.float32, 20)


@pytest.mark.nightly
@every_member
def test_an_example_of_zeros_gives_zeros_and_finite_gradients(norm):
    y, gradient = jax.value_and_grad(lambda x: jnp.sum(norm(x) ** 2 + norm(x)))(0 * X)
    assert y == 0
    assert np.isfinite(gradient).all()


@pytest.mark.nightly
@every_member
def test_an_example_does_not_depend_on_the_size_of_another(norm):
    apart = np.concatenate([X[:1], X[1:] * np.float32(1e20)])
    assert relative_error(norm(apart)[0], np.asarray(norm(X)[0])) < rounding(np.float32)


@pytest.mark.nightly
@every_member
def test_a_small_entry_far_from_a_very_large_one_stays_finite(norm):
    x = X.copy()
    x[0, 0, 0, 0] = 1e30
    y, pullback = jax.vjp(norm, x)
    assert np.isfinite(y).all() and np.isfinite(pullback(jnp.ones_like(y))[0]).all()


def test_constants_that_are_divided_by_are_positive():
    with pytest.raises(ValueError, match="k=0.0 must be positive"):
        local_response_norm(X, k=0.0)
    with pytest.raises(ValueError, match="smoother=0.0 must be positive"):
        divisive_norm(X, window=3, smoother=0.0)
    with pytest.raises(ValueError, match="window=4 has no middle"):
        local_contrast_norm(X, window=4)
    with pytest.raises(ValueError, match="x of rank 2 has no axis between batch and channels"):
        divisive_norm(X[0, 0], window=3)
