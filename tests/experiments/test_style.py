"""Style transfer: its losses, its pictures, and what instance norm gains."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import style
from experiments._tables import read_table, select


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(style)


@pytest.mark.slow
def test_instance_norm_ends_with_a_lower_style_loss_than_batch_norm(smoke):
    assert smoke[1]["instance"]["style"][0] < smoke[1]["batch"]["style"][0]


@pytest.mark.slow
def test_results_are_the_last_rows_of_the_table(smoke):
    rows = select(read_table(smoke[0] / "losses.csv"), norm="batch")
    assert rows["step"].tolist() == [10, 20]
    assert smoke[1]["batch"]["content"] == [rows["content"][-1]]


@pytest.mark.slow
def test_the_pictures_are_drawn(smoke):
    assert [path.name for path in style.figures(smoke[0])] == ["pictures.png", "losses.png"]


def test_a_gram_matrix_is_the_mean_of_outer_products():
    features = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    flat = features.reshape(2, 12, 5).astype(np.float64)
    want = np.stack([each.T @ each / 12 for each in flat])
    np.testing.assert_allclose(style.gram(jnp.asarray(features)), want, rtol=1e-5, atol=1e-6)


def test_an_image_in_its_own_style_and_content_has_no_loss():
    image = jnp.asarray(np.random.default_rng(0).random((1, 8, 8, 3), np.float32))
    loss = style.perceptual_loss(lambda x: [x, 2 * x], image, style_weight=10.0)
    total, parts = loss(image, {"inputs": image})
    assert total == parts["content"] == parts["style"] == 0


def test_an_image_without_features_has_the_loss_one_in_both_parts():
    image = jnp.asarray(np.random.default_rng(0).random((1, 8, 8, 3), np.float32))
    loss = style.perceptual_loss(lambda x: [x, 2 * x], image, style_weight=10.0)
    total, parts = loss(jnp.zeros_like(image), {"inputs": image})
    np.testing.assert_allclose([total, parts["content"], parts["style"]], [11, 1, 1], rtol=1e-6)


def test_a_third_of_the_photograph_is_held_out_of_training():
    photos = style.photographs(8)
    trained, held_out = photos.content.shape[1], photos.held_out.shape[2]
    assert 0.25 < held_out / (trained + held_out) < 0.4
    assert float(jnp.abs(photos.content).max()) <= 1
