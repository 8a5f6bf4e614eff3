"""What the pointwise functions keep beside their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import (
    dynamic_erf,
    dynamic_tanh,
    layer_scale,
    layer_scale_start,
    re_zero,
    skip_init,
    thresholded_linear_unit,
)

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def test_the_gradient_of_a_threshold_is_summed_in_float32():
    x = jnp.zeros((3000, 1), jnp.bfloat16)
    gradient = jax.grad(lambda t: jnp.sum(thresholded_linear_unit(x, t).astype(jnp.float32)))
    # In bfloat16 a sum of ones stays at 256.
    assert gradient(jnp.ones(1))[0] == 3000


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (dynamic_tanh, np.tanh(X)),
        (thresholded_linear_unit, np.maximum(X, 0)),
        (layer_scale, X),
        (skip_init, X),
        (lambda x: re_zero(x, x), 2 * X),
    ],
)
def test_a_parameter_that_is_missing_changes_nothing(call, expected):
    np.testing.assert_allclose(call(X), expected, rtol=4e-7, atol=0)


@pytest.mark.parametrize("call", [dynamic_erf, thresholded_linear_unit])
def test_complex_input_is_refused_where_there_is_no_order(call):
    with pytest.raises(TypeError, match="needs a real x"):
        call(jnp.ones(2, jnp.complex64))


def test_a_branch_of_another_shape_than_its_input_is_refused():
    with pytest.raises(ValueError, match=r"branch \[4, 1\] must have the shape of x \[4, 3\]"):
        re_zero(X, X[:, :1], 0.5)


def test_the_start_of_layer_scale_falls_with_depth_as_in_the_paper():
    starts = [layer_scale_start(depth) for depth in (1, 18, 19, 24, 25, 48)]
    assert starts == [0.1, 0.1, 1e-5, 1e-5, 1e-6, 1e-6]
    with pytest.raises(ValueError, match="depth=0"):
        layer_scale_start(0)
