"""What lies along a step, against closed forms of a bowl, and batch norm with noise after it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import smoothness
from experiments._tables import read_table, select
from experiments.smoothness._measures import look_around
from experiments.smoothness._noise import NoisyBatchNorm
from jaxnorm.linen import BatchNorm

LAYERS = (("first",), ("second", "norm"))
SPLITS = {"first": slice(0, 2), "second": slice(2, 5), "norm": slice(5, 6)}


@pytest.fixture(scope="module")
def bowl():
    """Returns a Hessian H, a place w, and what is found around w of w H w / 2."""
    random = np.random.default_rng(0)
    root = random.normal(size=(6, 6))
    hessian, w = root @ root.T, random.normal(size=6)

    def height(params):
        x = jnp.concatenate([params[name] for name in SPLITS])
        return x @ jnp.asarray(hessian, jnp.float32) @ x / 2

    params = {name: jnp.asarray(w[part], jnp.float32) for name, part in SPLITS.items()}
    found = look_around(
        jax.jit(jax.value_and_grad(height)),
        params,
        learning_rate=0.1,
        lengths=(0.5, 2.0),
        layers=LAYERS,
    )
    return hessian, w, *found


def test_losses_and_changes_along_the_gradient_are_those_of_the_bowl(bowl):
    hessian, w, along, _ = bowl
    g = hessian @ w
    assert along.value == pytest.approx(w @ hessian @ w / 2, rel=1e-5)
    assert along.norm == pytest.approx(np.linalg.norm(g), rel=1e-5)
    at = [w - eta * g for eta in (0.05, 0.2)]
    np.testing.assert_allclose(along.loss, [x @ hessian @ x / 2 for x in at], rtol=1e-4)
    size = np.linalg.norm(hessian @ g)
    np.testing.assert_allclose(along.change, [0.05 * size, 0.2 * size], rtol=1e-4)
    np.testing.assert_allclose(along.smoothness, size / np.linalg.norm(g), rtol=1e-4)


def test_the_shift_is_what_the_steps_of_the_layers_before_do_to_a_gradient(bowl):
    hessian, w, _, shift = bowl
    g = hessian @ w
    before, own = slice(0, 2), slice(2, 6)
    after = g[own] - 0.1 * hessian[own, before] @ g[before]
    size = np.linalg.norm(g[own])
    np.testing.assert_allclose(
        shift.difference, [0, np.linalg.norm(after - g[own]) / size], rtol=1e-4, atol=1e-7
    )
    cosine = after @ g[own] / (size * np.linalg.norm(after))
    np.testing.assert_allclose(shift.cosine, [1, cosine], rtol=1e-5)


@pytest.fixture(scope="module")
def noisy():
    """Returns a function (train, key) -> outputs of NoisyBatchNorm, and batch norm's own."""
    x = jnp.asarray(np.random.default_rng(0).normal(3, 2, (500, 8)), jnp.float32)
    module, plain = NoisyBatchNorm(use_running_average=False), BatchNorm(use_running_average=False)
    variables = NoisyBatchNorm(use_running_average=True).init(jax.random.key(0), x)
    inner = {name: part["norm"] for name, part in variables.items()}

    def outputs(train, key):
        layers = (
            (module, plain)
            if train
            else (m.clone(use_running_average=True) for m in (module, plain))
        )
        ours, theirs = layers
        y = ours.apply(variables, x, mutable=["batch_stats"], rngs={"dropout": key})[0]
        return np.asarray(y), np.asarray(theirs.apply(inner, x, mutable=["batch_stats"])[0])

    return outputs


def test_noise_has_another_mean_and_scale_per_channel_within_its_bounds(noisy):
    y, plain = noisy(True, jax.random.key(1))
    slope = np.mean(y * plain, 0) - np.mean(y, 0) * np.mean(plain, 0)
    # 500 examples: five standard errors of the spread of 0.1 beside the bounds.
    slack = 5 * 0.1 * 2 / 500**0.5
    assert np.all(np.abs(y.mean(0)) < 0.5 + slack) and np.ptp(y.mean(0)) > 0.1
    assert np.all((slope > 1 - slack) & (slope < 1.25 + slack)) and np.ptp(slope) > 0.02


def test_noise_is_another_at_each_step_and_none_in_evaluation(noisy):
    first, second = (noisy(True, jax.random.key(seed))[0].mean(0) for seed in (1, 2))
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(*noisy(False, jax.random.key(1)))


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(smoothness)


@pytest.mark.slow
def test_results_are_means_over_the_measurements_but_the_first(smoke):
    folder, results = smoke
    rows = select(read_table(folder / "curves.csv"), network="noisy")
    assert rows["step"].tolist() == [0, 10, 20, 30, 40]
    assert results["noisy"]["smoothness"] == [rows["smoothness"][1:].mean()]
    along = select(read_table(folder / "along.csv"), network="noisy", step=20)
    assert rows["change"][2] == along["change"].max()


@pytest.mark.slow
def test_the_first_layer_has_no_shift(smoke):
    rows = select(read_table(smoke[0] / "layers.csv"), layer=0)
    assert set(rows["difference"]) == {0.0}


@pytest.mark.slow
def test_figure_and_summary_come_from_the_files(smoke):
    folder, results = smoke
    assert smoothness.figures(folder)[0].stat().st_size > 10_000
    said = smoothness.summary(json.loads(json.dumps(results)))
    assert len(said) == 6 and len(smoothness.claims(results)) == 6
