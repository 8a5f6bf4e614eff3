"""What statistics serve one example: orders that must hold, and folding to rounding."""

import json

import numpy as np
import pytest
from rich.console import Console

from experiments import inference
from experiments._run import Run, _plain
from experiments._tables import read_table, select

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inference")
    with Run(folder, folder, resume=False, console=Console(quiet=True)) as run:
        results = inference.run(inference.PRESETS["smoke"], run)
    return folder, json.loads(json.dumps(_plain(results)))


def accuracies(smoke, method):
    points = smoke[1]["methods"][method].values()
    return np.array([point["accuracy"] for point in points])


def test_one_examples_own_statistics_are_chance(smoke):
    # Every example gets the same class: the share of the most frequent one is below 12%.
    assert accuracies(smoke, inference.ONE).max() < 0.12


def test_population_statistics_beat_the_moving_average_at_every_point(smoke):
    gain = accuracies(smoke, inference.POOLED) - accuracies(smoke, inference.MOVING)
    assert gain.shape == (3, 3)
    assert gain.min() >= 0


def test_the_moving_average_is_farther_from_the_population_than_any_average_of_batches(smoke):
    table = read_table(smoke[0] / "methods.csv")
    moving = select(table, method=inference.MOVING)["shift"].min()
    for method in ("last 5 batches", inference.ALGORITHM_2, inference.POOLED):
        assert select(table, method=method)["shift"].max() < moving


def test_folding_changes_nothing_but_rounding(smoke):
    folded = select(read_table(smoke[0] / "methods.csv"), method=inference.FOLDED)
    # Two layers of sums of 100 and 64 products in float32.
    assert folded["apart"].max() < 100 * np.finfo(np.float32).eps
    np.testing.assert_array_equal(
        accuracies(smoke, inference.FOLDED), accuracies(smoke, inference.POOLED)
    )


def test_the_figure_is_drawn_and_the_summary_has_the_numbers(smoke):
    folder, results = smoke
    assert inference.figures(folder)[0].stat().st_size > 10_000
    assert "equal or better in 9 of 9 cases" in inference.summary(results)[2]
