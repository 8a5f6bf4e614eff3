"""The laws of the statistics hold for the nnx modules."""

import itertools

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_array_equal

import jaxnorm.nnx
from tests.linen.reference import (
    NORMS,
    SHAPE,
    reference,
    reference_gradient,
    relative_error,
    sample,
)

BOUND = 4e-6  # law 1
CENTRED = [name for name in NORMS if NORMS[name].center]


def layer(name, room=jaxnorm.nnx, **fields):
    return getattr(room, name)(6, **NORMS[name].fields, **fields, rngs=nnx.Rngs(0))


def mask_of(shape, seed=1):
    """Returns a mask that leaves some of every sample of every norm."""
    mask = np.random.default_rng(seed).random(shape) < 0.6
    mask[..., ::2] = True
    return mask


@pytest.mark.parametrize("use_fast_variance", [True, False])
@pytest.mark.parametrize("ratio", [0.0, 1e6])
@pytest.mark.parametrize("name", NORMS)
def test_law_1_the_output_is_within_4e_6_of_float64(name, ratio, use_fast_variance):
    x = sample(ratio)
    y = layer(name, use_fast_variance=use_fast_variance)(x)
    assert relative_error(y, reference(NORMS[name], x).y) < BOUND


@pytest.mark.parametrize("name", NORMS)
def test_law_1_the_gradient_is_within_4e_6_of_float64_at_mean_over_std_1e6(name):
    x, cotangent = sample(1e6), sample(seed=2)
    gradient = jax.jit(jax.grad(lambda x: jnp.vdot(layer(name)(x), cotangent)))(x)
    assert relative_error(gradient, reference_gradient(NORMS[name], x, cotangent)) < BOUND


@pytest.mark.parametrize("name", CENTRED)
def test_law_1_a_constant_input_gives_exactly_the_bias(name):
    norm = layer(name, bias_init=nnx.initializers.constant(0.75))
    assert_array_equal(norm(jnp.full(SHAPE, 3.3e5)), np.full(SHAPE, 0.75))


def test_law_12_bfloat16_rounds_neither_the_input_nor_its_statistics():
    x = sample(1000.0, (256, 6))
    norm = jaxnorm.nnx.BatchNorm(6, momentum=0.0, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    y, expected = np.float64(norm(x)), reference(NORMS["BatchNorm"], x)
    # The output alone is rounded, to 8 bits.
    assert (np.abs(y - expected.y) <= np.abs(expected.y) * 2.0**-8 + BOUND).all()
    assert relative_error(norm.var[...], expected.var.ravel()) < BOUND


def test_law_12_flax_is_off_by_more_than_the_standard_deviation():
    x = sample(1000.0, (256, 6))
    norm = flax.nnx.BatchNorm(6, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert np.abs(norm(x) - reference(NORMS["BatchNorm"], x).y).max() > 1


def test_law_12_evaluation_in_bfloat16_uses_the_running_statistics_as_they_are_stored():
    x = sample(1000.0, (16, 6))
    norm = jaxnorm.nnx.BatchNorm(6, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    norm.mean[...] = jnp.full(6, 1000.5)
    y = norm(x, use_running_average=True)
    expected = (np.float64(x) - 1000.5) / np.sqrt(1 + 1e-5)
    assert (np.abs(y - expected) <= np.abs(expected) * 2.0**-8 + BOUND).all()


@pytest.mark.parametrize(
    "axes", [(*kept, 3) for n in range(4) for kept in itertools.combinations(range(3), n)]
)
@pytest.mark.sampled(6)
def test_law_13_group_norm_over_any_axes_is_within_4e_6_of_float64(axes):
    x = sample(1e3)
    groups = np.float64(x).reshape(*SHAPE[:-1], 2, 3)
    reduced = (*axes[:-1], 4)
    mean, var = groups.mean(reduced, keepdims=True), groups.var(reduced, keepdims=True)
    expected = ((groups - mean) / np.sqrt(var + 1e-6)).reshape(SHAPE)
    assert relative_error(layer("GroupNorm", reduction_axes=axes)(x), expected) < BOUND


def test_law_13_flax_repeats_the_statistics_along_the_wrong_axis():
    x = sample(shape=(4, 2, 3, 6))
    groups = np.float64(x).reshape(4, 2, 3, 2, 3)
    mean, var = groups.mean((2, 4), keepdims=True), groups.var((2, 4), keepdims=True)
    expected = ((groups - mean) / np.sqrt(var + 1e-6)).reshape(x.shape)
    with pytest.raises((AssertionError, TypeError)):
        y = layer("GroupNorm", flax.nnx, reduction_axes=(2, 3))(x)
        assert relative_error(y, expected) < 0.1


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.sampled(4)
def test_law_5_gradients_are_finite_and_right_under_a_mask_over_nan(name):
    mask, cotangent = mask_of(SHAPE), sample(seed=2)
    x = np.where(mask, sample(), np.nan).astype(np.float32)

    def loss(x):
        return jnp.vdot(jnp.where(mask, layer(name)(x, mask=mask), 0), cotangent)

    expected = reference_gradient(NORMS[name], x, cotangent * mask, mask)
    assert relative_error(jax.jit(jax.grad(loss))(x) * mask, expected * mask) < BOUND


@pytest.mark.nightly
@pytest.mark.parametrize("shape", [(4, 1, 1, 1), (4, 3, 5, 1), (3, 5, 6)])
@pytest.mark.parametrize("name", NORMS)
def test_law_14_every_broadcastable_mask_selects_the_sample(name, shape):
    x, mask = sample(), mask_of(shape)
    mask[0] = True
    expected, sampled = reference(NORMS[name], x, mask).y, np.broadcast_to(mask, SHAPE)
    y = layer(name)(x, mask=mask)
    assert relative_error(np.where(sampled, y, 0), np.where(sampled, expected, 0)) < BOUND


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.sampled(4)
def test_law_16_a_floating_mask_weighs_the_entries(name):
    x, weights = sample(), np.random.default_rng(4).random(SHAPE).astype(np.float32)
    expected = reference(NORMS[name], x, weights).y
    assert relative_error(layer(name)(x, mask=weights), expected) < BOUND


@pytest.mark.parametrize("name", NORMS)
def test_law_25_a_layer_serves_inputs_of_several_sizes(name):
    norm = layer(name)
    norm(sample())
    x = sample(shape=(2, 7, 6))
    assert relative_error(norm(x), reference(NORMS[name], x).y) < BOUND


def test_promote_dtype_decides_the_dtype_of_the_result():
    asked = []

    def promote(arrays, *, dtype):
        asked.append((len(arrays), dtype))
        return tuple(a if a is None else jnp.asarray(a, jnp.float16) for a in arrays)

    x = sample(2000.0, (8, 6))
    norm = layer("LayerNorm", promote_dtype=promote, use_bias=False, dtype=jnp.bfloat16)
    assert relative_error(norm(x), reference(NORMS["LayerNorm"], x).y) < 2.0**-8
    assert asked == [(3, jnp.bfloat16)] and norm(x).dtype == jnp.bfloat16
    norm.dtype = None
    assert norm(x).dtype == jnp.float16
