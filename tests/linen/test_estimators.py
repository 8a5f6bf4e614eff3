"""Estimators in the linen batch norms, against float64 NumPy."""

import copy
import pickle

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jaxnorm
from jaxnorm.functional import Update
from jaxnorm.linen import BatchNorm, GhostBatchNorm
from tests.linen.reference import relative_error, sample

EPS = float(jnp.finfo(jnp.float32).eps)
KEY = jax.random.key(0)
BATCHES = sample(3.0, (5, 16, 4)) * np.float32([1, 2, 3, 4, 5])[:, None, None]
WIDE = np.float64(BATCHES)
SHARES = 0.9 ** np.arange(4, -1, -1)
# name -> estimator, and the mean and variance that it has after the five batches.
ESTIMATORS = {
    "window": (jaxnorm.window(2), WIDE[-2:].mean((0, 1)), WIDE[-2:].var((0, 1))),
    "cumulative": (jaxnorm.cumulative(), WIDE.mean((0, 1)), WIDE.var((0, 1))),
    "debiased": (
        jaxnorm.debiased(0.9),
        SHARES @ WIDE.mean(1) / SHARES.sum(),
        SHARES @ WIDE.var(1) / SHARES.sum(),
    ),
    "guarded": (
        jaxnorm.guarded(jaxnorm.ema(0.9)),
        0.1 * SHARES @ WIDE.mean(1),
        0.9**5 + 0.1 * SHARES @ WIDE.var(1),
    ),
    "ema": (
        jaxnorm.ema(0.9),
        0.1 * SHARES @ WIDE.mean(1),
        0.9**5 + 0.1 * SHARES @ WIDE.var(1),
    ),
}
every_estimator = pytest.mark.parametrize("name", ESTIMATORS)


def norm_with(name, **fields):
    return BatchNorm(estimator=ESTIMATORS[name][0], **fields)


@jax.jit
def init(x):
    return BatchNorm(use_running_average=False).init(KEY, x)


def train(norm, variables, batches=BATCHES):
    """Returns the variables after one step for each batch, compiled."""

    @jax.jit
    def step(variables, x):
        apply = norm.apply(variables, x, use_running_average=False, mutable=["batch_stats"])
        return {**variables, **apply[1]}

    for x in batches:
        variables = step(variables, x)
    return variables


def assert_right(stats, name):
    _, mean, var = ESTIMATORS[name]
    assert relative_error(stats["mean"], mean) < 16 * EPS
    assert relative_error(stats["var"], var) < 16 * EPS


@every_estimator
def test_mean_and_var_are_what_the_estimator_reads(name):
    norm = norm_with(name)
    variables = train(norm, norm.init(KEY, BATCHES[0], use_running_average=False))
    assert_right(variables["batch_stats"], name)


@every_estimator
@pytest.mark.sampled(2)
def test_an_evaluating_flax_model_reads_the_same_statistics(name):
    norm = norm_with(name)
    variables = train(norm, norm.init(KEY, BATCHES[0], use_running_average=False))
    y = norm.apply(variables, BATCHES[0], use_running_average=True)
    mean_and_var = {n: variables["batch_stats"][n] for n in ("mean", "var")}
    theirs = nn.BatchNorm(use_running_average=True).apply(
        {**variables, "batch_stats": mean_and_var}, BATCHES[0]
    )
    _, mean, var = ESTIMATORS[name]
    assert relative_error(y, (WIDE[0] - mean) / np.sqrt(var + 1e-5)) < 64 * EPS
    assert relative_error(theirs, np.asarray(y)) < 64 * EPS


@every_estimator
@pytest.mark.parametrize("use_running_average", [True, False])
@pytest.mark.sampled(6)
def test_init_in_either_mode_gives_the_identity_statistics(name, use_running_average):
    norm = norm_with(name)
    variables = norm.init(KEY, BATCHES[0], use_running_average=use_running_average)
    y = norm.apply(variables, BATCHES[0], use_running_average=True)
    assert_allclose(y, BATCHES[0] / np.sqrt(1 + 1e-5), rtol=4 * EPS)
    assert ("estimator_state" in variables["batch_stats"]) == (name != "ema")
    assert_right(train(norm, variables)["batch_stats"], name)


