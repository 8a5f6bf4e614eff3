"""The VGG-like network with and without batch norm, on digits, and the numbers taken from it."""

import numpy as np
import pytest

from experiments import cifar
from experiments._tables import read_table, select

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(cifar)


def test_with_batch_norm_the_training_loss_falls_faster(smoke):
    _, results = smoke
    assert results["batch"]["train_loss_halfway"][0] < results["none"]["train_loss_halfway"][0]
    assert results["batch"]["accuracy"][0] > results["none"]["accuracy"][0]


def test_results_are_those_of_the_table(smoke):
    folder, results = smoke
    rows = select(read_table(folder / "curves.csv"), network="none", seed=0.0)
    assert rows["step"].tolist() == [20, 40, 60, 80]
    assert results["none"]["accuracy"] == [rows["validation_accuracy"][-1]]
    assert results["none"]["least_loss_at_epoch"] == [np.argmin(rows["validation_loss"]) + 1]


def test_the_figure_is_drawn(smoke):
    assert cifar.figures(smoke[0])[0].stat().st_size > 10_000


def test_the_summary_says_the_gap_in_points_and_the_turn_of_the_loss():
    one = {"best_accuracy": [0.7], "train_loss": [0.1], "train_loss_halfway": [0.2]}
    none = {
        **one,
        "accuracy": [0.60, 0.62],
        "late_accuracy": [0.6, 0.6],
        "loss": [1.5],
        "least_loss": [1.0],
    }
    batch = {
        **one,
        "accuracy": [0.65, 0.66],
        "late_accuracy": [0.62, 0.64],
        "loss": [1.1],
        "least_loss": [1.0],
    }
    results = {
        "epochs": 9,
        "none": {**none, "least_loss_at_epoch": [5]},
        "batch": {**batch, "least_loss_at_epoch": [8]},
    }
    accuracy, late, _, loss, _ = cifar.summary(results)
    assert "+4.5 points (+4.0 to +5.0 over seeds" in accuracy
    assert "+3.0 points (+2.0 to +4.0 over seeds" in late
    assert (
        "Without batch norm, validation loss is least at epoch 5 and then rises by 0.50 nats"
        in loss
    )


def test_a_loss_that_turns_early_and_rises_with_batch_norm_too_does_not_show_the_posts_claim():
    network = {"train_loss_halfway": [0.5], "accuracy": [0.6], "least_loss": [1.0], "loss": [2.0]}
    none = {**network, "least_loss_at_epoch": [6]}
    batch = {**none, "train_loss_halfway": [0.4], "accuracy": [0.65], "loss": [1.7]}
    early = cifar.claims({"epochs": 30, "none": none, "batch": batch})
    assert list(early.values()) == [True, True, False, False, True]
    none["least_loss_at_epoch"], batch["loss"] = [14], [1.2]
    assert all(cifar.claims({"epochs": 30, "none": none, "batch": batch}).values())
