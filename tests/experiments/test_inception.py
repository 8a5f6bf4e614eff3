"""The paper's five models: what they differ in, and what is taken from their curves."""

import numpy as np
import pytest

from experiments import inception
from experiments._tables import read_table, select

CONFIG = inception.PRESETS["default"]


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(inception)


@pytest.mark.slow
def test_every_model_of_the_paper_has_a_curve(smoke):
    table = read_table(smoke[0] / "curves.csv")
    assert set(table["network"]) == set(CONFIG.models) == set(smoke[1]["models"])
    for name in CONFIG.models:
        assert select(table, network=name)["step"].tolist() == [20, 40, 60]


@pytest.mark.slow
def test_with_batch_norm_and_more_learning_rate_the_network_learns_more(smoke):
    best = {name: reached["best"][0] for name, reached in smoke[1]["models"].items()}
    assert best["BN-x5"] > best["Inception"] + 0.1


@pytest.mark.slow
def test_steps_to_the_baselines_best_are_those_of_the_curve(smoke):
    folder, results = smoke
    table = read_table(folder / "curves.csv")
    goal = select(table, network="Inception")["validation_accuracy"].max()
    for name, reached in results["models"].items():
        rows = select(table, network=name)
        there = rows["step"][rows["validation_accuracy"] >= goal]
        assert reached["steps_to_baseline"] == [int(there[0]) if len(there) else None]


@pytest.mark.slow
def test_the_picture_is_made_from_the_tables(smoke):
    assert [path.name for path in inception.figures(smoke[0])] == ["inception.png"]


def test_learning_rates_are_the_papers_multiples_and_fall_six_times_as_fast_with_batch_norm():
    rates = {n: inception.learning_rate(CONFIG, r, 0) for n, r in inception.RECIPES.items()}
    assert rates["BN-x5"] == pytest.approx(5 * rates["Inception"])
    assert rates["BN-x30"] == pytest.approx(30 * rates["BN-Baseline"])
    half = CONFIG.half_life
    plain, normed = inception.RECIPES["Inception"], inception.RECIPES["BN-Baseline"]
    assert inception.learning_rate(CONFIG, plain, half) == pytest.approx(rates["Inception"] / 2)
    assert inception.learning_rate(CONFIG, normed, half) == pytest.approx(rates["Inception"] / 64)


def test_only_the_models_without_batch_norm_have_dropout_and_local_response_norm():
    plain = inception.make_model(CONFIG, 10, inception.RECIPES["Inception"])
    normed = inception.make_model(CONFIG, 10, inception.RECIPES["BN-x30"])
    assert plain.dropout_rate == 0.4 and plain.norm is None and plain.stem_norm is not None
    assert normed.dropout_rate == 0 and normed.norm is not None and normed.stem_norm is None


def test_local_response_norm_is_that_of_its_definition():
    x = np.random.default_rng(0).standard_normal((2, 3, 3, 7)) * 30
    got = np.asarray(inception.local_response(x.astype(np.float32)))
    for channel in range(7):
        window = x[..., max(0, channel - 2) : channel + 3]
        scale = (1 + 1e-4 / 5 * (window**2).sum(-1)) ** 0.75
        np.testing.assert_allclose(got[..., channel], x[..., channel] / scale, rtol=1e-5)
