"""Filter response normalization, the function and both modules, against float64 NumPy."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm
import jaxnorm.linen
import jaxnorm.nnx
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

filter_response_norm = compiled(jaxnorm.filter_response_norm)

X = np.random.default_rng(0).normal(1, 2, (4, 3, 5, 6)).astype(np.float32)
COTANGENT = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
SCALE, BIAS, THRESHOLD = (
    np.random.default_rng(seed).normal(mean, 0.5, 6).astype(np.float32)
    for seed, mean in ((2, 1), (3, 0), (4, 0))
)
BOUND = rounding(np.float32, 15)


def oracle(x, scale=1.0, bias=0.0, threshold=-np.inf, weights=1.0):
    """Returns `max(scale * x / sqrt(mean square + 1e-6) + bias, threshold)`."""
    x, weights = np.float64(x), np.broadcast_to(np.float64(weights), x.shape)
    total = weights.sum((1, 2), keepdims=True)
    square = (weights * x**2).sum((1, 2), keepdims=True) / total
    return np.maximum(x / np.sqrt(square + 1e-6) * scale + bias, threshold)


def oracle_gradients(x, cotangent):
    """Returns the gradients of `sum(cotangent * y)` by x, scale, bias and threshold."""
    y, xhat = oracle(x, SCALE, BIAS, THRESHOLD), oracle(x)
    passed = np.where(y > THRESHOLD, np.float64(cotangent), 0)
    pull = passed * SCALE
    rstd = 1 / np.sqrt((np.float64(x) ** 2).mean((1, 2), keepdims=True) + 1e-6)
    dx = rstd * (pull - xhat * (pull * xhat).mean((1, 2), keepdims=True))
    cut = np.float64(cotangent) - passed
    return dx, *(v.sum((0, 1, 2)) for v in (passed * xhat, passed, cut))


def test_output_and_gradients_are_those_of_float64():
    @compiled
    def call(*arrays):
        y, pullback = jax.vjp(jaxnorm.filter_response_norm, *arrays)
        return y, pullback(COTANGENT)

    y, gradients = call(X, SCALE, BIAS, THRESHOLD)
    assert relative_error(y, oracle(X, SCALE, BIAS, THRESHOLD)) < BOUND
    for have, want in zip(gradients, oracle_gradients(X, COTANGENT), strict=True):
        assert relative_error(have, want) < 4 * BOUND


def test_without_a_threshold_nothing_is_cut_off():
    assert relative_error(filter_response_norm(X, SCALE, BIAS), oracle(X, SCALE, BIAS)) < BOUND


def test_a_mask_selects_the_sample():
    mask = np.random.default_rng(5).random(X.shape) < 0.7
    y = filter_response_norm(X, SCALE, BIAS, THRESHOLD, mask=mask)
    assert relative_error(y, oracle(X, SCALE, BIAS, THRESHOLD, mask)) < BOUND


def test_a_bfloat16_output_is_rounded_once_and_the_thresholds_gradient_is_not():
    x = jnp.asarray(X, jnp.bfloat16)
    y, pullback = jax.vjp(
        functools.partial(jaxnorm.filter_response_norm, x, SCALE, BIAS), THRESHOLD
    )
    want = oracle(x, SCALE, BIAS, THRESHOLD)
    assert y.dtype == jnp.bfloat16
    assert np.all(
        np.abs(np.float64(y) - want) <= 2.0**-8 * np.abs(want) + BOUND * np.abs(want).max()
    )
    cotangent = jnp.asarray(COTANGENT, jnp.bfloat16)
    gradient = np.where(want > THRESHOLD, 0, np.float64(cotangent)).sum((0, 1, 2))
    assert relative_error(pullback(cotangent)[0], gradient) < BOUND


def test_a_complex_input_has_no_order():
    with pytest.raises(TypeError, match=r"threshold needs a real x, got complex64 \[4, 3, 5, 6\]"):
        filter_response_norm(X + 1j, threshold=THRESHOLD)


def in_linen(x, **fields):
    norm = jaxnorm.linen.FilterResponseNorm(
        scale_init=nn.initializers.constant(2.0),
        bias_init=nn.initializers.constant(0.5),
        threshold_init=nn.initializers.constant(-0.25),
        **fields,
    )
    y, variables = norm.init_with_output(jax.random.key(0), x)
    return y, variables["params"]


def in_nnx(x, **fields):
    norm = jaxnorm.nnx.FilterResponseNorm(
        x.shape[-1],
        scale_init=nn.initializers.constant(2.0),
        bias_init=nn.initializers.constant(0.5),
        threshold_init=nn.initializers.constant(-0.25),
        rngs=nnx.Rngs(0),
        **fields,
    )
    return norm(x), nnx.to_pure_dict(nnx.state(norm, nnx.Param))


@pytest.mark.parametrize("module", [in_linen, in_nnx])
def test_a_module_has_three_parameters_and_the_functions_output(module):
    y, params = module(X)
    assert relative_error(y, oracle(X, 2.0, 0.5, -0.25)) < BOUND
    values = {name: set(np.asarray(value).tolist()) for name, value in params.items()}
    assert values == {"scale": {2.0}, "bias": {0.5}, "threshold": {-0.25}}


@pytest.mark.parametrize("module", [in_linen, in_nnx])
def test_a_module_may_do_without_its_threshold(module):
    y, params = module(X, use_threshold=False)
    assert relative_error(y, oracle(X, 2.0, 0.5)) < BOUND
    assert {name for name, value in params.items() if value is not None} == {"scale", "bias"}
