"""Steps of nnx models are those of the linen models with the same variables, state and all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, PartitionSpec

import jaxnorm.models.nnx
import jaxnorm.nnx
from jaxnorm.stats import cumulative
from jaxnorm.surgery import freeze, get_variables, with_variables
from jaxnorm.training import (
    create_train_state,
    cross_entropy,
    make_eval_step,
    make_evaluation,
    make_scan_steps,
    make_train_step,
    restore_checkpoint,
    save_checkpoint,
)
from tests.training.digits import BATCH, DECAY, MODEL, STEP, TX, bits, digits, rows, start

EPS = np.finfo(np.float32).eps
batch_norm = functools.partial(jaxnorm.nnx.BatchNorm, momentum=DECAY)


def in_nnx(norm=batch_norm, seed=5, **fields):
    """Returns the network of `small_model` in nnx; the values of its variables are others."""
    return jaxnorm.models.nnx.MLP(
        64, (12,), 10, norm=norm, activation=jnp.tanh, rngs=nnx.Rngs(seed), **fields
    )


NNX = in_nnx()
NNX_STEP = make_train_step(NNX, TX, cross_entropy, donate=False)
NNX_EVAL = make_eval_step(NNX, cross_entropy)
DATA = jax.tree.map(jnp.asarray, rows(digits(), 0, 100))


def assert_close(got, want, eps=64):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    close = functools.partial(np.testing.assert_allclose, rtol=eps * EPS, atol=eps * EPS)
    jax.tree.map(close, got, want)


def trained(state):
    """Returns all that an optimizer step changes."""
    return state.params, state.batch_stats, state.opt_state


def test_a_step_is_that_of_linen_and_leaves_the_model():
    before = bits(get_variables(NNX))
    (got, metrics), (want, of_linen) = (step(start(), BATCH) for step in (NNX_STEP, STEP))
    assert_close(trained(got), trained(want))
    assert_close(metrics, of_linen)
    assert bits(get_variables(NNX)) == before


def test_a_step_that_is_not_finite_leaves_all_of_the_state():
    state, _ = NNX_STEP(start(), BATCH)
    new, metrics = NNX_STEP(state, {**BATCH, "inputs": BATCH["inputs"] * 1e25})
    assert (int(metrics["skipped"]), int(new.skipped), int(new.step)) == (1, 1, 2)
    assert bits(trained(new)) == bits(trained(state))


@pytest.mark.parametrize("estimator", [cumulative(), pytest.param(None, marks=pytest.mark.nightly)])
def test_accumulation_updates_once_by_the_moments_of_the_whole_batch(estimator):
    model = in_nnx(functools.partial(batch_norm, estimator=estimator))
    state = create_train_state(model, jax.random.key(0), TX)
    kernel = np.asarray(state.params["hidden_0"]["kernel"], np.float64)
    x = BATCH["inputs"].reshape(32, -1) @ kernel
    step = make_train_step(model, TX, cross_entropy, accumulate_steps=4, donate=False)
    new, _ = step(state, BATCH)
    decay = 0 if estimator else DECAY
    found = new.batch_stats["norm_0"]
    assert_close(found["mean"], np.float32((1 - decay) * x.mean(0)))
    assert_close(found["var"], np.float32(decay + (1 - decay) * x.var(0)))


def test_evaluation_uses_the_running_statistics_and_is_that_of_linen():
    state = start()._replace(
        batch_stats={"norm_0": {"mean": jnp.full(12, 0.3), "var": jnp.full(12, 2.0)}}
    )
    want = make_evaluation(make_eval_step(MODEL, cross_entropy), batch_size=64)(state, DATA)
    assert_close(make_evaluation(NNX_EVAL, batch_size=64)(state, DATA), want)


@pytest.mark.nightly
def test_a_scan_takes_the_steps_of_a_loop_and_a_resumed_one_ends_with_the_same_bits(tmp_path):
    model = in_nnx(dropout_rate=0.2)
    step = make_train_step(model, TX, cross_entropy, donate=False)
    train = make_scan_steps(step, batch_size=32, num_steps=3, donate=False)
    half, metrics = train(start(), DATA)
    whole, _ = train(half, DATA)
    assert metrics["loss"].shape == (3,) and int(half.step) == 3
    save_checkpoint(tmp_path, half)
    restored = restore_checkpoint(tmp_path, create_train_state(model, jax.random.key(9), TX))
    assert bits(restored) == bits(half)
    assert bits(train(restored, DATA)[0]) == bits(whole)


def test_a_model_is_saved_and_restored_with_its_random_streams(tmp_path):
    model = in_nnx(dropout_rate=0.5)
    model(BATCH["inputs"])
    save_checkpoint(tmp_path, model, step=1)
    template = in_nnx(dropout_rate=0.5, seed=7)
    template.eval()
    restored = restore_checkpoint(tmp_path, template)
    assert bits(get_variables(restored)) == bits(get_variables(model))
    assert restored.dropout.deterministic and bits(get_variables(template)) != bits(
        get_variables(model)
    )


def test_dropout_differs_from_step_to_step_and_repeats_from_the_same_state():
    model, tx = in_nnx(dropout_rate=0.5), optax.sgd(0.0)
    step = make_train_step(model, tx, cross_entropy, donate=False)
    state = create_train_state(model, jax.random.key(0), tx)
    second, first_loss = step(state, BATCH)
    assert step(state, BATCH)[1]["loss"] == first_loss["loss"]
    assert step(second, BATCH)[1]["loss"] != first_loss["loss"]


def test_the_state_of_a_model_shares_no_buffer_with_it():
    model = in_nnx()
    state = create_train_state(model, jax.random.key(0), TX)
    assert bits(state.variables) == bits(get_variables(in_nnx()))
    state, _ = make_train_step(model, TX, cross_entropy)(state, BATCH)
    trained = with_variables(model, state.variables)
    logits = [np.asarray(each(BATCH["inputs"])) for each in (model, trained)]
    assert np.isfinite(logits).all() and np.abs(logits[0] - logits[1]).max() > 0.01


def test_stacked_seeds_train_at_once_under_vmap():
    states = [create_train_state(in_nnx(seed=seed), jax.random.key(seed), TX) for seed in (0, 1)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    got, _ = jax.vmap(NNX_STEP, in_axes=(0, None))(stacked, BATCH)
    want, _ = NNX_STEP(states[1], BATCH)
    assert_close(jax.tree.map(lambda leaf: leaf[1], trained(got)), trained(want))


def test_training_moves_everything_but_frozen_norms():
    model, tx = freeze(in_nnx(), optax.adamw(0.1, weight_decay=0.1))
    state = create_train_state(model, jax.random.key(0), tx)
    new, _ = make_train_step(model, tx, cross_entropy, donate=False)(state, BATCH)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), new.variables, state.variables)
    assert not any(jax.tree.leaves([moved["batch_stats"], moved["params"]["norm_0"]]))
    assert all(jax.tree.leaves([moved["params"]["hidden_0"], moved["params"]["output"]]))


class Counting(nnx.Module):
    """A module with a variable that no train state carries, and a mode that its call is told."""

    def __init__(self):
        self.calls = nnx.Cache(jnp.zeros(()))

    def __call__(self, x, train):
        return x * train


def test_other_variables_and_missing_arguments_are_refused():
    with pytest.raises(ValueError, match=r"Counting has variables in \['cache'\]"):
        create_train_state(Counting(), jax.random.key(0), TX)
    with pytest.raises(TypeError, match="got no tx"):
        create_train_state(MODEL, jax.random.key(0), TX)
    with pytest.raises(TypeError, match=r"of an nnx model takes \(model, rng, tx\), got a sample"):
        create_train_state(NNX, jax.random.key(0), DATA["inputs"][:1], TX)


@pytest.mark.parametrize("accumulate_steps", [2, pytest.param(1, marks=pytest.mark.nightly)])
def test_a_sharded_step_equals_the_step_on_the_whole_batch(accumulate_steps):
    model = in_nnx(functools.partial(batch_norm, axis_name="data"))
    step = make_train_step(
        model, TX, cross_entropy, axis_name="data", accumulate_steps=accumulate_steps
    )
    sharded_step = jax.shard_map(
        step,
        mesh=jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,)),
        in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec(),
    )
    sharded, metrics = jax.jit(sharded_step)(start(), BATCH)
    whole, _ = STEP(start(), BATCH)
    assert metrics["skipped"] == 0
    assert_close(sharded.batch_stats, whole.batch_stats)
    if accumulate_steps == 1:
        assert_close(sharded.params, whole.params)
