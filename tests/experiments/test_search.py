"""Random search by halves, and how wide the range of good learning rates is."""

import numpy as np
import pytest

from experiments import search
from experiments._seeds import last_rows
from experiments._sweep import NORMS
from experiments._tables import read_table, select


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(search)


@pytest.mark.slow
def test_half_of_the_trials_of_each_seed_goes_on(smoke):
    rows = select(read_table(smoke[0] / "trials.csv"), norm="batch", part="1")
    first, last = search.PRESETS["smoke"].rungs
    for seed in search.PRESETS["smoke"].seeds:
        own = select(rows, seed=seed)
        assert len(select(own, step=float(first))["step"]) == search.PRESETS["smoke"].trials
        assert len(select(own, step=float(last))["step"]) == search.PRESETS["smoke"].trials // 2


@pytest.mark.slow
def test_those_that_go_on_are_the_better_ones(smoke):
    rows = select(read_table(smoke[0] / "trials.csv"), norm="none", part="1", seed=0.0)
    first, last = search.PRESETS["smoke"].rungs
    judged = select(rows, step=float(first))
    going_on = np.isin(judged["learning_rate"], select(rows, step=float(last))["learning_rate"])
    accuracy = judged["validation_accuracy"]
    assert accuracy[going_on].min() >= accuracy[~going_on].max()


@pytest.mark.slow
def test_the_range_of_good_learning_rates_is_wider_with_batch_norm(smoke):
    common = smoke[1]["ranges"]["common"]
    assert np.mean(common["batch"]["decades"]) > np.mean(common["none"]["decades"])


@pytest.mark.slow
def test_the_best_trial_of_each_search_meets_the_test_set(smoke):
    for norm in NORMS:
        best = smoke[1][norm]["best"]
        assert len(best) == len(search.PRESETS["smoke"].seeds)
        assert all(0 <= each["test_accuracy"] <= 1 for each in best)


@pytest.mark.slow
def test_each_norm_is_compared_at_the_rate_that_is_best_for_it_in_the_scan(smoke):
    scan = last_rows(read_table(smoke[0] / "trials.csv"), part="scan")
    for norm in NORMS:
        found = smoke[1]["scanned"][norm]
        for i, seed in enumerate(search.PRESETS["smoke"].seeds):
            rows = select(scan, norm=norm, seed=float(seed))
            best = rows["validation_accuracy"].max()
            assert found["validation_accuracy"][i] == best
            at = select(rows, learning_rate=found["learning_rate"][i])
            assert at["validation_accuracy"].tolist() == [best]
    (table,) = [each for each in search.summary(smoke[1]) if each.startswith("Both ways")]
    assert table.count("\n") == 2 + 1 + len(NORMS)


@pytest.mark.slow
def test_the_pictures_are_made_from_the_tables(smoke):
    assert [path.name for path in search.figures(smoke[0])] == ["trials.png", "scan.png"]


def test_a_range_is_narrowed_to_a_quarter_that_stays_inside():
    assert search.narrowed((-6.0, -2.0), -4.0) == (-4.5, -3.5)
    assert search.narrowed((-6.0, -2.0), -2.2) == (-3.0, -2.0)


def test_the_good_range_ends_where_accuracy_crosses_the_standard():
    rates = np.array([1e-3, 1e-2, 1e-1, 1.0])
    low, high = search.good_range(rates, np.array([0.0, 1.0, 1.0, 0.5]), least=0.5)
    np.testing.assert_allclose([low, high], [10**-2.5, 1.0])
