"""Feature scaling agrees with scikit-learn however the table is cut, and descent feels it."""

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

from experiments import numpy_parity, scaling


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(scaling)


@pytest.mark.parametrize("way", ["whole", "stream", "shards"])
@pytest.mark.parametrize("scaler", ["standard", "min_max"])
@pytest.mark.sampled(2)
def test_every_way_of_fitting_equals_scikit_learn_to_rounding(smoke, scaler, way):
    largest = np.abs(StandardScaler().fit_transform(load_wine().data)).max()
    assert smoke[1]["wine"][scaler][way] < 100 * np.finfo(np.float64).eps * largest


def test_descent_needs_the_fewest_steps_on_standardized_features(smoke):
    steps = smoke[1]["wine"]["to_converge"]
    assert steps["raw"] is None
    assert steps["standard"] < steps["min_max"]


def test_the_note_s_batch_is_normalized_as_numpy_does(run_smoke):
    _, results = run_smoke(numpy_parity)
    assert results["error"] < 4 * results["epsilon_of_float32"]
    assert results["error_of_the_textbook_formula"] < 1e-14
