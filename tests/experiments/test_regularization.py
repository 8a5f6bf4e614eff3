"""Dropout and weight decay with and without batch norm."""

import numpy as np
import pytest

from experiments import regularization
from experiments._sweep import NORMS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(regularization)


def mean(results, split, norm, rate, decay):
    return np.mean(results[f"{split}_accuracy"][f"{norm}-{rate}"][f"decay {decay:g}"])


def test_every_network_without_weight_decay_learns(smoke):
    for norm in NORMS:
        for rate in (0.0, 0.5):
            assert mean(smoke[1], "train", norm, rate, 0.0) > 0.9


def test_strong_weight_decay_hurts_the_network_without_batch_norm_most(smoke):
    lost = {
        norm: mean(smoke[1], "test", norm, 0.0, 0.0) - mean(smoke[1], "test", norm, 0.0, 0.1)
        for norm in NORMS
    }
    assert lost["none"] > lost["batch"] + 0.05


def test_the_gap_is_reported_of_the_means_over_seeds(smoke):
    test = mean(smoke[1], "test", "batch", 0.5, 0.0)
    gap = 100 * (mean(smoke[1], "train", "batch", 0.5, 0.0) - test)
    line = next(s for s in regularization.summary(smoke[1]) if "With batch norm, dropout 0.5" in s)
    assert f"test accuracy {test:.1%} and a gap of {gap:.1f} points" in line


def test_the_picture_is_made_from_the_table(smoke):
    assert [path.name for path in regularization.figures(smoke[0])] == ["regularization.png"]
