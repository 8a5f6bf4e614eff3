"""Norms that are composed of a root mean square and something else, beyond their cases."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

X = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
R = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
BOUND = rounding(np.float32, X.size)
add_rms_norm = compiled(jaxnorm.add_rms_norm)
poly_norm = compiled(jaxnorm.poly_norm)


def over_rms(x, epsilon=1e-6):
    x = np.asarray(x, np.float64)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon)


def test_the_sum_is_normalized_before_it_is_rounded():
    # In bfloat16 the residual would not change the sum.
    x, residual = jnp.full((1, 4), 256.0, jnp.bfloat16), jnp.array([[0.5, 0.5, 0.5, -0.5]])
    y, total = add_rms_norm(x, residual.astype(jnp.bfloat16), dtype=jnp.float32)
    assert relative_error(y, over_rms([[256.5, 256.5, 256.5, 255.5]])) < rounding(np.float32)
    np.testing.assert_array_equal(np.asarray(total, np.float32), [[256, 256, 256, 256]])


@pytest.mark.parametrize(
    ("residual", "asked", "got"),
    [
        (jnp.bfloat16, None, jnp.bfloat16),
        (jnp.float32, None, jnp.float32),
        (jnp.bfloat16, jnp.float32, jnp.float32),
    ],
)
def test_the_sum_has_the_dtype_of_both_or_the_one_asked_for(residual, asked, got):
    x, r = jnp.asarray(X, jnp.bfloat16), jnp.asarray(R, residual)
    y, total = add_rms_norm(x, r, residual_dtype=asked)
    exact = np.asarray(x, np.float64) + np.asarray(r, np.float64)
    assert y.dtype == jnp.bfloat16 and total.dtype == got
    assert relative_error(np.asarray(total, np.float32), exact) <= jnp.finfo(got).eps / 2


def test_a_residual_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"residual \[8\] must have the shape of x \[3, 8\]"):
        jaxnorm.add_rms_norm(X, R[0])


def test_a_polynomial_of_order_two_takes_two_weights():
    want = 3 * over_rms(X.astype(np.float64) ** 2) - over_rms(X)
    y = poly_norm(X, np.array([3.0, -1.0], np.float32), order=2)
    assert relative_error(y, want) < BOUND
    with pytest.raises(ValueError, match=r"scale \[2\] must have one weight for each of the 3"):
        poly_norm(X, np.ones(2, np.float32))
    norm = jaxnorm.nnx.PolyNorm(order=2, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(norm.scale[...], [0.5, 0.5])


@pytest.mark.parametrize("size", [1e-36, 1e-12, 1e12, 1e36])
def test_without_epsilon_powers_of_any_size_have_mean_square_one(size):
    scale = np.array([1.0, 2.0, 3.0], np.float32)
    want = sum(w * over_rms(X.astype(np.float64) ** p, 0) for w, p in zip(scale, (3, 2, 1)))
    assert relative_error(poly_norm(X * np.float32(size), scale, epsilon=0.0), want) < BOUND


def test_padding_of_any_kind_leaves_the_gradient_of_the_gate_finite():
    x, mask = X.copy(), np.ones(X.shape, bool)
    x[0, 5], mask[0, 5] = np.nan, False

    def loss(z):
        y = jaxnorm.gated_rms_norm(x, z, mask=mask)
        return jnp.where(mask, y, 0).sum()

    assert jnp.isfinite(jax.jit(jax.grad(loss))(R)).all()


def test_groups_that_do_not_divide_the_features_are_refused():
    with pytest.raises(ValueError, match="num_groups=3 does not divide the 8 channels"):
        jaxnorm.gated_rms_norm(X, R, num_groups=3)


def test_queries_and_keys_of_other_sizes_or_kinds_are_refused():
    with pytest.raises(ValueError, match=r"q \[3, 8\] and k \[3, 4\] must have the same last axis"):
        jaxnorm.qk_norm(X, R[:, :4])
    with pytest.raises(ValueError, match="kind='batch' is unknown"):
        inspect.unwrap(jaxnorm.qk_norm)(X, R, kind="batch")


def test_a_temperature_may_differ_per_head():
    temperature = np.array([[1.0], [2.0], [4.0]], np.float32)
    q, k = jaxnorm.qk_norm(X, R, temperature=temperature, epsilon=0.0)
    lengths = np.linalg.norm(np.asarray(q, np.float64), axis=-1, keepdims=True)
    assert relative_error(lengths, temperature) < BOUND
    assert relative_error(k, over_rms(R, 0) / np.sqrt(8)) < BOUND
