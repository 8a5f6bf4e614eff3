"""Every optimizer learns, and what is reported is what the table holds."""

import numpy as np
import pytest

from experiments import optimizers
from experiments._sweep import NORMS
from experiments._tables import read_table, select

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(optimizers)


def test_with_batch_norm_every_optimizer_learns(smoke):
    accuracy = smoke[1]["test_accuracy"]
    for name in optimizers.OPTIMIZERS:
        assert np.mean(accuracy[f"batch-{name}"][name]) > 0.8


def test_batch_norm_makes_plain_gradient_descent_faster(smoke):
    loss = smoke[1]["train_loss"]
    assert np.mean(loss["batch-SGD"]["SGD"]) < 0.9 * np.mean(loss["none-SGD"]["SGD"])


def test_steps_to_a_low_loss_are_those_of_the_table(smoke):
    folder, results = smoke
    table = read_table(folder / "curves.csv")
    for norm in NORMS:
        rows = select(table, group=f"{norm}-Adam")
        below = [
            step
            for step in np.unique(rows["step"])
            if select(rows, step=step)["train_loss"].mean() < results["low_loss"]
        ]
        expected = below[0] if below else np.inf
        assert results["steps_to_low_loss"][norm]["Adam"] == expected


def test_the_picture_is_made_from_the_table(smoke):
    assert [path.name for path in optimizers.figures(smoke[0])] == ["optimizers.png"]
