"""Reversible instance normalization: what the inverse gives back, in all three rooms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnorm import linen, rev_in, rev_in_inverse
from jaxnorm import nnx as modules
from tests.stats.reference import relative_error, rounding

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 7, 4)).astype(np.float32)
SCALE = RNG.normal(1, 0.3, 4).astype(np.float32)
BIAS = RNG.normal(size=4).astype(np.float32)
FORECAST = RNG.normal(size=(3, 2, 4)).astype(np.float32)


def put_back(forecast, x):
    """Returns the authors' inverse without the epsilon at the scale, in float64."""
    x, scale, bias = (v.astype(np.float64) for v in (x, SCALE, BIAS))
    mean, var = x.mean(1, keepdims=True), x.var(1, keepdims=True)
    return (forecast.astype(np.float64) - bias) / scale * np.sqrt(var + 1e-5) + mean


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_the_inverse_gives_the_series_back(offset):
    x = (X + offset).astype(np.float32)
    got = jax.jit(lambda x: rev_in_inverse(*rev_in(x, SCALE, BIAS), SCALE, BIAS))(x)
    assert relative_error(got, x) < rounding(np.float32)


def test_a_forecast_of_another_length_gets_mean_and_variance_of_its_series():
    run = jax.jit(lambda x, y: rev_in_inverse(y, rev_in(x)[1], SCALE, BIAS))
    assert relative_error(run(X, FORECAST), put_back(FORECAST, X)) < rounding(np.float32, 7)


def test_both_modules_put_a_forecast_back_with_their_parameters():
    variables = {"params": {"scale": jnp.asarray(SCALE), "bias": jnp.asarray(BIAS)}}
    y, moments = linen.RevIN().apply(variables, X, method="normalize")
    layer = modules.RevIN(4, rngs=nnx.Rngs(0))
    layer.scale[...], layer.bias[...] = SCALE, BIAS
    z, others = layer.normalize(X)
    expected = rev_in(X, SCALE, BIAS)[0]
    results = (
        (y, linen.RevIN().apply(variables, FORECAST, moments, method="denormalize")),
        (z, layer.denormalize(FORECAST, others)),
    )
    for normal, forecast in results:
        assert relative_error(normal, np.asarray(expected)) < rounding(np.float32)
        assert relative_error(forecast, put_back(FORECAST, X)) < rounding(np.float32, 7)


def test_moments_of_other_examples_are_refused():
    _, moments = rev_in(jnp.asarray(X))
    with pytest.raises(ValueError, match=r"moments \[3, 1, 4\] do not broadcast to y \[2, 7, 4\]"):
        rev_in_inverse(X[:2], moments)
