"""The nnx weight norm and spectral norm are pure, and every parameter learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal

import jaxnorm
from jaxnorm.nnx import (
    ScaledWeightStandardization,
    SpectralNorm,
    WeightCentralization,
    WeightNorm,
)
from tests.linen.reference import sample

EPS = float(jnp.finfo(jnp.float32).eps)
X = sample(shape=(3, 4))


def linear(seed=0):
    return nnx.Linear(4, 5, rngs=nnx.Rngs(seed))


def weight_normed(layer, **fields):
    return WeightNorm(layer, rngs=nnx.Rngs(1), **fields)


def spectral_normed(layer, **fields):
    return SpectralNorm(layer, rngs=nnx.Rngs(1), **fields)


def scaled(layer):
    return ScaledWeightStandardization(layer, rngs=nnx.Rngs(1))


@pytest.mark.parametrize("wrap", [weight_normed, spectral_normed, scaled, WeightCentralization])
def test_law_15_the_kernel_is_never_written(wrap):
    layer = linear()
    kernel = np.asarray(layer.kernel)
    wrapped = wrap(layer)
    first = wrapped(X)
    assert np.abs(first - layer(X)).max() > 0.01
    assert_array_equal(layer.kernel, kernel)


@pytest.mark.parametrize("room", ["WeightNorm", "SpectralNorm"])
def test_law_15_flax_writes_the_kernel(room):
    layer = linear()
    kernel = np.asarray(layer.kernel)
    getattr(nnx, room)(layer, rngs=nnx.Rngs(1))(X)
    assert np.abs(layer.kernel - kernel).max() > 0.01


@pytest.mark.parametrize("wrap", [weight_normed, spectral_normed])
def test_a_model_closed_over_by_a_transform_can_be_called(wrap):
    wrapped = wrap(linear())
    wrapped.eval()
    assert_allclose(jax.jit(wrapped.__call__)(X), wrapped(X), rtol=16 * EPS, atol=8 * EPS)
    assert jax.grad(lambda x: jnp.sum(wrapped(x)))(X).shape == X.shape


def test_law_15_every_parameter_of_weight_norm_gets_its_gradient():
    wrapped = weight_normed(linear())
    cotangent = sample(shape=(3, 5), seed=1)
    gradients = nnx.grad(lambda model: jnp.vdot(model(X), cotangent))(wrapped)
    v = np.asarray(wrapped.layer_instance.kernel, np.float64)
    length = np.linalg.norm(v, axis=0)
    pull = np.float64(X).T @ cotangent
    along = (pull * v).sum(0) / length
    close = {"rtol": 64 * EPS, "atol": 32 * EPS}
    assert_allclose(gradients.scales[("kernel",)], along, **close)
    assert_allclose(gradients.layer_instance.kernel, (pull - along * v / length) / length, **close)
    assert_allclose(gradients.layer_instance.bias, cotangent.sum(0), **close)


def test_law_15_the_scale_of_flax_gets_no_gradient():
    wrapped = nnx.WeightNorm(linear(), rngs=nnx.Rngs(1))
    assert ("scales",) not in {
        path[:1] for path, _ in nnx.to_flat_state(nnx.state(wrapped, nnx.Param))
    }


@pytest.mark.parametrize("feature_axes", [-1, None, (0, 1), 0])
def test_law_15_the_kernels_norm_as_scale_keeps_the_function(feature_axes):
    layer = linear()
    wrapped = weight_normed(layer, scale_init=jaxnorm.weight_norm_scale, feature_axes=feature_axes)
    assert_allclose(wrapped(X), layer(X), rtol=32 * EPS, atol=8 * EPS)


def test_a_scale_may_start_at_random_and_leaves_the_stream_of_keys_as_in_flax():
    rngs, untouched = nnx.Rngs(0), nnx.Rngs(0)
    wrapped = WeightNorm(linear(), scale_init=nnx.initializers.normal(1.0), rngs=rngs)
    assert np.std(wrapped.scales[("kernel",)]) > 0.1
    assert_array_equal(jax.random.key_data(rngs.params()), jax.random.key_data(untouched.params()))


def test_law_15_spectral_norm_evaluates_with_the_stored_vectors():
    layer = linear()
    wrapped = spectral_normed(layer, n_steps=3)
    u = np.array([[0.6, 0.0, 0.8, 0.0, 0.0]], np.float32)
    wrapped.batch_stats["kernel", "u"][...] = jnp.asarray(u)
    wrapped.batch_stats["kernel", "sigma"][...] = jnp.asarray(2.5)
    wrapped.eval()
    sigma = np.linalg.norm(np.asarray(layer.kernel, np.float64) @ u[0])
    assert_allclose(wrapped(X), X @ np.asarray(layer.kernel) / sigma, rtol=32 * EPS, atol=8 * EPS)
    assert_array_equal(wrapped.batch_stats["kernel", "u"], u)
    assert wrapped.batch_stats["kernel", "sigma"][...] == 2.5


def test_spectral_norm_converges_to_the_largest_singular_value():
    layer = linear()
    wrapped = spectral_normed(layer, n_steps=10)
    for _ in range(10):
        wrapped(X)
    expected = np.linalg.svd(np.asarray(layer.kernel, np.float64), compute_uv=False)[0]
    assert_allclose(wrapped.batch_stats["kernel", "sigma"][...], expected, rtol=16 * EPS)


def test_flax_stores_the_singular_value_of_a_kernel_that_it_has_divided_already():
    layer = linear()
    expected = np.linalg.svd(np.asarray(layer.kernel), compute_uv=False)[0]
    wrapped = nnx.SpectralNorm(layer, n_steps=10, rngs=nnx.Rngs(1))
    for _ in range(10):
        wrapped(X)
    assert abs(wrapped.batch_stats["kernel", "sigma"][...] - expected) > 0.1


class Block(nnx.Module):
    """A layer with running statistics, dropout and intermediates."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 5, rngs=rngs)
        self.norm = nnx.BatchNorm(5, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        x = self.dropout(self.norm(self.linear(x)))
        self.features = nnx.Intermediate(x)
        self.sow(nnx.Intermediate, "sown", x)
        return x


@pytest.mark.parametrize("wrap", [weight_normed, spectral_normed, scaled, WeightCentralization])
def test_all_other_state_of_the_layer_moves_and_is_kept(wrap):
    block = Block(nnx.Rngs(0))
    wrapped = wrap(block)
    run = nnx.capture(wrapped, nnx.Intermediate)
    (first, _), (second, sown) = run(X), run(X)
    assert np.abs(block.norm.mean).min() > 0
    assert np.abs(first - second).max() > 0  # the random stream has advanced
    assert_array_equal(block.features, second)
    assert_array_equal(sown["layer_instance"]["sown"][0], second)


def test_nnx_jit_keeps_the_update():
    layer, same = linear(), linear()
    jitted, eager = spectral_normed(layer), spectral_normed(same)
    y = nnx.jit(lambda model, x: model(x))(jitted, X)
    assert_allclose(y, eager(X), rtol=16 * EPS, atol=8 * EPS)
    for name in ("u", "sigma"):
        stats = (model.batch_stats["kernel", name][...] for model in (jitted, eager))
        assert_allclose(*stats, rtol=16 * EPS, atol=4 * EPS)


def test_a_parameter_that_came_after_the_wrapping_is_named():
    wrapped = weight_normed(linear())
    wrapped.layer_instance.other_kernel = nnx.Param(jnp.ones((2, 2)))
    wrapped.variable_filter = nnx.filterlib.to_predicate(nnx.Param)
    with pytest.raises(ValueError, match="no scale for the parameter"):
        wrapped(X)
