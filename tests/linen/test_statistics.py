"""The laws of the statistics hold for the linen modules."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import jaxnorm.linen
from tests.linen.reference import (
    NORMS,
    SHAPE,
    reference,
    reference_gradient,
    relative_error,
    sample,
)

EPS = float(jnp.finfo(jnp.float32).eps)
BOUND = 4e-6  # law 1

CENTRED = [name for name in NORMS if NORMS[name].center]
BETWEEN = [(1, 3, 5, 1), (3, 5, 6)]
MASKS = [
    (4, 1, 1, 1),
    (4, 3, 5, 1),
    (6,),
    *(pytest.param(s, marks=pytest.mark.nightly) for s in BETWEEN),
]


def layer(name, room=jaxnorm.linen, **fields):
    training = {"use_running_average": False} if name == "BatchNorm" else {}
    return getattr(room, name)(**NORMS[name].fields, **training, **fields)


def output(norm, x, mask=None):
    """Returns the output of training: parameters as they are made, batch statistics kept as is."""
    variables = norm.init(jax.random.key(0), x)
    return norm.apply(variables, x, mask=mask, mutable=["batch_stats"])[0]


def mask_of(shape, seed=1):
    """Returns a mask that leaves some of every sample of every norm: of rows and of columns."""
    mask = np.random.default_rng(seed).random(shape) < 0.6
    mask[..., :1] = True
    if shape[-1] == 6:
        mask[..., ::2] = True
    return mask


@pytest.mark.parametrize("use_fast_variance", [True, False])
@pytest.mark.parametrize("ratio", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("name", NORMS)
def test_law_1_the_output_is_within_4e_6_of_float64(name, ratio, use_fast_variance):
    x = sample(ratio)
    y = output(layer(name, use_fast_variance=use_fast_variance), x)
    assert relative_error(y, reference(NORMS[name], x).y) < BOUND


@pytest.mark.parametrize("ratio", [0.0, 1e6])
@pytest.mark.parametrize("name", NORMS)
def test_law_1_the_gradient_is_within_4e_6_of_float64(name, ratio):
    x, cotangent = sample(ratio), sample(seed=2)
    norm = layer(name)
    gradient = jax.jit(jax.grad(lambda x: jnp.vdot(output(norm, x), cotangent)))(x)
    assert relative_error(gradient, reference_gradient(NORMS[name], x, cotangent)) < BOUND


@pytest.mark.parametrize("name", CENTRED)
def test_law_1_flax_is_off_by_more_than_a_tenth_at_mean_over_std_1e4(name):
    x = sample(1e4)
    y = output(layer(name, flax.linen), x)
    assert relative_error(y, reference(NORMS[name], x).y) > 0.1


@pytest.mark.parametrize("name", CENTRED)
def test_law_1_a_constant_input_gives_exactly_the_bias(name):
    norm = layer(name, bias_init=flax.linen.initializers.constant(0.75))
    assert_array_equal(output(norm, jnp.full(SHAPE, 3.3e5)), np.full(SHAPE, 0.75))


def test_law_1_the_running_variance_is_within_4e_6_of_float64_at_mean_over_std_1e6():
    x = sample(1e6)
    norm = layer("BatchNorm", momentum=0.0)
    _, updated = norm.apply(norm.init(jax.random.key(0), x), x, mutable=["batch_stats"])
    expected = reference(NORMS["BatchNorm"], x).var.ravel()
    assert relative_error(updated["batch_stats"]["var"], expected) < BOUND


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.sampled(4)
def test_law_5_gradients_are_finite_and_right_under_a_mask_over_nan_and_inf(name):
    mask, cotangent = mask_of(SHAPE), sample(seed=2)
    x = np.where(mask, sample(), np.where(sample(seed=3) > 0, np.nan, np.inf)).astype(np.float32)
    norm = layer(name)

    def loss(x):
        return jnp.vdot(jnp.where(mask, output(norm, x, mask), 0), cotangent)

    expected = reference_gradient(NORMS[name], x, cotangent * mask, mask)
    assert relative_error(jax.jit(jax.grad(loss))(x) * mask, expected * mask) < BOUND


@pytest.mark.parametrize("shape", MASKS)
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.sampled(4)
def test_law_14_every_broadcastable_mask_selects_the_sample(name, shape):
    x, mask = sample(), mask_of(shape)
    expected = reference(NORMS[name], x, mask).y
    y = output(layer(name), x, mask)
    sampled = np.broadcast_to(mask, SHAPE)
    assert relative_error(np.where(sampled, y, 0), np.where(sampled, expected, 0)) < BOUND


def test_law_14_flax_refuses_a_mask_of_one_column_in_group_norm():
    with pytest.raises(TypeError):
        output(layer("GroupNorm", flax.linen), sample(), jnp.ones((4, 3, 5, 1), bool))


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.sampled(4)
def test_law_16_a_floating_mask_weighs_the_entries(name):
    x, weights = sample(), np.random.default_rng(4).random(SHAPE).astype(np.float32)
    y = output(layer(name), x, weights)
    assert relative_error(y, reference(NORMS[name], x, weights).y) < BOUND


def test_law_16_flax_takes_a_fraction_for_one():
    x, weights = sample(), np.random.default_rng(4).random(SHAPE).astype(np.float32)
    y = output(layer("LayerNorm", flax.linen), x, weights)
    assert relative_error(y, reference(NORMS["LayerNorm"], x, weights).y) > 0.1


@pytest.mark.parametrize("name", NORMS)
def test_an_integer_mask_is_true_where_it_is_not_zero(name):
    x, mask = sample(), mask_of(SHAPE)
    assert_array_equal(output(layer(name), x, 2 * mask.astype(int)), output(layer(name), x, mask))


def test_law_24_group_norm_reduces_axes_1_and_8_of_nine():
    x = sample(shape=(2, 3, 1, 1, 2, 1, 1, 1, 4))
    groups = np.float64(x).reshape(*x.shape[:-1], 2, 2)
    mean = groups.mean((1, -1), keepdims=True)
    expected = (groups - mean) / np.sqrt(groups.var((1, -1), keepdims=True) + 1e-6)
    y = output(layer("GroupNorm", reduction_axes=(1, 8)), x)
    assert relative_error(y, expected.reshape(x.shape)) < BOUND


def test_law_25_a_layer_serves_inputs_of_several_sizes():
    norm = layer("GroupNorm")
    variables = norm.init(jax.random.key(0), sample())
    x = sample(shape=(2, 7, 1, 6))
    assert relative_error(norm.apply(variables, x), reference(NORMS["GroupNorm"], x).y) < BOUND


@pytest.mark.parametrize("name", NORMS)
def test_bfloat16_at_mean_over_std_100_is_off_by_the_rounding_of_the_output_only(name):
    x = jnp.asarray(sample(100.0, (8, 3, 5, 6)), jnp.bfloat16)
    norm = layer(name, dtype=jnp.bfloat16)
    y = np.float64(output(norm, x))
    # A value is rounded once to 8 bits: by at most half a unit in the last place of its size.
    bound = np.abs(expected := reference(NORMS[name], np.float64(x)).y) * 2.0**-8 + BOUND
    assert (np.abs(y - expected) <= bound).all()


@pytest.mark.parametrize("axes", [(0,), (0, 2), (1, 3), (0, 1, 2, 3)])
def test_layer_norm_over_any_axes_is_within_4e_6_of_float64(axes):
    x = sample(1e3)
    wide = np.float64(x)
    mean, var = wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True)
    y = output(layer("LayerNorm", reduction_axes=axes), x)
    assert relative_error(y, (wide - mean) / np.sqrt(var + 1e-6)) < BOUND
