"""Parameters are used as they are stored, and float64 modules keep float64, in both rooms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm.linen
import jaxnorm.nnx
from tests.linen.reference import NORMS, SHAPE, reference, relative_error, sample

every_norm = pytest.mark.parametrize("name", NORMS)
SCALE = np.float32(1 + np.random.default_rng(5).random(6) / 8)
BIAS = np.float32(np.random.default_rng(6).random(6) / 64)


def in_linen(name, x, scale, bias, **fields):
    """Returns a function of the parameters to the output of training."""
    training = {"use_running_average": False} if name == "BatchNorm" else {}
    norm = getattr(jaxnorm.linen, name)(**NORMS[name].fields, **training, **fields)
    variables = norm.init(jax.random.key(0), x)
    given = {"scale": scale, "bias": bias}
    given = {n: jnp.asarray(v) for n, v in given.items() if n in variables["params"]}
    return given, lambda params: norm.apply({**variables, "params": params}, x)


def in_nnx(name, x, scale, bias, **fields):
    """Returns a function of the parameters to the output of training."""
    norm = getattr(jaxnorm.nnx, name)(6, **NORMS[name].fields, rngs=nnx.Rngs(0), **fields)
    norm.scale[...] = jnp.asarray(scale)
    if name != "RMSNorm":
        norm.bias[...] = jnp.asarray(bias)
    graphdef, params, rest = nnx.split(norm, nnx.Param, ...)
    return nnx.to_pure_dict(params), lambda given: nnx.merge(
        graphdef, _with(params, given), rest, copy=True
    )(x)


def _with(params, given):
    new = jax.tree.map(lambda v: v, params)
    nnx.replace_by_pure_dict(new, given)
    return new


both_rooms = pytest.mark.parametrize("make", [in_linen, in_nnx])


def shift(name):
    return 0 if name == "RMSNorm" else np.float64(BIAS)


@every_norm
@both_rooms
def test_a_bfloat16_output_is_rounded_once(make, name):
    x = sample(3.0)
    params, call = make(name, x, SCALE, BIAS, dtype=jnp.bfloat16)
    y = call(params)
    expected = reference(NORMS[name], x).y * np.float64(SCALE) + shift(name)
    assert y.dtype == jnp.bfloat16
    # Half a unit of the last of 8 bits; parameters that are rounded too add as much again.
    bound = np.abs(expected) * 2.0**-8 + 4e-6 * np.abs(expected).max()
    assert (np.abs(np.float64(y) - expected) <= bound).all()


@every_norm
@both_rooms
def test_gradients_of_parameters_under_bfloat16_come_back_in_float32(make, name):
    x = sample(3.0)
    cotangent = jnp.asarray(sample(seed=2), jnp.bfloat16)
    params, call = make(name, x, SCALE, BIAS, dtype=jnp.bfloat16)
    _, pullback = jax.vjp(call, params)
    (gradients,) = pullback(cotangent)
    wide = np.float64(cotangent)
    expected = {
        "scale": (wide * reference(NORMS[name], x).y).sum((0, 1, 2)),
        "bias": wide.sum((0, 1, 2)),
    }
    for which, gradient in gradients.items():
        assert gradient.dtype == jnp.float32
        assert relative_error(gradient, expected[which]) < 4e-6


@pytest.mark.parametrize("room", ["linen", "nnx"])
def test_a_float64_module_keeps_its_statistics_to_1e_14(room, x64):
    batches = np.random.default_rng(0).normal(3.0, 2.0, (10, 64, 5))
    wide = {"dtype": jnp.float64, "param_dtype": jnp.float64, "momentum": 0.9}
    if room == "linen":
        norm = jaxnorm.linen.BatchNorm(use_running_average=False, **wide)
        variables = norm.init(jax.random.key(0), batches[0])
        for x in batches:
            _, updated = norm.apply(variables, x, mutable=["batch_stats"])
            variables = {**variables, **updated}
        stats = variables["batch_stats"]
        mean, var = stats["mean"], stats["var"]
    else:
        norm = jaxnorm.nnx.BatchNorm(5, rngs=nnx.Rngs(0), **wide)
        for x in batches:
            norm(x)
        mean, var = norm.mean[...], norm.var[...]
    shares = 0.1 * 0.9 ** np.arange(9, -1, -1)
    assert mean.dtype == var.dtype == jnp.float64
    assert relative_error(mean, shares @ batches.mean(1)) < 1e-14
    assert relative_error(var, 0.9**10 + shares @ batches.var(1)) < 1e-14


@every_norm
@both_rooms
@pytest.mark.sampled(6)
def test_float32_inputs_of_a_float64_module_are_normalized_in_float64(make, name, x64):
    x = sample(3.0)
    params, call = make(name, x, np.float64(SCALE), np.float64(BIAS), param_dtype=jnp.float64)
    expected = reference(NORMS[name], x).y * np.float64(SCALE) + shift(name)
    assert call(params).dtype == jnp.float64
    assert relative_error(call(params), expected) < 1e-13
    assert call(params).shape == SHAPE
