"""Layer normalization against float64 NumPy and Flax."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

layer_norm = compiled(jaxnorm.layer_norm)

X = np.random.default_rng(0).normal(3, 2, (4, 3, 6)).astype(np.float32)
SCALE = np.random.default_rng(1).normal(1, 0.5, (4, 3, 6)).astype(np.float32)
BIAS = np.random.default_rng(2).normal(0, 1, (4, 3, 6)).astype(np.float32)


def expected(x, axes, scale=1.0, bias=0.0, epsilon=1e-6):
    x = x.astype(np.float64)
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(var + epsilon) * scale + bias


def assert_right(y, want):
    assert relative_error(y, want) < rounding(np.float32, 72)


def test_the_last_axis_is_normalized_by_default():
    y = layer_norm(X, SCALE[0, 0], BIAS[0, 0])
    assert_right(y, expected(X, -1, SCALE[0, 0], BIAS[0, 0]))


@pytest.mark.parametrize("axes", [0, (1, 2), (-1, 0), (0, 1, 2)])
def test_any_axes_may_be_normalized(axes):
    assert_right(layer_norm(X, reduction_axes=axes), expected(X, axes))


@pytest.mark.parametrize("axes", [(2, 1), (-1, -2)])
def test_parameters_stand_on_the_sorted_feature_axes(axes):
    y = layer_norm(X, SCALE[0], BIAS[0], reduction_axes=axes, feature_axes=axes)
    assert_right(y, expected(X, (1, 2), SCALE[0], BIAS[0]))


def test_the_features_may_come_first():
    y = layer_norm(X, SCALE[:, 0, 0], BIAS[:, 0, 0], reduction_axes=0, feature_axes=0)
    assert_right(y, expected(X, 0, SCALE[:, :1, :1], BIAS[:, :1, :1]))


@pytest.mark.parametrize("part", [np.s_[:, :1, :1], np.s_[:, :, :1], np.s_[:1, :, :], np.s_[:]])
def test_parameters_may_differ_per_example_and_position(part):
    assert_right(layer_norm(X, SCALE[part], BIAS[part]), expected(X, -1, SCALE[part], BIAS[part]))


def test_a_vector_is_one_sample():
    assert_right(layer_norm(X[0, 0]), expected(X[0, 0], -1))


def test_epsilon_is_added_to_the_variance():
    assert_right(layer_norm(X, epsilon=0.5), expected(X, -1, epsilon=0.5))


def test_one_is_added_to_a_zero_centered_scale_in_float32():
    scale = jnp.full(6, 15.8125, jnp.bfloat16)  # 16.8125 is no bfloat16
    assert_right(layer_norm(X, scale, zero_centered=True), expected(X, -1, 16.8125))


def test_the_numbers_are_those_of_flax():
    module = nn.LayerNorm(use_fast_variance=False)
    variables = {"params": {"scale": SCALE[0, 0], "bias": BIAS[0, 0]}}
    assert_right(layer_norm(X, SCALE[0, 0], BIAS[0, 0]), np.asarray(module.apply(variables, X)))


def test_the_output_may_have_another_dtype():
    y = layer_norm(jnp.asarray(X, jnp.bfloat16), dtype=jnp.float32)
    exact = np.asarray(jnp.asarray(X, jnp.bfloat16).astype(jnp.float32))
    assert y.dtype == np.float32
    assert_right(y, expected(exact, -1))


@pytest.mark.parametrize("shape", [(4,), (3, 6), (7,)])
def test_a_parameter_that_fits_neither_features_nor_input_is_refused(shape):
    message = r"scale \[.*\] fits neither the features \[6\] on axes \[2\] of x \[4, 3, 6\] nor"
    with pytest.raises(ValueError, match=message):
        layer_norm(X, np.ones(shape, np.float32))


def test_an_axis_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"reduction_axes=3 names axis 3, but the array has 3"):
        layer_norm(X, reduction_axes=3)
