"""Activation normalization: its start, its inverse and its log-determinant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnorm import act_norm, act_norm_init, act_norm_inverse, linen
from jaxnorm import nnx as modules
from tests.stats.reference import relative_error, rounding

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, size=(4, 5, 3)).astype(np.float32)
SCALE = np.array([0.5, -2.0, 1.7], np.float32)
BIAS = np.array([0.1, 3.0, -1.0], np.float32)


def test_the_log_determinant_is_that_of_the_jacobian_of_an_example():
    def flat(v):
        return act_norm(v.reshape(1, 5, 3), SCALE, BIAS)[0].ravel()

    _, expected = np.linalg.slogdet(np.asarray(jax.jacobian(flat)(X[0].ravel()), np.float64))
    assert relative_error(act_norm(X, SCALE, BIAS)[1], np.full(4, expected)) < rounding(np.float32)


def test_a_scale_of_each_example_and_position_has_a_log_determinant_of_each_example():
    scale = RNG.uniform(0.5, 2, (4, 5, 3)).astype(np.float32)
    expected = np.log(scale.astype(np.float64)).sum((1, 2))
    assert relative_error(act_norm(X, scale)[1], expected) < rounding(np.float32, 15)


def test_the_inverse_gives_back_the_input_and_the_opposite_log_determinant():
    y, log_det = act_norm(X, SCALE, BIAS)
    x, back = act_norm_inverse(y, SCALE, BIAS)
    assert relative_error(x, X) < rounding(np.float32)
    np.testing.assert_array_equal(back, -log_det)


def test_after_the_start_from_a_batch_it_has_mean_zero_and_variance_one_within_the_mask():
    mask = RNG.random((4, 5, 1)) < 0.7
    hidden = np.where(mask, X, np.nan).astype(np.float32)
    y, _ = act_norm(X, *act_norm_init(hidden, mask=mask, epsilon=0.0))
    inside = np.asarray(y, np.float64)[mask[..., 0]]
    bound = rounding(np.float32, len(inside))
    assert np.abs(inside.mean(0)).max() < bound and np.abs(inside.var(0) - 1).max() < bound


def test_the_start_over_shards_is_that_of_the_whole_batch():
    shards = X.reshape(2, 2, 5, 3)
    run = jax.vmap(lambda x: jnp.stack(act_norm_init(x, axis_name="i")), axis_name="i")
    expected = np.stack(act_norm_init(X))
    for got in np.asarray(run(shards)):
        assert relative_error(got, expected) < rounding(np.float32, 20)


def test_both_modules_start_from_a_batch_and_invert():
    expected = act_norm(X, *act_norm_init(X))
    variables = linen.ActNorm().init(jax.random.key(0), X)
    layer = modules.ActNorm(3, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(layer(X)[0], X)
    layer.init_from(X)
    for call in (lambda *a, **k: linen.ActNorm().apply(variables, *a, **k), layer):
        y, log_det = call(X)
        x, _ = call(y, inverse=True)
        assert relative_error(y, np.asarray(expected[0])) < rounding(np.float32)
        assert relative_error(log_det, np.asarray(expected[1])) < rounding(np.float32)
        assert relative_error(x, X) < rounding(np.float32)


def test_complex_input_is_refused():
    with pytest.raises(TypeError, match=r"a real floating x, got complex64 \[1, 1\]"):
        act_norm(jnp.ones((1, 1), jnp.complex64))
