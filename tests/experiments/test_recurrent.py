"""An LSTM with statistics per time step and shared over time."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import recurrent
from experiments._tables import read_table, select
from jaxnorm.training import TrainState


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(recurrent)


@pytest.mark.slow
def test_every_norm_learns_and_shared_statistics_lose(smoke):
    accuracy = {
        norm: np.mean(values)
        for norm, values in smoke[1]["orders"]["sequential"]["test_accuracy"].items()
    }
    assert min(accuracy[norm] for norm in ("none", "layer", recurrent.PER_STEP)) > 0.7
    assert accuracy[recurrent.SHARED] < accuracy[recurrent.PER_STEP] - 0.1


@pytest.mark.slow
def test_sharing_no_step_is_evaluation_per_step(smoke):
    folder, results = smoke
    shared = select(read_table(folder / "shared.csv"), places="all")
    whole = select(shared, kept=float(shared["kept"].max()))
    want = results["orders"]["sequential"]["test_accuracy"][recurrent.PER_STEP]
    np.testing.assert_allclose(whole["test_accuracy"], want)


@pytest.mark.slow
def test_the_pictures_are_made_from_the_tables(smoke):
    names = [path.name for path in recurrent.figures(smoke[0])]
    assert names == ["accuracy.png", "statistics_sequential.png"]


def states_with(statistics):
    stats = {"lstm": {"cell": {"norm_input": {"mean": jnp.asarray(statistics)}}}}
    return TrainState(jnp.zeros(1), {}, stats, (), jnp.zeros(1), ())


def test_later_steps_share_their_mean():
    states = states_with(np.arange(4.0).reshape(1, 1, 4, 1))  # [S, T, steps, features]
    cut = recurrent.with_statistics(states, kept=2)
    got = cut.batch_stats["lstm"]["cell"]["norm_input"]["mean"]
    np.testing.assert_array_equal(got.ravel(), [0, 2, 2, 2])


def test_other_places_keep_their_statistics():
    states = states_with(np.arange(4.0).reshape(1, 1, 4, 1))
    cut = recurrent.with_statistics(states, kept=1, places=("norm_cell",))
    got = cut.batch_stats["lstm"]["cell"]["norm_input"]["mean"]
    np.testing.assert_array_equal(got.ravel(), np.arange(4))
