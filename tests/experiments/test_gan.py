"""The scores of made images, and that both players of a DCGAN move."""

import numpy as np
import pytest

from experiments import gan
from experiments._tables import read_table, select


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(gan)


@pytest.mark.slow
def test_the_classifier_knows_real_digits(smoke):
    assert smoke[1]["classifier_accuracy"] > 0.95
    assert 7 < smoke[1]["real_score"] <= 10


@pytest.mark.slow
def test_made_images_are_nearer_to_real_ones_at_the_end_than_noise_is(smoke):
    assert set(smoke[1]["scores"]) == {"none", "batch", "spectral"}
    for norm, measured in smoke[1]["scores"].items():
        rows = select(read_table(smoke[0] / "scores.csv"), norm=norm)
        assert rows["step"].tolist() == [30, 60]
        assert measured["distance"] == [rows["distance"][-1]]
        assert np.isfinite(rows["generator_loss"]).all()
    distance = {norm: m["distance"][0] for norm, m in smoke[1]["scores"].items()}
    assert distance["batch"] < distance["none"]


@pytest.mark.slow
def test_the_pictures_are_drawn(smoke):
    assert [path.name for path in gan.figures(smoke[0])] == ["samples.png", "scores.png"]


def test_a_score_is_the_number_of_classes_that_are_told_apart():
    sure = np.repeat(100 * np.eye(5), 3, axis=0)
    assert gan.classifier_score(sure) == pytest.approx(5)
    assert gan.classifier_score(sure[:3]) == pytest.approx(1)
    assert gan.classifier_score(np.zeros((6, 5))) == pytest.approx(1)


def test_the_distance_of_two_gaussians_is_that_of_the_closed_form():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((400, 2))
    a = (a - a.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(a, rowvar=False))).T
    b = a * [3.0, 0.5] + [1.0, -2.0]
    # Diagonal covariances: |difference of means|^2 + sum of (difference of deviations)^2.
    assert gan.frechet_distance(a, b) == pytest.approx(1 + 4 + (3 - 1) ** 2 + (1 - 0.5) ** 2)
