"""Gradient accumulation: exact pooled statistics and one update per optimizer step."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.linen import BatchNorm
from jaxnorm.models import MLP
from jaxnorm.stats import Moments, cumulative
from jaxnorm.training import apply_batch_moments, cross_entropy, make_train_step
from tests.training.digits import (
    BATCH,
    DECAY,
    MODEL,
    STEP,
    TX,
    batch_norm,
    bits,
    small_model,
    start,
)

EPS = np.finfo(np.float32).eps
DEEP = MLP(features=(12, 6), num_outputs=10, norm=batch_norm, activation=nn.tanh)
MICRO = make_train_step(MODEL, TX, cross_entropy, accumulate_steps=4, donate=False)


def micro_batch(index: int) -> dict[str, np.ndarray]:
    return {name: array[index::4] for name, array in BATCH.items()}


def moved(mean, var) -> dict[str, np.ndarray]:
    """Returns the running statistics after one update from the identity."""
    return {"mean": (1 - DECAY) * mean, "var": DECAY + (1 - DECAY) * var}


def assert_stats(stats, want) -> None:
    """Compares statistics of 32 rows; a mean is as exact as its spread, which is below one."""
    for name in ("mean", "var"):
        np.testing.assert_allclose(stats[name], want[name], rtol=64 * EPS, atol=64 * EPS)


def test_running_statistics_move_once_by_the_moments_of_the_whole_batch():
    kernel = np.asarray(start().params["hidden_0"]["kernel"], np.float64)
    x = BATCH["inputs"].reshape(32, -1) @ kernel
    new, _ = MICRO(start(), BATCH)
    assert_stats(new.batch_stats["norm_0"], moved(x.mean(0), x.var(0)))


def test_an_estimator_of_the_layer_takes_in_the_whole_batch_once():
    model = small_model(functools.partial(BatchNorm, estimator=cumulative()))
    kernel = np.asarray(start(model).params["hidden_0"]["kernel"], np.float64)
    x = BATCH["inputs"].reshape(32, -1) @ kernel
    step = make_train_step(model, TX, cross_entropy, accumulate_steps=4, donate=False)
    new, _ = step(start(model), BATCH)
    assert_stats(new.batch_stats["norm_0"], {"mean": x.mean(0), "var": x.var(0)})


def test_deeper_statistics_are_of_micro_batches_normalized_on_their_own():
    state = start(DEEP)
    kernels = [np.asarray(state.params[f"hidden_{i}"]["kernel"], np.float64) for i in (0, 1)]
    deep = []
    for index in range(4):
        x = micro_batch(index)["inputs"].reshape(8, -1) @ kernels[0]
        x = np.tanh((x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5))
        deep.append(x @ kernels[1])
    x = np.concatenate(deep)
    step = make_train_step(DEEP, TX, cross_entropy, accumulate_steps=4, donate=False)
    new, _ = step(state, BATCH)
    assert_stats(new.batch_stats["norm_1"], moved(x.mean(0), x.var(0)))


def test_gradient_and_metrics_are_the_means_of_the_micro_batches():
    single = [STEP(start(), micro_batch(index)) for index in range(4)]
    new, metrics = MICRO(start(), BATCH)
    want = jax.tree.map(lambda *parts: np.mean(parts, axis=0), *[s.params for s, _ in single])
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, rtol=0, atol=32 * EPS),
        new.params,
        want,
    )
    for name in ("loss", "accuracy"):
        mean = np.mean([m[name] for _, m in single])
        np.testing.assert_allclose(metrics[name], mean, rtol=8 * EPS)


def test_without_norm_accumulation_changes_nothing():
    model = small_model(norm=None)
    whole = make_train_step(model, TX, cross_entropy, donate=False)
    parts = make_train_step(model, TX, cross_entropy, accumulate_steps=4, donate=False)
    want, _ = whole(start(model), BATCH)
    got, _ = parts(start(model), BATCH)
    assert got.batch_stats == {}
    jax.tree.map(
        lambda g, w: np.testing.assert_allclose(g, w, rtol=0, atol=32 * EPS),
        got.params,
        want.params,
    )


def test_one_bad_micro_batch_refuses_the_whole_step():
    bad = {**BATCH, "inputs": jnp.asarray(BATCH["inputs"]).at[5].set(jnp.nan)}
    new, metrics = MICRO(start(), bad)
    assert metrics["skipped"] == 1
    assert bits((new.params, new.batch_stats)) == bits((start().params, start().batch_stats))


def test_collection_that_is_handed_on_pools_a_chain_of_calls():
    state = start()
    moments = {}
    for part in np.split(BATCH["inputs"], [5, 20]):
        _, updated = MODEL.apply(
            {**state.variables, **moments}, part, train=True, mutable=["batch_moments"]
        )
        moments = {"batch_moments": updated["batch_moments"]}
    kernel = np.asarray(state.params["hidden_0"]["kernel"], np.float64)
    x = BATCH["inputs"].reshape(32, -1) @ kernel
    new = apply_batch_moments(state.batch_stats, moments["batch_moments"])
    assert_stats(new["norm_0"], moved(x.mean(0), x.var(0)))


def test_feature_without_samples_keeps_its_statistics():
    stats = {"norm": {"mean": jnp.array([1.0, 2.0]), "var": jnp.array([3.0, 4.0])}}
    batch = Moments(jnp.zeros(2), jnp.zeros(2), jnp.array([0.0, 8.0]))
    new = apply_batch_moments(stats, {"norm": {"moments": batch, "decay": jnp.array(0.5)}})
    np.testing.assert_array_equal(new["norm"]["mean"], [1.0, 1.0])
    np.testing.assert_array_equal(new["norm"]["var"], [3.0, 2.0])


def test_layer_that_collected_nothing_keeps_its_statistics():
    stats = {"norm": {"mean": jnp.ones(2), "var": jnp.ones(2)}}
    assert bits(apply_batch_moments(stats, {})) == bits(stats)


def test_moments_of_an_unknown_layer_are_refused_by_its_path():
    batch = Moments(jnp.zeros(2), jnp.zeros(2), jnp.ones(2))
    moments = {"block": {"norm": {"moments": batch, "decay": jnp.array(0.5)}}}
    with pytest.raises(ValueError, match="block/norm"):
        apply_batch_moments({"block": {}}, moments)


def test_batch_that_cannot_be_cut_evenly_is_refused():
    with pytest.raises(ValueError, match=r"accumulate_steps=4 .*\[30, 8, 8, 1\]"):
        MICRO(start(), {name: array[:30] for name, array in BATCH.items()})
