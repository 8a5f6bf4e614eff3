"""Norms that follow a condition: where scale and bias may stand, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from jaxnorm.stats import ema
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

X = np.random.default_rng(0).normal(2, 3, (3, 4, 6)).astype(np.float32)
SCALE = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
BOUND = rounding(np.float32, X.size)


@pytest.mark.parametrize("shape", [(6,), (3, 1, 6), (3, 4, 6), ()], ids=str)
def test_a_scale_may_differ_per_feature_per_example_or_per_position(shape):
    scale = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    y = jaxnorm.film(X, scale)
    assert relative_error(y, np.float64(X) * np.float64(scale)) < BOUND


def test_examples_and_features_meet_their_axes_wherever_the_features_are():
    y = jaxnorm.film(np.moveaxis(X, -1, 1), SCALE, feature_axes=1)
    assert relative_error(y, np.moveaxis(np.float64(X) * np.float64(SCALE)[:, None], -1, 1)) < BOUND


def test_a_scale_that_fits_nowhere_is_refused():
    with pytest.raises(ValueError, match=r"scale \[4, 6\] does not fit x \[3, 4, 6\].*\[3, 6\]"):
        jaxnorm.ada_layer_norm(X, np.ones((4, 6)))


def test_the_offset_of_a_bfloat16_scale_is_added_in_float32():
    small = jnp.full(6, 2.0**-10, jnp.bfloat16)  # one plus this is one in bfloat16
    y = jaxnorm.modulated_rms_norm(X, small)
    assert relative_error(y / jaxnorm.rms_norm(X), np.full(X.shape, 1 + 2.0**-10)) < BOUND


def test_running_statistics_serve_in_evaluation():
    stats = ema().init((6,))._replace(mean=jnp.arange(6.0), var=jnp.full(6, 4.0))
    y, new = jaxnorm.conditional_batch_norm(X, stats, SCALE, use_running_average=True)
    want = (np.float64(X) - np.arange(6)) / np.sqrt(4 + 1e-5) * (1 + np.float64(SCALE))[:, None]
    assert relative_error(y, want) < BOUND
    assert new is stats


def test_a_style_and_a_scale_exclude_each_other():
    with pytest.raises(ValueError, match=r"pass one of style and \(scale, bias\)"):
        jaxnorm.adaptive_instance_norm(X, X, SCALE)


def test_a_style_of_constant_channels_has_a_finite_gradient():
    style = jnp.ones_like(X)
    entry = compiled(jax.grad(lambda style: jaxnorm.adaptive_instance_norm(X, style)[0, 0, 0]))
    gradient = entry(style)
    assert relative_error(gradient[0, :, 0], np.full(4, 0.25)) < BOUND
    assert np.isfinite(gradient).all()


def test_spade_asks_for_one_scale_per_position():
    with pytest.raises(ValueError, match=r"scale \[3, 6\] must have one entry per position"):
        jaxnorm.spade(X, ema().init((6,)), SCALE, X, use_running_average=False)


@pytest.mark.parametrize("sizes", [(2, 3), (8, 5), (4, 6)], ids=str)
def test_a_segmentation_is_resized_as_pytorch_does(sizes):
    torch = pytest.importorskip("torch")
    given = np.random.default_rng(3).integers(0, 9, (2, 4, 6, 3)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(torch.tensor(given).permute(0, 3, 1, 2), size=sizes)
    ours = jaxnorm.functional.resize_segmentation(given, sizes)
    np.testing.assert_array_equal(ours, theirs.permute(0, 2, 3, 1).numpy())


def test_a_segmentation_of_another_rank_is_refused():
    with pytest.raises(ValueError, match=r"segmentation \[3, 4, 6\] must be .* 2 spatial axes"):
        jaxnorm.functional.resize_segmentation(X, (2, 2))
