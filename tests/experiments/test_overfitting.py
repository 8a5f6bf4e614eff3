"""Every method is measured on both splits, and the ensemble is what its definition says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich.console import Console

from experiments import overfitting
from experiments._run import Run
from experiments._sweep import decay_kernels
from experiments._tables import read_table, select


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(overfitting)


@pytest.mark.slow
def test_the_training_images_are_learned_by_heart_with_batch_norm_first(smoke):
    accuracy = {m: np.mean(v[m]) for m, v in smoke[1]["train_accuracy"].items()}
    assert set(accuracy) == set(overfitting.METHODS)
    assert accuracy["batch norm"] == max(accuracy.values()) > 0.99


@pytest.mark.slow
def test_training_images_are_known_better_than_test_images(smoke):
    for method in overfitting.METHODS:
        train = np.mean(smoke[1]["train_accuracy"][method][method])
        assert train > np.mean(smoke[1]["test_accuracy"][method][method])


@pytest.mark.slow
def test_an_ensemble_is_no_worse_than_its_worst_member(smoke):
    for method, accuracy in smoke[1]["ensemble_accuracy"].items():
        assert accuracy >= np.min(smoke[1]["test_accuracy"][method][method])


@pytest.mark.slow
def test_the_results_are_the_last_rows_of_the_table(smoke):
    rows = select(read_table(smoke[0] / "curves.csv"), group="dropout")
    last = rows["test_accuracy"][rows["step"] == rows["step"].max()]
    np.testing.assert_allclose(last, smoke[1]["test_accuracy"]["dropout"]["dropout"], atol=1e-6)


@pytest.mark.slow
def test_the_picture_is_made_from_the_table(smoke):
    assert [path.name for path in overfitting.figures(smoke[0])] == ["overfitting.png"]


@pytest.mark.slow
def test_each_method_is_compared_at_the_rate_that_its_own_validation_picks(tmp_path):
    config = dataclasses.replace(
        overfitting.PRESETS["smoke"], epochs=10, points=1, rates=(0.001, 0.03)
    )
    with Run(tmp_path, tmp_path, resume=False, console=Console(quiet=True)) as run:
        results = overfitting.run(config, run)
    table = read_table(tmp_path / "rates.csv")
    for method in overfitting.METHODS:
        rows = select(table, group=f"{method}, each rate")
        by_rate = {rate: select(rows, trial=rate) for rate in (0.001, 0.03)}
        means = {rate: own["validation_accuracy"].mean() for rate, own in by_rate.items()}
        best = max(means, key=means.__getitem__)
        found = results["own_rate"][method]
        assert found["rate"] == best
        assert found["test"] == by_rate[best]["test_accuracy"].tolist()
    said = overfitting.summary(results)[-1]
    assert said.count("\n") == 2 + 1 + len(overfitting.METHODS)
    claims = overfitting.claims(results)
    assert "at the rate that is best for each, batch norm narrows the gap for every seed" in claims


def test_kernels_decay_and_biases_do_not():
    params = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full(2, 3.0)}
    transform = decay_kernels(jnp.array(0.1))
    gradient = jax.tree.map(jnp.ones_like, params)
    updates, _ = transform.update(gradient, transform.init(params), params)
    np.testing.assert_allclose(updates["kernel"], 1.3)
    np.testing.assert_allclose(updates["bias"], 1.0)
    loss = jax.grad(lambda p: 0.05 * optax.tree.norm(p["kernel"], squared=True))(params)
    np.testing.assert_allclose(updates["kernel"] - 1, loss["kernel"], rtol=1e-5)
