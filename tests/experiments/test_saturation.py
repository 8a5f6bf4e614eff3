"""Drawn inputs against closed forms, trained networks against bounds of what can be."""

import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments import saturation
from experiments._run import Run
from experiments._tables import read_table, select


def test_gradient_descent_to_the_identity_finds_deviation_and_mean():
    x = np.random.default_rng(0).normal(3, 2, 500).astype(np.float32)
    scale, bias = saturation.learn_identity(jnp.asarray(x))
    assert scale == pytest.approx(math.sqrt(x.var(dtype=np.float64) + 1e-5), rel=1e-4)
    assert bias == pytest.approx(x.mean(dtype=np.float64), rel=1e-4)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saturation")
    with Run(folder, folder, resume=False, console=Console(quiet=True)) as run:
        return folder, saturation.run(saturation.PRESETS["smoke"], run)


@pytest.mark.slow
def test_drawn_inputs_pass_what_the_closed_forms_say(smoke):
    drawn = smoke[1]["drawn"]
    # 100 000 draws of a slope between 0 and 0.25 (or 0 and 1 for a ReLU): four standard errors.
    error = 4 / 100_000**0.5
    assert drawn["passed"]["sigmoid"]["before"] == pytest.approx(math.tanh(2.5) / 10, abs=error / 8)
    root = math.sqrt(3)
    assert drawn["passed"]["sigmoid"]["normalized"] == pytest.approx(
        math.tanh(root / 2) / (2 * root), abs=error / 8
    )
    assert drawn["passed"]["relu"]["normalized"] == pytest.approx(0.5, abs=error / 2)
    assert drawn["relu_bias_1"] == pytest.approx((1 + 1 / root) / 2, abs=error / 2)
    assert drawn["identity_error"] < 1e-5


@pytest.mark.slow
def test_every_seed_is_measured_in_every_case(smoke):
    table = read_table(smoke[0] / "trained.csv")
    assert len(table["seed"]) == 2 * 4 * 3
    sigmoid = select(table, activation="sigmoid", case="normalized")["passed"]
    assert ((sigmoid > 0.15) & (sigmoid < 0.25)).all()


@pytest.mark.slow
def test_batch_norm_keeps_the_sigmoids_of_the_last_layer_out_of_saturation(smoke):
    cases = smoke[1]["trained"]["sigmoid"]
    assert max(cases["scale and bias"]["saturated"]) < min(cases["no norm"]["saturated"])


@pytest.mark.slow
def test_histograms_hold_all_values(smoke):
    table = read_table(smoke[0] / "histograms.csv")
    rows = select(table, source="trained", activation="relu", case="before")
    assert rows["share"].sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
def test_figures_and_summary_come_from_the_files(smoke):
    folder, results = smoke
    assert all(path.stat().st_size > 10_000 for path in saturation.figures(folder))
    results = json.loads(json.dumps(results, default=np.ndarray.tolist))
    assert "closed forms 0.0987 and 0.2019" in saturation.summary(results)[0]
