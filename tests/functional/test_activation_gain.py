"""The gains of activations against closed forms and the integral by SciPy."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special

from jaxnorm import activation_gain, scaled_weight_standardization

NORMAL = 1 / math.sqrt(2 * math.pi)


def by_scipy(activation, corners):
    """Returns the gain by adaptive quadrature between corners."""
    ends = [-30.0, *corners, 30.0]

    def mean(power):
        def weighted(z):
            return activation(z) ** power * math.exp(-z * z / 2) * NORMAL

        parts = itertools.pairwise(ends)
        return sum(integrate.quad(weighted, *part, epsabs=1e-14, limit=200)[0] for part in parts)

    return 1 / math.sqrt(mean(2) - mean(1) ** 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identity", 1.0),
        ("relu", math.sqrt(2 / (1 - 1 / math.pi))),
        # The mean is 0.99 of that of ReLU, the mean square (1 + 0.01^2) / 2.
        ("leaky_relu", 1 / math.sqrt((1 + 1e-4) / 2 - (0.99 * NORMAL) ** 2)),
        ("tanh", by_scipy(np.tanh, [-1, 1])),
        ("sigmoid", by_scipy(special.expit, [-1, 1])),
        ("silu", by_scipy(lambda z: z * special.expit(z), [-1, 1])),
        ("elu", by_scipy(lambda z: z if z > 0 else np.expm1(z), [-1, 0, 1])),
        ("relu6", by_scipy(lambda z: min(max(z, 0.0), 6.0), [0, 6])),
        ("softplus", by_scipy(lambda z: np.logaddexp(z, 0), [-1, 1])),
    ],
)
def test_the_gain_of_a_name_is_the_inverse_deviation(name, expected):
    # The activation is computed in float32.
    assert abs(activation_gain(name) / expected - 1) < 1e-6


def test_every_name_that_the_error_lists_has_a_gain():
    with pytest.raises(ValueError, match="one of") as error:
        activation_gain("none")
    names = str(error.value).split("one of ")[1].split(", ")
    assert len(names) == 20 and all(activation_gain(name) > 0.5 for name in names)


def test_a_function_may_be_given_and_computed_while_tracing():
    gain = jax.jit(lambda x: x * activation_gain(lambda z: 3 * z))(jnp.ones(()))
    np.testing.assert_allclose(gain, 1 / 3, rtol=1e-6)


@pytest.mark.parametrize("activation", ["softmax", "none"])
def test_an_unknown_name_is_refused(activation):
    with pytest.raises(ValueError, match="is unknown; pass the function itself"):
        activation_gain(activation)


def test_an_activation_without_variance_is_refused():
    with pytest.raises(ValueError, match=r"has variance 0\.0"):
        activation_gain(jnp.zeros_like)


def test_a_rectified_layer_with_its_gain_keeps_the_variance_of_normal_inputs():
    rng = np.random.default_rng(0)
    z, kernel = (rng.normal(size=(20_000, 64)), rng.normal(size=(64, 8)))
    w = scaled_weight_standardization(kernel.astype(np.float32), gain=activation_gain("relu"))
    y = np.maximum(z, 0) @ np.float64(w)
    # The error of a variance over n normal samples is sqrt(2 / n); a kernel has mean zero.
    np.testing.assert_allclose(y.var(0), 1, atol=5 * math.sqrt(2 / len(z)))


def test_a_constant_kernel_gives_zeros_and_finite_gradients():
    kernel = jnp.full((6, 2), 3.0)
    assert not np.any(scaled_weight_standardization(kernel))
    gradient = jax.grad(lambda k: jnp.sum(jnp.sin(1 + scaled_weight_standardization(k)) * k))
    assert np.isfinite(gradient(kernel)).all()


def test_an_epsilon_of_zero_is_refused():
    with pytest.raises(ValueError, match="epsilon=0.0 must be positive"):
        scaled_weight_standardization(jnp.ones((2, 2)), epsilon=0.0)
