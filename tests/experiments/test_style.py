"""Style transfer: its losses, its pictures, and what instance norm gains."""

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments import style
from experiments._run import Run, RunError
from experiments._tables import read_table, select
from experiments.data import Dataset
from experiments.style._features import trained_features


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(style)


@pytest.mark.slow
def test_instance_norm_ends_with_a_lower_style_loss_than_batch_norm(smoke):
    assert smoke[1]["norms"]["instance"]["style"][0] < smoke[1]["norms"]["batch"]["style"][0]


@pytest.mark.slow
def test_results_are_the_last_rows_of_the_table(smoke):
    rows = select(read_table(smoke[0] / "losses.csv"), norm="batch")
    assert rows["step"].tolist() == [10, 20]
    assert smoke[1]["norms"]["batch"]["content"] == [rows["content"][-1]]


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


def test_features_are_not_trained_on_grey_images(tmp_path):
    run = Run(tmp_path, tmp_path, resume=False, console=Console(quiet=True))
    with run, pytest.raises(RunError, match="images of digits have 1; train the features on"):
        trained_features(run, "digits", ((4,),), epochs=1, examples=None)


@pytest.mark.slow
def test_features_are_those_of_the_network_that_tells_the_classes(tmp_path, monkeypatch):
    """Classes that differ in colour are told apart, and a resumed run does not train again."""
    labels = np.arange(640) % 2
    images = np.zeros((640, 8, 8, 3), np.uint8)
    images[np.arange(640), :, :, labels] = 200
    colours = Dataset("colours", images, labels, images, labels, ("red", "green"), 255, "made")
    monkeypatch.setattr(Run, "dataset", lambda *_: colours)
    photo = style.photographs(8).style

    def features(*, resume: bool, epochs: int):
        with Run(tmp_path, tmp_path, resume=resume, console=Console(quiet=True)) as run:
            of, accuracy = trained_features(
                run, "colours", ((4,), (8,)), epochs=epochs, examples=None
            )
        return [np.asarray(each) for each in of(photo)], accuracy

    first, accuracy = features(resume=False, epochs=10)
    assert accuracy > 0.9
    assert [each.shape[-1] for each in first] == [4, 8]
    again, _ = features(resume=True, epochs=10)
    np.testing.assert_array_equal(first[1], again[1])
    assert read_table(tmp_path / "curves.csv")["step"].tolist() == [10 * i for i in range(1, 11)]
