"""Many steps per dispatch against one by one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.training import cross_entropy, make_eval_step, make_evaluation, make_scan_steps
from jaxnorm.training._loops import slow_in_loops
from jaxnorm.training._order import batch_rows
from tests.training.digits import MODEL, STEP, bits, digits, rows, start

EPS = np.finfo(np.float32).eps
DATA = jax.tree.map(jnp.asarray, rows(digits(), 0, 100))
EVAL = make_eval_step(MODEL, cross_entropy)


@functools.cache
def scan(num_steps=None):
    return make_scan_steps(STEP, batch_size=32, num_steps=num_steps, donate=False)


def test_scanned_steps_equal_a_loop_over_the_same_rows():
    state, losses = start(), []
    for at in np.asarray(batch_rows(state.rng, 0, size=100, batch_size=32, steps=8)):
        state, metrics = STEP(state, jax.tree.map(lambda a, at=at: a[at], DATA))
        losses.append(metrics["loss"])
    scanned, metrics = scan(8)(start(), DATA)
    np.testing.assert_allclose(metrics["loss"], losses, rtol=256 * EPS)
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, rtol=0, atol=256 * EPS),
        scanned.params,
        state.params,
    )


def test_runs_cut_into_pieces_take_the_same_steps_bit_for_bit():
    four = scan(4)
    pieces, _ = four(four(start(), DATA)[0], DATA)
    assert bits(pieces) == bits(scan(8)(start(), DATA)[0])


def test_call_without_a_number_of_steps_takes_an_epoch():
    _, metrics = jax.eval_shape(scan(), start(), DATA)
    assert metrics["loss"].shape == (3,)


def test_one_dispatch_per_step_takes_the_same_steps_as_a_scan():
    loop = make_scan_steps(STEP, batch_size=32, num_steps=8, scan=False, donate=False)
    got, got_metrics = loop(start(), DATA)
    want, want_metrics = scan(8)(start(), DATA)
    np.testing.assert_allclose(got_metrics["loss"], want_metrics["loss"], rtol=256 * EPS)
    np.testing.assert_array_equal(got_metrics["skipped"], np.zeros(8))
    assert (int(got.step), bits(got.rng)) == (8, bits(want.rng))
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, rtol=0, atol=256 * EPS),
        got.params,
        want.params,
    )


@pytest.mark.nightly
def test_seeds_train_at_once_under_vmap_as_one_by_one():
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), start(seed=0), start(seed=1))
    got, metrics = jax.vmap(scan(8), in_axes=(0, None))(stacked, DATA)
    assert metrics["loss"].shape == (2, 8)
    for seed in (0, 1):
        want, _ = scan(8)(start(seed=seed), DATA)
        jax.tree.map(
            lambda got, want, seed=seed: np.testing.assert_allclose(
                got[seed], want, rtol=0, atol=256 * EPS
            ),
            got.params,
            want.params,
        )


def test_convolutions_are_kept_out_of_loops_on_a_cpu():
    image, kernel = jnp.ones((1, 1, 4, 4)), jnp.ones((1, 1, 3, 3))

    @jax.jit
    def conv(x, k):
        return jax.lax.conv(x, k, (1, 1), "SAME")

    dense = jax.make_jaxpr(jnp.matmul)(jnp.ones((2, 2)), jnp.ones((2, 2)))
    assert slow_in_loops(jax.make_jaxpr(conv)(image, kernel)) == (jax.default_backend() == "cpu")
    assert not slow_in_loops(dense)


@pytest.mark.parametrize("batch_size", [7, 200])
def test_evaluation_in_batches_is_the_mean_over_all_rows(batch_size):
    state = start()
    logits = np.asarray(MODEL.apply(state.variables, DATA["inputs"]), np.float64)
    nats = np.log(np.sum(np.exp(logits), 1)) - logits[np.arange(100), DATA["labels"]]
    metrics = make_evaluation(EVAL, batch_size=batch_size)(state, DATA)
    np.testing.assert_allclose(metrics["loss"], nats.mean(), rtol=32 * EPS)
    right = np.mean(np.argmax(logits, 1) == DATA["labels"])
    np.testing.assert_allclose(metrics["accuracy"], right, rtol=32 * EPS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_scan_steps(STEP, batch_size=0), "batch_size=0"),
        (lambda: make_scan_steps(STEP, batch_size=1, num_steps=0), "num_steps=0"),
        (lambda: make_evaluation(EVAL, batch_size=0), "batch_size=0"),
        (lambda: make_scan_steps(STEP, batch_size=101)(start(), DATA), "101 exceeds the 100"),
        (lambda: scan()(start(), {**DATA, "labels": jnp.zeros(3)}), r"\[100, 8, 8, 1\], \[3\]"),
        (lambda: make_evaluation(EVAL, batch_size=8)(start(), rows(DATA, 0, 0)), "no rows"),
    ],
)
def test_error_names_the_numbers(call, message):
    with pytest.raises(ValueError, match=message):
        call()
