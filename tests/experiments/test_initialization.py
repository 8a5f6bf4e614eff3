"""Weight scales from 1 to 1e-4: which learn with batch norm, and which without."""

import numpy as np
import pytest

from experiments import initialization

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(initialization)


def learned(results, norm):
    scales = [trial for trial in results["train_accuracy"][norm] if trial[0].isdigit()]
    accuracy = np.array([results["train_accuracy"][norm][scale] for scale in scales])
    return (accuracy >= results["learns_at"]).sum(0)


def test_with_batch_norm_more_scales_learn_for_every_seed(smoke):
    _, results = smoke
    assert (learned(results, "batch") > learned(results, "none") + 2).all()


def test_the_grid_has_sixteen_scales_a_fixed_factor_apart(smoke):
    grid = initialization.scale_grid(16)
    np.testing.assert_allclose(grid[1:] / grid[:-1], 1e-4 ** (1 / 15))
    assert len(smoke[1]["train_accuracy"]["none"]) == 16 + 2
