"""The laws of running statistics hold for the nnx batch norm, under nnx's transforms too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal

from jaxnorm.nnx import BatchNorm
from tests.linen.reference import relative_error, sample

EPS = float(jnp.finfo(jnp.float32).eps)


def batch_norm(features=5, **fields):
    return BatchNorm(features, momentum=0.9, rngs=nnx.Rngs(0), **fields)


def assert_stats_close(norm, mean, var, rtol=4 * EPS):
    assert_allclose(norm.mean[...], mean, rtol=rtol, atol=rtol)
    assert_allclose(norm.var[...], var, rtol=rtol, atol=rtol)


def moments(x, axes=0):
    x = np.asarray(x, np.float64)
    return x.mean(axes), x.var(axes)


def assert_took_in(norm, x, axes=0):
    """Asserts that the running statistics are those after the one batch `x`."""
    mean, var = moments(x, axes)
    assert_stats_close(norm, 0.1 * mean, 0.9 + 0.1 * var)


def assert_untouched(norm):
    assert_stats_close(norm, 0.0, 1.0, rtol=0)


def test_running_statistics_are_the_moving_average_of_the_batch():
    norm, x = batch_norm(), sample(3.0, (16, 5))
    norm(x)
    assert_took_in(norm, x)


@pytest.mark.nightly
def test_law_2_masked_shards_pooled_are_the_whole():
    x = sample(4.0, (2, 8, 3)) * np.float32([1, 3])[:, None, None]
    mask = np.arange(8)[:, None] < np.array([[[8]], [[1]]])
    norm = batch_norm(3, axis_name="shards")

    graphdef, state = nnx.split(norm)

    def step(x, mask):
        layer = nnx.merge(graphdef, state, copy=True)
        y = layer(x, mask=mask)
        return y, layer.mean[...], layer.var[...]

    y, means, variances = jax.vmap(step, axis_name="shards")(x, mask)
    norm.mean[...], norm.var[...] = means[0], variances[0]
    valid = np.concatenate([x[0], x[1, :1]])
    assert_took_in(norm, valid)
    mean, var = moments(valid)
    whole = (valid - mean) / np.sqrt(var + 1e-5)
    assert relative_error(np.concatenate([y[0], y[1, :1]]), whole) < 4e-6


def test_law_4_a_wholly_masked_batch_changes_no_statistics():
    norm = batch_norm()
    assert np.isfinite(norm(sample(3.0, (16, 5)), mask=np.zeros((16, 1), bool))).all()
    assert_untouched(norm)


def test_law_8_evaluation_before_training_is_the_identity_statistics():
    norm, x = batch_norm(), sample(3.0, (16, 5))
    norm.eval()
    assert_allclose(norm(x), x / np.sqrt(1 + 1e-5), rtol=4 * EPS)
    assert_untouched(norm)


def test_law_16_several_feature_axes_have_statistics_of_their_own():
    x = sample(3.0, (6, 2, 5, 3))
    norm = batch_norm((2, 3), axis=(1, 3))
    y = norm(x)
    assert_took_in(norm, x, (0, 2))
    mean, var = (v[None, :, None] for v in moments(x, (0, 2)))
    assert relative_error(y, (x - mean) / np.sqrt(var + 1e-5)) < 4e-6


def test_flat_parameters_serve_several_feature_axes():
    x = sample(3.0, (6, 2, 5, 3))
    flat, shaped = batch_norm(6, axis=(1, 3)), batch_norm((2, 3), axis=(1, 3))
    assert_array_equal(flat(x), shaped(x))
    assert_array_equal(flat.mean[...], shaped.mean[...].ravel())


def test_parameters_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"BatchNorm\(5\): mean and var \[5\].*features \[4\]"):
        batch_norm()(sample(shape=(8, 4)))


def test_law_17_batch_statistics_normalize_without_an_update():
    x = sample(3.0, (16, 5))
    norm, updating = batch_norm(), batch_norm()
    norm.set_attributes(BatchNorm, update_stats=False)
    assert_array_equal(norm(x), updating(x))
    assert_untouched(norm)


def test_law_17_running_statistics_normalize_and_are_updated():
    x = sample(3.0, (16, 5))
    norm = batch_norm(use_running_average=True)
    norm.update_stats = True
    assert_allclose(norm(x), x / np.sqrt(1 + 1e-5), rtol=4 * EPS)
    assert_took_in(norm, x)


def test_law_20_a_missing_axis_names_the_layer_the_axis_and_the_remedy():
    with pytest.raises(ValueError, match=r"BatchNorm\(5\): .*'devices'.*axis_name=None"):
        batch_norm(axis_name="devices")(sample(shape=(4, 5)))


def test_law_21_one_value_per_feature_uses_the_running_statistics_and_says_so():
    norm, x = batch_norm(), sample(3.0, (1, 5))
    with pytest.warns(UserWarning, match=r"one value per feature, x \[1, 5\]"):
        y = norm(x)
    assert_allclose(y, x / np.sqrt(1 + 1e-5), rtol=4 * EPS)
    assert_untouched(norm)


def test_law_22_no_update_changes_a_dtype_for_complex_inputs():
    x = sample(2.0, (16, 5)) + 1j * sample(-1.0, (16, 5), seed=1)
    norm = batch_norm(dtype=jnp.complex64)
    before = (norm.mean.dtype, norm.var.dtype)
    norm(x)
    assert (norm.mean.dtype, norm.var.dtype) == before == (jnp.complex64, jnp.float32)
    assert_stats_close(norm, 0.1 * x.mean(0), 0.9 + 0.1 * x.var(0))


def test_law_22_complex_inputs_to_a_real_running_mean_are_refused():
    with pytest.raises(TypeError, match=r"x is complex64, but the running mean is float32"):
        batch_norm()(sample(shape=(16, 5)) + 1j)


def test_law_27_remat_updates_once():
    norm, x = batch_norm(), sample(3.0, (16, 5))

    @nnx.remat
    def forward(norm, x):
        return norm(x)

    gradient = nnx.grad(lambda norm, x: jnp.sum(forward(norm, x) ** 3))(norm, x)
    assert_took_in(norm, x)
    assert gradient.scale.shape == (5,)


def test_the_switch_is_the_call_then_the_attribute():
    norm, x = batch_norm(), sample(3.0, (16, 5))
    norm(x, use_running_average=True)
    assert_untouched(norm)
    norm.use_running_average = None
    with pytest.raises(ValueError, match="use_running_average"):
        norm(x)


def test_a_view_evaluates_with_the_statistics_of_the_model():
    norm, x = batch_norm(), sample(3.0, (16, 5))
    view = nnx.view(norm, use_running_average=True)
    norm(x)
    expected = (x - np.asarray(norm.mean)) / np.sqrt(np.asarray(norm.var) + 1e-5)
    assert_allclose(view(x), expected, rtol=16 * EPS, atol=8 * EPS)
    assert_took_in(norm, x)


def test_nnx_jit_keeps_the_update():
    norm, x = batch_norm(), sample(3.0, (16, 5))
    y = nnx.jit(lambda norm, x: norm(x))(norm, x)
    assert_took_in(norm, x)
    assert relative_error(y, batch_norm()(x)) < 4 * EPS


def test_nnx_vmap_keeps_statistics_of_each_layer():
    x = sample(3.0, (2, 16, 5)) * np.float32([1, 4])[:, None, None]

    @nnx.vmap
    def make(key):
        return BatchNorm(5, momentum=0.9, rngs=nnx.Rngs(key))

    norm = make(jax.random.split(jax.random.key(0), 2))
    nnx.vmap(lambda norm, x: norm(x))(norm, x)
    assert_took_in(norm, x, axes=1)


def test_nnx_scan_carries_the_statistics():
    norm, batches = batch_norm(4), sample(3.0, (5, 16, 4))

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    def steps(norm, x):
        return norm, norm(x)

    steps(norm, batches)
    mean = np.zeros(4)
    for x in np.float64(batches):
        mean = 0.9 * mean + 0.1 * x.mean(0)
    assert_allclose(norm.mean[...], mean, rtol=16 * EPS)


def test_the_running_statistics_are_constants_for_derivatives():
    x = sample(3.0, (16, 5))

    def loss(x):
        norm = batch_norm()
        norm(x)
        return jnp.sum(norm.mean[...]) + jnp.sum(norm.var[...])

    assert_array_equal(jax.grad(loss)(x), np.zeros((16, 5)))


def test_shapes_are_known_without_computing():
    norm = nnx.eval_shape(lambda: batch_norm())
    assert (norm.mean.shape, norm.scale.shape) == ((5,), (5,))


def test_a_cloned_layer_has_statistics_of_its_own():
    norm, x = batch_norm(), sample(3.0, (16, 5))
    nnx.clone(norm)(x)
    assert_untouched(norm)
