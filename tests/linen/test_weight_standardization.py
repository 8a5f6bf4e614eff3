"""Weight standardization as a module of both rooms, against float64 NumPy."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_array_equal

import jaxnorm.linen
import jaxnorm.nnx
from tests.linen.reference import relative_error, sample

BOUND = 1e-6
KEY = jax.random.key(0)
X = sample(shape=(3, 4))
GAIN = np.float32([0.5, -1, 2, 3, 1.5])
KERNEL = sample(5.0, (4, 5), seed=1)


def standardized(kernel, gain=1.0):
    wide = np.float64(kernel)
    axes = tuple(range(wide.ndim - 1))
    return (wide - wide.mean(axes)) / np.sqrt(wide.var(axes) + 1e-6) * gain


def in_linen(use_scale, x):
    """Returns the output and what the loss `sum(y^2)` has as gradients of kernel and gain."""
    norm = jaxnorm.linen.WeightStandardization(nn.Dense(5), use_scale=use_scale)
    params = norm.init(KEY, x)["params"]
    params["layer_instance"]["kernel"] = jnp.asarray(KERNEL)
    if use_scale:
        params["layer_instance/kernel/scale"] = jnp.asarray(GAIN)

    def loss(params):
        y = norm.apply({"params": params}, x)
        return jnp.sum(y**2), y

    gradients, y = jax.grad(loss, has_aux=True)(params)
    return y, gradients["layer_instance"]["kernel"], gradients.get("layer_instance/kernel/scale")


def in_nnx(use_scale, x):
    """Returns the output and what the loss `sum(y^2)` has as gradients of kernel and gain."""
    linear = nnx.Linear(4, 5, rngs=nnx.Rngs(0))
    linear.kernel[...] = jnp.asarray(KERNEL)
    norm = jaxnorm.nnx.WeightStandardization(linear, use_scale=use_scale, rngs=nnx.Rngs(0))
    if use_scale:
        norm.scales["kernel",][...] = jnp.asarray(GAIN)

    def loss(norm):
        y = norm(x)
        return jnp.sum(y**2), y

    gradients, y = nnx.grad(loss, has_aux=True)(norm)
    assert_array_equal(linear.kernel, KERNEL)
    gain = gradients.scales["kernel",][...] if use_scale else None
    return y, gradients.layer_instance.kernel[...], gain


@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("call", [in_linen, in_nnx])
def test_output_and_gradients_are_those_of_float64(call, use_scale):
    gain = GAIN if use_scale else np.ones(5)
    y, kernel, scale = call(use_scale, X)
    w = standardized(KERNEL)
    expected = X @ (w * gain)
    assert relative_error(y, expected) < BOUND
    pull = np.float64(X).T @ (2 * expected)
    if use_scale:
        assert relative_error(scale, (pull * w).sum(0)) < BOUND
    pull = pull * gain
    centred = pull - pull.mean(0) - w * (pull * w).mean(0)
    expected = centred / np.sqrt(np.float64(KERNEL).var(0) + 1e-6)
    assert relative_error(kernel, expected) < 8 * BOUND


def test_a_convolution_has_statistics_for_each_output_channel():
    x = sample(shape=(2, 6, 3))
    norm = jaxnorm.linen.WeightStandardization(nn.Conv(4, (3,), use_bias=False))
    params = norm.init(KEY, x)["params"]
    kernel = params["layer_instance"]["kernel"]
    plain = nn.Conv(4, (3,), use_bias=False).apply(
        {"params": {"kernel": np.float32(standardized(kernel))}}, x
    )
    assert relative_error(norm.apply({"params": params}, x), np.float64(plain)) < BOUND


def test_a_bias_stays_as_it_is_and_no_gain_is_made_unless_asked_for():
    norm = jaxnorm.linen.WeightStandardization(nn.Dense(5))
    params = norm.init(KEY, X)["params"]
    assert jax.tree.map(jnp.shape, params) == {"layer_instance": {"kernel": (4, 5), "bias": (5,)}}
    params["layer_instance"]["bias"] = jnp.arange(5.0)
    zero = norm.apply({"params": params}, np.zeros((1, 4), np.float32))
    assert_array_equal(zero[0], np.arange(5.0))


def scaled(kernel, gain=1.0):
    wide = np.float64(kernel)
    return gain * (wide - wide.mean(0)) / np.sqrt(np.maximum(wide.var(0) * len(wide), 1e-4))


def centered(kernel):
    wide = np.float64(kernel)
    return wide - wide.mean(0)


def in_both_rooms(name, **fields):
    """Yields the output of each room's wrapper of a dense layer with the kernel of this file."""
    norm = getattr(jaxnorm.linen, name)(nn.Dense(5), **fields)
    params = norm.init(KEY, X)["params"]
    params["layer_instance"]["kernel"] = jnp.asarray(KERNEL)
    if "layer_instance/kernel/scale" in params:
        params["layer_instance/kernel/scale"] = jnp.asarray(GAIN)
    yield norm.apply({"params": params}, X)
    linear = nnx.Linear(4, 5, rngs=nnx.Rngs(0))
    linear.kernel[...] = jnp.asarray(KERNEL)
    norm = getattr(jaxnorm.nnx, name)(linear, **fields, rngs=nnx.Rngs(0))
    if norm.scales is not None:
        norm.scales["kernel",][...] = jnp.asarray(GAIN)
    yield norm(X)
    assert_array_equal(linear.kernel, KERNEL)


@pytest.mark.parametrize("use_scale", [True, False])
def test_scaled_weight_standardization_is_that_of_float64_in_both_rooms(use_scale):
    fields = {"use_scale": use_scale, "gain": 1.7}
    expected = X @ (scaled(KERNEL, 1.7) * (GAIN if use_scale else 1.0))
    for y in in_both_rooms("ScaledWeightStandardization", **fields):
        assert relative_error(y, expected) < BOUND


def test_weight_centralization_is_that_of_float64_in_both_rooms():
    for y in in_both_rooms("WeightCentralization"):
        assert relative_error(y, X @ centered(KERNEL)) < BOUND
