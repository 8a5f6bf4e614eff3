"""What the cases of the relatives of RMS norm do not show: shares, lengths, starts."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm
from jaxnorm import linen
from jaxnorm.nnx import ScaleNorm
from tests.stats.reference import relative_error, rounding

X = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
p_rms_norm = inspect.unwrap(jaxnorm.p_rms_norm)
scale_norm = inspect.unwrap(jaxnorm.scale_norm)


@pytest.mark.parametrize("room", ["linen", "nnx"])
def test_modules_of_rms_norm_have_a_bias_where_it_is_asked_for(room):
    options = {"use_bias": True, "bias_init": nnx.initializers.constant(0.5)}
    if room == "linen":
        y, variables = linen.RMSNorm(**options).init_with_output(jax.random.key(0), X)
        assert set(variables["params"]) == {"scale", "bias"}
        assert set(linen.RMSNorm().init(jax.random.key(0), X)["params"]) == {"scale"}
    else:
        layer = jaxnorm.nnx.RMSNorm(8, rngs=nnx.Rngs(0), **options)
        y = layer(X)
        assert layer.bias.shape == (8,) and jaxnorm.nnx.RMSNorm(8, rngs=nnx.Rngs(0)).bias is None
    exact = X / np.sqrt((X.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-6) + 0.5
    assert relative_error(y, exact) < rounding(np.float32, 8)


@pytest.mark.parametrize(("share", "measured"), [(1e-3, 1), (0.25, 2), (0.26, 3), (1.0, 8)])
@pytest.mark.sampled(2)
def test_the_number_of_measured_features_is_rounded_up(share, measured):
    square = (X[:, :measured].astype(np.float64) ** 2).mean(-1, keepdims=True)
    y = p_rms_norm(X, share=share)
    assert relative_error(y, X / np.sqrt(square + 1e-6)) < rounding(np.float32, 8)


def test_features_that_are_not_measured_keep_what_is_no_number():
    x = jnp.asarray(X).at[0, 5].set(jnp.nan).at[1, 6].set(-jnp.inf)
    y = p_rms_norm(x, share=0.25)
    assert jnp.isnan(y[0, 5]) and y[1, 6] == -jnp.inf and jnp.isfinite(y).sum() == X.size - 2
    assert jnp.isfinite(p_rms_norm(x, share=0.25, mask=jnp.isfinite(x))).all()


@pytest.mark.parametrize("share", [0.0, 1.5, -1.0])
def test_what_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match=rf"share={share} of the features must be above 0"):
        p_rms_norm(X, share=share)


def test_a_length_below_epsilon_is_divided_by_epsilon_with_finite_gradients():
    x = np.array([[3e-6, 4e-6], [0, 0], [3, 4]], np.float32)
    y, pullback = jax.vjp(lambda x: scale_norm(x, 2.0), x)
    assert relative_error(y, [[0.6, 0.8], [0, 0], [1.2, 1.6]]) < rounding(np.float32)
    (gradient,) = pullback(jnp.ones_like(y))
    assert relative_error(gradient[:2], np.full((2, 2), 2e5)) < rounding(np.float32)
    assert relative_error(gradient[2], [0.032 * 2, -0.024 * 2]) < 8 * rounding(np.float32)


def test_without_epsilon_a_length_may_be_as_small_as_numbers_are():
    y = scale_norm(np.array([[3e-20, 4e-20]], np.float32), epsilon=0.0)
    assert relative_error(y, [[0.6, 0.8]]) < rounding(np.float32)


def test_the_learned_length_starts_at_the_root_of_the_number_of_features():
    variables = linen.ScaleNorm(reduction_axes=(1, 2)).init(jax.random.key(0), jnp.ones((2, 3, 5)))
    start = np.sqrt(15.0)
    assert relative_error(variables["params"]["scale"], start) < rounding(np.float32)
    norm = ScaleNorm((3, 5), reduction_axes=(1, 2), rngs=nnx.Rngs(0))
    assert relative_error(norm.scale[...], start) < rounding(np.float32)
