"""Estimators in the nnx batch norms, against float64 NumPy."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest
from flax import nnx
from numpy.testing import assert_allclose

import jaxnorm
from jaxnorm.nnx import BatchNorm, GhostBatchNorm
from tests.linen.reference import relative_error
from tests.linen.test_estimators import BATCHES, ESTIMATORS, WIDE, every_estimator

EPS = float(jnp.finfo(jnp.float32).eps)


def norm_with(name, features=4, **fields):
    return BatchNorm(features, estimator=ESTIMATORS[name][0], rngs=nnx.Rngs(0), **fields)


@nnx.jit
def step(norm, x):
    return norm(x)


def train(norm, batches=BATCHES):
    for x in batches:
        step(norm, x)
    return norm


def assert_right(norm, name):
    _, mean, var = ESTIMATORS[name]
    assert relative_error(np.ravel(norm.mean[...]), mean) < 16 * EPS
    assert relative_error(np.ravel(norm.var[...]), var) < 16 * EPS


@every_estimator
def test_mean_and_var_are_what_the_estimator_reads_and_evaluation_uses(name):
    norm = train(norm_with(name))
    assert_right(norm, name)
    _, mean, var = ESTIMATORS[name]
    norm.eval()
    assert relative_error(norm(BATCHES[0]), (WIDE[0] - mean) / np.sqrt(var + 1e-5)) < 64 * EPS
    assert_right(norm, name)


@every_estimator
def test_evaluation_before_training_is_the_identity_statistics(name):
    norm = norm_with(name, use_running_average=True)
    assert_allclose(norm(BATCHES[0]), BATCHES[0] / np.sqrt(1 + 1e-5), rtol=4 * EPS)
    assert hasattr(norm, "estimator_state") == (name != "ema")


@every_estimator
def test_flat_statistics_serve_several_feature_axes(name):
    norm = norm_with(name, axis=(1, 3))
    train(norm, BATCHES.reshape(5, 16, 2, 1, 2))
    assert_right(norm, name)


@every_estimator
@pytest.mark.sampled(4)
def test_training_goes_on_from_a_checkpoint(name, tmp_path):
    half = train(norm_with(name), BATCHES[:3])
    graphdef, state = nnx.split(half)
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "step", nnx.to_pure_dict(state))
        checkpointer.wait_until_finished()
        saved = checkpointer.restore(tmp_path / "step", nnx.to_pure_dict(state))
    restored = nnx.state(norm_with(name))
    nnx.replace_by_pure_dict(restored, saved)
    for model in (nnx.merge(graphdef, restored), copy.deepcopy(half), nnx.clone(half)):
        assert_right(train(model, BATCHES[3:]), name)


def test_nnx_scan_carries_the_state_of_an_estimator():
    norm = norm_with("window")

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    def steps(norm, x):
        return norm, norm(x)

    steps(norm, BATCHES)
    assert_right(norm, "window")


def test_the_state_of_an_estimator_is_a_constant_for_derivatives():
    def loss(x):
        norm = norm_with("window")
        norm(x)
        return sum(jnp.sum(v) for v in jax.tree.leaves(nnx.state(norm, nnx.BatchStat)))

    gradient = jax.grad(loss, allow_int=True)(BATCHES[0])
    np.testing.assert_array_equal(gradient, np.zeros((16, 4)))


def test_ghost_batch_norm_takes_in_the_whole_batch():
    norm = GhostBatchNorm(4, ghost_batch_size=4, estimator=jaxnorm.cumulative(), rngs=nnx.Rngs(0))
    assert_right(train(norm), "cumulative")


@pytest.mark.parametrize("update_stats", [True, False])
def test_a_view_says_whether_the_statistics_move(update_stats):
    norm, x = BatchNorm(4, momentum=0.9, rngs=nnx.Rngs(0)), BATCHES[0]
    view = nnx.view(norm, update_stats=update_stats)
    assert relative_error(view(x), (WIDE[0] - WIDE[0].mean(0)) / WIDE[0].std(0)) < 1e-4
    assert_allclose(norm.mean[...], 0.1 * update_stats * WIDE[0].mean(0), rtol=4 * EPS)
    assert norm.update_stats is None


def test_the_view_of_a_model_describes_both_arguments():
    told = nnx.view_info(nnx.Sequential(BatchNorm(4, rngs=nnx.Rngs(0))))
    assert "use_running_average: bool | None = None\n" in told
    assert "update_stats: bool | None = None\n" in told
    assert "whether the batch updates them" in told


@every_estimator
def test_modules_pickle_copy_and_have_equal_definitions(name):
    norm, x = norm_with(name), BATCHES[0]
    assert nnx.graphdef(norm_with(name)) == nnx.graphdef(norm)
    norm(x)
    norm.eval()
    for other in (pickle.loads(pickle.dumps(norm)), copy.deepcopy(norm)):
        assert nnx.graphdef(other) == nnx.graphdef(norm)
        np.testing.assert_array_equal(other(x), norm(x))


def test_a_guarded_norm_leaves_out_a_batch_with_an_infinite_entry():
    x = BATCHES[0].copy()
    x[0, 0] = np.inf
    norm, plain = norm_with("guarded"), norm_with("ema")
    for each in (norm, plain):
        step(each, x)
        step(each, BATCHES[1])
    assert not np.isfinite(plain.mean[0])
    assert_allclose(norm.mean[...], 0.1 * WIDE[1].mean(0), rtol=1e-5)
    assert int(norm.estimator_state.skipped[...]) == 1
