"""Adaptation to corrupted digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import adaptation
from experiments._tables import read_table, select


def test_a_blur_is_the_mean_of_nine_pixels():
    image = np.random.default_rng(0).uniform(size=(5, 5)).astype(np.float32)
    blurred = adaptation.blur(jnp.asarray(image)[None, ..., None], jax.random.key(0))[0, ..., 0]
    np.testing.assert_allclose(blurred[2, 3], np.float64(image[1:4, 2:5]).mean(), rtol=1e-6)
    corner = np.pad(np.float64(image), 1, mode="edge")[:3, :3].mean()
    np.testing.assert_allclose(blurred[0, 0], corner, rtol=1e-6)


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(adaptation)


@pytest.mark.slow
def test_statistics_of_many_images_undo_a_shift_of_brightness_and_contrast(smoke):
    measured = smoke[1]["accuracy"]
    for corruption in ("contrast", "fog"):
        by = measured[corruption]
        assert by["target 360"][0] > by["source 0"][0] + 0.2
    assert measured["clean"]["mixture 1"][0] >= measured["clean"]["target 1"][0]


@pytest.mark.slow
def test_the_sentences_hold_the_means_of_the_table_and_the_picture_is_made(smoke):
    table = read_table(smoke[0] / "accuracy.csv")
    rows = select(table, method="tent")
    corrupted = rows["accuracy"][rows["corruption"] != "clean"].mean()
    assert f"Tent on 60 at a time {corrupted:.1%}." in adaptation.summary(smoke[1])[0]
    assert [path.name for path in adaptation.figures(smoke[0])] == ["adaptation.png"]
