"""Root mean square normalization against float64 NumPy and Flax."""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

rms_norm = compiled(jaxnorm.rms_norm)

X = np.random.default_rng(0).normal(1, 2, (4, 3, 6)).astype(np.float32)
SCALE = np.random.default_rng(1).normal(1, 0.5, 6).astype(np.float32)
BIAS = np.random.default_rng(2).normal(0, 1, 6).astype(np.float32)


def expected(x, axes=-1, scale=1.0, bias=0.0, epsilon=1e-6):
    square = (x.astype(np.float64) ** 2).mean(axes, keepdims=True)
    return x / np.sqrt(square + epsilon) * scale + bias


def assert_right(y, want):
    assert relative_error(y, want) < rounding(np.float32, 72)


def test_the_mean_stays_and_the_mean_square_becomes_one():
    assert_right(rms_norm(X, SCALE, BIAS), expected(X, -1, SCALE, BIAS))


@pytest.mark.parametrize("axes", [0, (2, 1), (0, 1, 2)])
def test_any_axes_may_be_normalized(axes):
    assert_right(rms_norm(X, reduction_axes=axes), expected(X, axes))


def test_epsilon_is_added_inside_the_root():
    assert_right(rms_norm(X, epsilon=0.5), expected(X, epsilon=0.5))


def test_the_numbers_are_those_of_flax():
    y = nn.RMSNorm().apply({"params": {"scale": SCALE}}, X)
    assert_right(rms_norm(X, SCALE), np.asarray(y))


def test_one_is_added_to_a_scale_in_float32_where_bfloat16_would_lose_it():
    # 15.8125 is a bfloat16, 16.8125 is not.
    scale = jnp.full(6, 15.8125, jnp.bfloat16)
    assert float(scale[0] + jnp.bfloat16(1)) != 16.8125
    assert_right(rms_norm(X, scale, zero_centered=True), expected(X, -1, 16.8125))


def test_centring_a_scale_at_zero_without_a_scale_changes_nothing():
    assert_right(rms_norm(X, zero_centered=True), expected(X))


@pytest.mark.parametrize("dtype", [None, jnp.float32])
def test_a_cast_before_the_scale_rounds_the_normalized_value_as_llama_does(dtype):
    x = jnp.asarray(X, jnp.bfloat16)
    rounded = jnp.asarray(expected(np.asarray(x, np.float32)), jnp.bfloat16)
    want = (rounded.astype(jnp.float32) * SCALE).astype(dtype or jnp.bfloat16)
    y = rms_norm(x, SCALE, cast="before", dtype=dtype)
    assert y.dtype == want.dtype
    np.testing.assert_array_equal(np.asarray(y, np.float32), np.asarray(want, np.float32))
    after = rms_norm(x, SCALE, dtype=dtype)
    assert (np.asarray(y, np.float32) != np.asarray(after, np.float32)).any()


@pytest.mark.parametrize("room", ["linen", "nnx"])
def test_a_module_with_a_scale_of_zeros_around_zero_is_the_norm_alone(room):
    x = jnp.asarray(X, jnp.bfloat16)
    fields = {"zero_centered": True, "cast": "before", "scale_init": nn.initializers.zeros}
    if room == "linen":
        norm = jaxnorm.linen.RMSNorm(**fields)
        y = norm.apply(norm.init(jax.random.key(0), x), x)
    else:
        y = jaxnorm.nnx.RMSNorm(6, **fields, rngs=nnx.Rngs(0))(x)
    # Rounded to the dtype of x, though a scale in float32 asks for float32.
    rounded = jnp.asarray(expected(np.asarray(x, np.float32)), jnp.bfloat16)
    assert y.dtype == jnp.float32
    np.testing.assert_array_equal(y, rounded.astype(jnp.float32))


def test_in_float32_both_casts_are_the_same():
    y = rms_norm(X, SCALE, BIAS, cast="before", zero_centered=True)
    assert_right(y, expected(X, -1, 1 + SCALE.astype(np.float64), BIAS))


def test_an_unknown_cast_is_refused():
    with pytest.raises(ValueError, match="cast='never' must be 'after' or 'before'"):
        inspect.unwrap(jaxnorm.rms_norm)(X, cast="never")


def test_a_parameter_that_fits_neither_features_nor_input_is_refused():
    with pytest.raises(ValueError, match=r"bias \[4\] fits neither the features \[6\] on axes"):
        rms_norm(X, bias=np.ones(4, np.float32))
