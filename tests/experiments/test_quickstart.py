"""The quickstart learns, and its table holds what was measured."""

import numpy as np
import pytest

from experiments import quickstart
from experiments._tables import read_table, select


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(quickstart)


@pytest.mark.slow
def test_every_network_is_far_above_chance(smoke):
    accuracy = {name: row["test_accuracy"] for name, row in smoke[1]["norms"].items()}
    assert set(accuracy) == {"none", "batch", "layer"}
    assert min(accuracy.values()) > 5 * smoke[1]["chance"]


def test_the_results_are_the_last_rows_of_the_table(smoke):
    folder, results = smoke
    rows = select(read_table(folder / "curves.csv"), norm="batch", step=2.0)
    np.testing.assert_allclose(rows["test_loss"], results["norms"]["batch"]["test_loss"], atol=1e-5)


def test_the_modes_differ_with_batch_norm_alone(smoke):
    last = select(read_table(smoke[0] / "curves.csv"), step=1.0)
    apart = last["test_accuracy"] != last["test_accuracy_train_mode"]
    assert dict(zip(last["norm"], apart, strict=True)) == {
        "none": False,
        "batch": True,
        "layer": False,
    }


def test_the_picture_is_made_from_the_table(smoke):
    assert [path.name for path in quickstart.figures(smoke[0])] == ["quickstart.png"]
