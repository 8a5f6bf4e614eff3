"""The moments of positional normalization: their numbers, their way back, and both modules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from jaxnorm import Moments
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

X = np.random.default_rng(0).normal(3, 2, (2, 3, 6)).astype(np.float32)
BOUND = rounding(np.float32, X.size)
positional_norm = compiled(jaxnorm.positional_norm)
moment_shortcut = compiled(jaxnorm.moment_shortcut)


def assert_right(y, moments):
    x = X.astype(np.float64)
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    assert relative_error(y, (x - mean) / np.sqrt(var + 1e-5)) < BOUND
    assert relative_error(moments.mean, mean) < BOUND
    assert relative_error(moments.var, var) < BOUND


def test_the_moments_are_those_of_each_position():
    assert_right(*positional_norm(X))


def test_the_modules_return_output_and_moments():
    assert_right(*jaxnorm.linen.PositionalNorm().apply({}, X))
    assert_right(*jaxnorm.nnx.PositionalNorm()(X))


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_the_shortcut_puts_back_what_was_taken_out(offset):
    x = (X + offset).astype(np.float32)
    y = moment_shortcut(*positional_norm(x))
    # In units of the spread, not of the offset: no digit is lost beyond the grid of x.
    error = np.abs(np.asarray(y, np.float64) - x).max()
    assert error <= max(BOUND * np.abs(X).max(), float(np.spacing(np.float32(offset))))


def test_the_shortcut_takes_any_number_of_features():
    moments = Moments(jnp.full((2, 1), 3.0), jnp.full((2, 1), 4.0), jnp.array(6.0))
    y = moment_shortcut(np.full((2, 4), 0.5, np.float32), moments, epsilon=0.0)
    np.testing.assert_array_equal(y, np.full((2, 4), 4.0))


def test_the_gradients_are_finite_where_nothing_varies():
    def round_trip(x):
        y, moments = jaxnorm.positional_norm(x)
        return jaxnorm.moment_shortcut(y, moments).sum()

    gradient = jax.jit(jax.grad(round_trip))(jnp.ones((2, 6)))
    assert relative_error(gradient, np.ones((2, 6))) < BOUND
    none = Moments(jnp.zeros((2, 1)), jnp.zeros((2, 1)), jnp.array(6.0))
    of_var = jax.grad(lambda m: jaxnorm.moment_shortcut(jnp.ones((2, 6)), m, epsilon=0.0).sum())(
        none
    )
    assert jnp.isfinite(of_var.var).all()


def test_moments_of_another_resolution_are_refused():
    _, moments = positional_norm(X)
    with pytest.raises(ValueError, match=r"moments \[2, 3, 1\] does not broadcast to x"):
        moment_shortcut(np.ones((2, 5, 6), np.float32), moments)
