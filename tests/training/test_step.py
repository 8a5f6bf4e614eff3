"""Train and eval steps against NumPy, and what a refused step leaves."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, PartitionSpec

from jaxnorm.training import (
    create_train_state,
    cross_entropy,
    make_eval_step,
    make_train_step,
)
from tests.training.digits import (
    BATCH,
    DECAY,
    MODEL,
    STEP,
    TX,
    batch_norm,
    bits,
    digits,
    rows,
    small_model,
    start,
)

EPS = np.finfo(np.float32).eps
EVAL = make_eval_step(MODEL, cross_entropy)


def trained(state) -> list[bytes]:
    """Returns the bits of all that an optimizer step changes."""
    return bits((state.params, state.batch_stats, state.opt_state))


def hidden(params) -> np.ndarray:
    """Returns the input of the norm of `small_model` for the batch, in float64."""
    flat = BATCH["inputs"].reshape(32, -1).astype(np.float64)
    return flat @ np.asarray(params["hidden_0"]["kernel"], np.float64)


def test_step_of_a_linear_model_is_gradient_descent_by_hand():
    model, tx = nn.Dense(10), optax.sgd(0.5)
    batch = {"inputs": BATCH["inputs"].reshape(32, 64), "labels": BATCH["labels"]}
    params = {"kernel": start().params["hidden_0"]["kernel"][:, :10], "bias": jnp.zeros(10)}
    state = start()._replace(params=params, batch_stats={}, opt_state=tx.init(params))
    kernel = np.asarray(state.params["kernel"], np.float64)
    logits = batch["inputs"].astype(np.float64) @ kernel
    softmax = np.exp(logits) / np.sum(np.exp(logits), axis=1, keepdims=True)
    error = (softmax - np.eye(10)[batch["labels"]]) / 32
    new, _ = make_train_step(model, tx, cross_entropy, donate=False)(state, batch)
    bound = 8 * EPS * np.sqrt(64)
    want = kernel - 0.5 * batch["inputs"].T @ error
    np.testing.assert_allclose(new.params["kernel"], want, rtol=0, atol=bound * np.abs(want).max())
    np.testing.assert_allclose(new.params["bias"], -0.5 * error.sum(0), rtol=0, atol=bound)


def test_step_moves_the_running_statistics_once():
    x = hidden(start().params)
    new, _ = STEP(start(), BATCH)
    stats = new.batch_stats["norm_0"]
    rtol = 8 * EPS * np.sqrt(32) / (1 - DECAY)
    np.testing.assert_allclose(stats["mean"], (1 - DECAY) * x.mean(0), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(stats["var"], DECAY + (1 - DECAY) * x.var(0), rtol=rtol)


def test_eval_step_uses_the_running_statistics():
    moved = {"norm_0": {"mean": jnp.full(12, 0.3), "var": jnp.full(12, 2.0)}}
    state = start()._replace(batch_stats=moved)
    normalized = (hidden(state.params) - 0.3) / np.sqrt(2.0 + 1e-5)
    logits = np.tanh(normalized) @ np.asarray(state.params["output"]["kernel"], np.float64)
    nats = np.log(np.sum(np.exp(logits), 1)) - logits[np.arange(32), BATCH["labels"]]
    metrics = EVAL(state, BATCH)
    np.testing.assert_allclose(metrics["loss"], nats.mean(), rtol=16 * EPS * np.sqrt(64))
    np.testing.assert_allclose(metrics["accuracy"], np.mean(logits.argmax(1) == BATCH["labels"]))


def test_eval_step_changes_nothing():
    before = bits(start())
    EVAL(start(), BATCH)
    assert bits(start()) == before


def test_training_on_digits_learns_them():
    data, state = digits(), start()
    for i in range(400):
        at = 32 * (i % 40)
        state, _ = STEP(state, rows(data, at, at + 32))
    metrics = EVAL(state, rows(data, 1300, 1797))
    # Chance is 0.1 and 2.3 nats; a linear classifier reaches about 0.9 on these rows.
    assert metrics["accuracy"] > 0.85
    assert metrics["loss"] < 0.6


POISONS = {
    "nan_in_the_batch": lambda x: x.at[3].set(jnp.nan),
    "infinity_in_the_batch": lambda x: x.at[3, 0].set(jnp.inf),
    "variance_that_overflows": lambda x: x * 1e25,
}


@pytest.mark.parametrize("case", POISONS)
def test_step_that_is_not_finite_leaves_all_of_the_state(case):
    state, metrics = STEP(start(), BATCH)
    assert metrics["skipped"] == 0
    bad = {**BATCH, "inputs": POISONS[case](jnp.asarray(BATCH["inputs"]))}
    new, metrics = STEP(state, bad)
    assert metrics["skipped"] == 1
    assert trained(new) == trained(state)
    assert (int(new.step), int(new.skipped)) == (2, 1)


def test_update_that_overflows_is_refused():
    tx = optax.chain(optax.trace(0.9), optax.scale(-3e38), optax.scale(1e5))
    step = make_train_step(MODEL, tx, cross_entropy, donate=False)
    new, metrics = step(start(MODEL, tx), BATCH)
    assert metrics["skipped"] == 1
    assert trained(new) == trained(start(MODEL, tx))


def test_training_goes_on_after_a_refused_step():
    first, _ = STEP(start(), BATCH)
    refused, _ = STEP(first, {**BATCH, "inputs": BATCH["inputs"] * np.nan})
    after, metrics = STEP(refused, BATCH)
    assert (int(metrics["skipped"]), int(after.skipped)) == (0, 1)
    assert bits(after.params) == bits(STEP(first, BATCH)[0].params)


def test_infinity_that_an_optimizer_keeps_on_purpose_is_no_reason_to_refuse():
    best = optax.GradientTransformation(
        lambda params: jnp.inf * jnp.ones(()), lambda g, s, p=None: (g, s)
    )
    tx = optax.chain(best, optax.sgd(0.1))
    step = make_train_step(MODEL, tx, cross_entropy, donate=False)
    _, metrics = step(start(MODEL, tx), BATCH)
    assert metrics["skipped"] == 0


def test_guard_can_be_turned_off():
    step = make_train_step(MODEL, TX, cross_entropy, guard_non_finite=False, donate=False)
    new, metrics = step(start(), {**BATCH, "inputs": BATCH["inputs"] * np.nan})
    assert "skipped" not in metrics
    assert np.isnan(new.params["output"]["bias"]).all()


def test_dropout_differs_from_step_to_step_and_repeats_from_the_same_state():
    model, tx = small_model(norm=None, dropout_rate=0.5), optax.sgd(0.0)
    step = make_train_step(model, tx, cross_entropy, donate=False)
    state = start(model, tx)
    second, first_loss = step(state, BATCH)
    assert step(state, BATCH)[1]["loss"] == first_loss["loss"]
    assert step(second, BATCH)[1]["loss"] != first_loss["loss"]


def test_augmentation_gets_a_new_key_at_each_step():
    def noise(key, batch):
        return {**batch, "noise": jax.random.normal(key)}

    def loss_fn(output, batch):
        return jnp.mean(output), {"noise": batch["noise"]}

    step = make_train_step(MODEL, TX, loss_fn, augment=noise, donate=False)
    state, first = step(start(), BATCH)
    _, second = step(state, BATCH)
    assert first["noise"] != second["noise"]


def test_inputs_are_picked_out_of_the_batch():
    picked = make_train_step(
        MODEL, TX, cross_entropy, inputs=lambda batch: batch["inputs"] / 2, donate=False
    )
    _, got = picked(start(), BATCH)
    _, want = STEP(start(), {**BATCH, "inputs": BATCH["inputs"] / 2})
    assert got["loss"] == want["loss"]


@pytest.mark.parametrize(
    ("check_vma", "accumulate_steps"),
    [
        (True, 2),
        *(pytest.param(*pair, marks=pytest.mark.nightly) for pair in ((True, 1), (False, 1))),
    ],
)
def test_sharded_step_equals_the_step_on_the_whole_batch(check_vma, accumulate_steps):
    norm = functools.partial(batch_norm, axis_name="data")
    whole, _ = STEP(start(), BATCH)
    step = make_train_step(
        small_model(norm), TX, cross_entropy, axis_name="data", accumulate_steps=accumulate_steps
    )
    sharded_step = jax.shard_map(
        step,
        mesh=jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,)),
        in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec(),
        check_vma=check_vma,
    )
    sharded, metrics = jax.jit(sharded_step)(start(), BATCH)
    assert metrics["skipped"] == 0
    compared = ("batch_stats",) if accumulate_steps > 1 else ("batch_stats", "params")
    for part in compared:
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=64 * EPS, atol=64 * EPS),
            getattr(sharded, part),
            getattr(whole, part),
        )


class Powers(nn.Module):
    """A model whose statistics overflow long before its output and gradient do."""

    @nn.compact
    def __call__(self, x, *, train=False):
        power = self.variable("batch_stats", "power", jnp.zeros, ())
        if train:
            power.value = jnp.mean(x**9)
        return nn.Dense(10)(jnp.tanh(x.reshape(len(x), -1)))


def test_statistics_that_overflow_on_one_shard_refuse_the_step_on_all():
    model = Powers()
    step = make_train_step(model, TX, cross_entropy, axis_name="data", donate=False)
    shards = jax.tree.map(lambda a: a.reshape(4, 8, *a.shape[1:]), BATCH)
    on_shards = functools.partial(jax.vmap(step, in_axes=(None, 0), axis_name="data"), start(model))
    _, metrics = on_shards(shards)
    np.testing.assert_array_equal(metrics["skipped"], [0, 0, 0, 0])
    scale = np.array([1, 1, 1e5, 1], np.float32).reshape(4, 1, 1, 1, 1)
    new, metrics = on_shards({**shards, "inputs": shards["inputs"] * scale})
    np.testing.assert_array_equal(metrics["skipped"], [1, 1, 1, 1])
    assert np.isfinite(metrics["loss"]).all()
    for shard in range(4):
        assert trained(jax.tree.map(lambda a, i=shard: a[i], new)) == trained(start(model))


def test_loss_that_is_no_scalar_is_refused_with_its_shape():
    step = make_train_step(MODEL, TX, lambda logits, batch: (logits, {}), donate=False)
    with pytest.raises(ValueError, match=r"\[32, 10\]"):
        step(start(), BATCH)


def test_loss_without_metrics_is_refused_with_a_remedy():
    step = make_train_step(MODEL, TX, lambda logits, batch: logits.mean(), donate=False)
    with pytest.raises(TypeError, match=r"return \(loss, \{\}\) where there are no metrics"):
        step(start(), BATCH)


def test_accumulation_over_no_step_is_refused():
    with pytest.raises(ValueError, match="accumulate_steps=0"):
        make_train_step(MODEL, TX, cross_entropy, accumulate_steps=0)


def test_entries_that_a_batch_lacks_are_named_with_those_it_has():
    model = nn.Dense(2)
    batch = {"image": jnp.ones((2, 2)), "inputs": jnp.ones((2, 2))}
    state = create_train_state(model, jax.random.key(0), batch["inputs"], optax.sgd(0.1))
    step = make_train_step(model, optax.sgd(0.1), cross_entropy, donate=False)
    with pytest.raises(ValueError, match=r"entry 'inputs', but is \['image'\]; .*inputs=lambda"):
        step(state, {"image": batch["image"]})
    with pytest.raises(ValueError, match=r"entry 'labels', but is \['image', 'inputs'\]"):
        step(state, batch)
    with pytest.raises(ValueError, match=r"entry 'inputs', but is tuple"):
        make_eval_step(model, cross_entropy)(state, (batch["image"], batch["inputs"]))


@pytest.mark.parametrize("make", [make_eval_step, lambda m, f: make_train_step(m, optax.sgd(1), f)])
def test_what_is_no_model_is_refused_when_the_step_is_made(make):
    with pytest.raises(TypeError, match="class Dense; make an instance"):
        make(nn.Dense, cross_entropy)
    with pytest.raises(TypeError, match="got method"):
        make(nn.Dense(2).apply, cross_entropy)
