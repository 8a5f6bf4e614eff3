"""The percentiles of the sigmoids' inputs: still with batch norm, adrift without."""

import numpy as np
import pytest

from experiments import activations
from experiments._tables import read_table, select

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(activations)


def test_with_batch_norm_the_drift_is_a_small_fraction(smoke):
    _, results = smoke
    ratio = np.mean(results["batch"]["drift_extent"]) / np.mean(results["none"]["drift_extent"])
    assert ratio < 1 / 3


def test_with_batch_norm_the_accuracy_is_higher_for_every_seed(smoke):
    _, results = smoke
    assert min(results["batch"]["test_accuracy"]) > max(results["none"]["test_accuracy"])


def test_the_drift_is_the_mean_change_over_the_spread(smoke):
    folder, results = smoke
    rows = select(read_table(folder / "units.csv"), group="batch", seed=0.0)
    history = np.stack([rows[f"u{unit}"] for unit in range(100)], -1).reshape(-1, 3, 100)
    spread = (history[:, 2] - history[:, 0]).mean(0)
    change = np.abs(np.diff(history, axis=0)).mean(0) / spread
    np.testing.assert_allclose(
        np.median(change), results["batch"]["drift_per_measurement"][0], rtol=1e-4
    )