@every_estimator
@pytest.mark.sampled(2)
def test_training_goes_on_from_a_checkpoint(name, tmp_path):
    norm = norm_with(name)
    start = norm.init(KEY, BATCHES[0], use_running_average=False)
    half = train(norm, start, BATCHES[:3])
    raw = flax.serialization.from_bytes(start, flax.serialization.to_bytes(half))
    pickled = pickle.loads(pickle.dumps(half))
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "step", half)
        checkpointer.wait_until_finished()
        saved = checkpointer.restore(tmp_path / "step", start)
    for restored in (raw, pickled, saved):
        assert jax.tree.structure(restored) == jax.tree.structure(half)
        assert_right(train(norm, restored, BATCHES[3:])["batch_stats"], name)


def test_statistics_of_flax_serve_without_the_state_of_an_estimator():
    variables = train(nn.BatchNorm(momentum=0.9), init(BATCHES[0]))
    y = norm_with("window").apply(variables, BATCHES[0], use_running_average=True)
    _, mean, var = ESTIMATORS["ema"]
    assert relative_error(y, (WIDE[0] - mean) / np.sqrt(var + 1e-5)) < 64 * EPS


def test_a_feature_without_samples_keeps_the_statistics_of_a_checkpoint():
    variables = init(BATCHES[0])
    variables["batch_stats"]["mean"] = jnp.full(4, 7.0)
    mask = np.array([False, True, True, True])
    _, updated = norm_with("cumulative").apply(
        variables, BATCHES[0], use_running_average=False, mask=mask, mutable=["batch_stats"]
    )
    mean = updated["batch_stats"]["mean"]
    assert mean[0] == 7.0
    assert_allclose(mean[1:], WIDE[0].mean(0)[1:], rtol=4 * EPS)


def test_ghost_batch_norm_takes_in_the_whole_batch():
    norm = GhostBatchNorm(ghost_batch_size=4, estimator=jaxnorm.cumulative())
    variables = train(norm, norm.init(KEY, BATCHES[0], use_running_average=False))
    assert_right(variables["batch_stats"], "cumulative")


@every_estimator
@pytest.mark.sampled(2)
def test_collected_moments_make_one_exact_update(name):
    norm = norm_with(name, use_running_average=False)
    variables = norm.init(KEY, BATCHES[0])
    for x in BATCHES:
        moments = {}
        for part in (x[:4], x[4:]):
            _, updated = norm.apply({**variables, **moments}, part, mutable=["batch_moments"])
            moments = {"batch_moments": updated["batch_moments"]}
        collected = moments["batch_moments"]
        assert collected["update"] == Update(norm.estimator) and "decay" not in collected
        stats = collected["update"](variables["batch_stats"], collected["moments"])
        assert jax.tree.structure(stats) == jax.tree.structure(variables["batch_stats"])
        variables = {**variables, "batch_stats": stats}
    assert_right(variables["batch_stats"], name)


def test_a_shared_window_over_shards_is_that_of_the_whole_batch():
    norm = norm_with("window", use_running_average=False, axis_name="shards")
    variables = norm.init(KEY, BATCHES[0])
    shards = BATCHES.reshape(5, 2, 8, 4)

    @jax.jit
    def step(variables, x):
        step = jax.vmap(
            lambda x: norm.apply(variables, x, mutable=["batch_stats"])[1], axis_name="shards"
        )
        return {**variables, **jax.tree.map(lambda v: v[0], step(x))}

    for x in shards:
        variables = step(variables, x)
    assert_right(variables["batch_stats"], "window")


@every_estimator
def test_modules_with_estimators_pickle_copy_and_compare(name):
    norm = norm_with(name)
    assert pickle.loads(pickle.dumps(norm)) == copy.deepcopy(norm) == norm == norm.clone()
    assert hash(copy.deepcopy(norm)) == hash(norm)
    x = BATCHES[0]
    variables = norm.init(KEY, x, use_running_average=False)
    assert_array_equal(
        copy.deepcopy(norm).apply(variables, x, use_running_average=True),
        norm.apply(variables, x, use_running_average=True),
    )


def test_modules_of_equal_arguments_are_equal():
    made = [BatchNorm(estimator=jaxnorm.guarded(jaxnorm.window(n))) for n in (8, 8, 9)]
    assert made[0] == made[1] != made[2] and hash(made[0]) == hash(made[1])
    for norm in (BatchNorm(momentum=0.5), GhostBatchNorm(ghost_batch_size=2)):
        assert pickle.loads(pickle.dumps(norm)) == norm
