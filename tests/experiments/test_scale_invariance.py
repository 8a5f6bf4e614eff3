"""Weights without a scale: the angle of a step, and trainings that are the same function."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import scale_invariance
from experiments._tables import read_table, select
from experiments.scale_invariance._turns import record_turns, turn


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the angle between two arrays by Kahan's formula, in float64."""
    a, b = (x.astype(np.float64) / np.linalg.norm(x.astype(np.float64)) for x in (a, b))
    return 2 * math.atan2(np.linalg.norm(a - b), np.linalg.norm(a + b))


@pytest.mark.parametrize("size", [1e-4, 0.1, 3.0])
def test_a_turn_is_the_angle_between_the_weights_before_and_after(size):
    random = np.random.default_rng(0)
    w = random.normal(size=(6, 5)).astype(np.float32)
    u = (size * random.normal(size=(6, 5))).astype(np.float32)
    exact = angle(w.astype(np.float64), w.astype(np.float64) + u)
    assert float(turn(jnp.asarray(w), jnp.asarray(u))) == pytest.approx(exact, rel=1e-5)


def test_weights_of_zero_do_not_turn():
    assert float(turn(jnp.zeros(3), jnp.ones(3))) == 0


def test_recorded_turns_are_the_root_mean_square_of_the_steps():
    tx, w = record_turns(decay=0.5), {"kernel": jnp.array([1.0, 0.0])}
    state, sizes = tx.init(w), (0.1, 0.3)
    for size in sizes:
        _, state = tx.update({"kernel": jnp.array([0.0, size])}, state, w)
    squares = np.arctan(sizes) ** 2
    wanted = math.sqrt((squares[0] + 2 * squares[1]) / 3)
    assert float(state.angles()["kernel"]) == pytest.approx(wanted, rel=1e-6)


def test_compared_trials_are_those_of_the_papers():
    config = scale_invariance.Config(rates=(0.1, 0.2, 0.4), products=(0.02, 0.04), scale=8.0)
    trials = scale_invariance.make_trials(config)
    reference = next(iter(trials.values()))
    plain = {"rate": 0.2, "decay": 0.1, "growth": 0.0, "scale": 1.0}
    assert reference == pytest.approx(plain)
    assert trials["scaled"]["rate"] == 64 * 0.2
    assert trials["scaled"]["decay"] == pytest.approx(0.1 / 64)
    # The rate of step t is rate * (1 - rate * decay) ** (-2 t - 1).
    assert math.exp(trials["growing"]["growth"]) == pytest.approx(1 / (1 - 0.02))


def trained(norm: str, trial: str, steps: int = 40) -> np.ndarray:
    """Returns the probabilities that a trial's network gives after some steps, in float64."""
    config = scale_invariance.Config(features=(16, 16), products=(0.01,), scale=3.0)
    hyper = scale_invariance.make_trials(config)[trial]
    tx = scale_invariance.make_optimizer(hyper)
    model = scale_invariance.make_model(config, norm)
    random = np.random.default_rng(0)
    inputs, labels = jnp.asarray(random.uniform(size=(steps + 1, 32, 20))), jnp.arange(32) % 10
    variables = jax.tree.map(
        lambda a: a.astype(jnp.float64), model.init(jax.random.key(0), inputs[0])
    )
    stats = {name: part for name, part in variables.items() if name != "params"}
    params = scale_invariance.scale_hidden(variables["params"], hyper["scale"])

    def logits(params, inputs):
        return model.apply(
            {"params": params, **stats}, inputs, train=True, mutable=["batch_stats"]
        )[0]

    def loss(params, inputs):
        return optax.softmax_cross_entropy_with_integer_labels(
            logits(params, inputs), labels
        ).mean()

    def step(carry, inputs):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, inputs), state, params)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), inputs[:steps])
    return np.asarray(jax.nn.softmax(logits(params, inputs[steps])))


@pytest.mark.parametrize("trial", ["scaled", "growing"])
@pytest.mark.sampled(1)
def test_before_a_norm_the_trial_is_the_same_function_in_float64(x64, trial):
    reference = trained("batch", "0.01 at 0.1")
    assert np.abs(trained("batch", trial) - reference).max() < 1e-10
    assert np.abs(trained("batch", "no decay") - reference).max() > 1e-4


def test_without_a_norm_the_scaled_trial_is_another_function(x64):
    apart = trained("none", "scaled", steps=5) - trained("none", "0.01 at 0.1", steps=5)
    assert np.abs(apart).max() > 1e-2


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(scale_invariance)


@pytest.mark.slow
def test_the_same_functions_are_the_same_and_the_others_are_not(smoke):
    _, results = smoke
    claims = list(scale_invariance.claims(results).values())
    assert claims[0] and claims[1] and claims[2]


@pytest.mark.slow
def test_the_turn_of_the_quickest_equilibrium_is_that_of_theory(smoke):
    _, results = smoke
    np.testing.assert_allclose(results["batch"]["turns"]["0.01"]["0.3"], 1, rtol=0.1)


@pytest.mark.slow
def test_results_are_those_of_the_tables(smoke):
    folder, results = smoke
    rows = select(read_table(folder / "curves.csv"), group="none", trial="no decay", step=600)
    assert results["none"]["compared"]["no decay"]["distance"] == rows["distance"].tolist()
    table = select(read_table(folder / "layers.csv"), group="batch", trial="0.003 at 0.3", step=600)
    np.testing.assert_allclose(
        results["batch"]["turns"]["0.003"]["0.3"], table["turn"] / math.sqrt(0.006)
    )


@pytest.mark.slow
def test_figures_and_summary_come_from_the_files(smoke):
    folder, results = smoke
    assert all(path.stat().st_size > 10_000 for path in scale_invariance.figures(folder))
    results = json.loads(json.dumps(results, default=np.ndarray.tolist))
    said = scale_invariance.summary(results)
    assert "weights times 4, rate times 16, decay over 16 0 (0 to 0)" in said[1]
