"""Estimators are values: equal arguments make one and the same estimator, in every process."""

import copy
import dataclasses
import functools
import itertools
import pickle
import re
import subprocess
import sys
from pathlib import Path

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from flax import nnx

from jaxnorm.stats import (
    BatchStats,
    Estimator,
    Moments,
    cumulative,
    debiased,
    ema,
    frozen,
    guarded,
    window,
)
from jaxnorm.stats._running import WindowState
from jaxnorm.surgery import average_of_batches
from tests.stats.programs import without_type_checks

# The call that makes each estimator -> the function that makes it again.
CALLS = {
    "ema(0.9)": lambda: ema(0.9),
    "ema(0.99)": ema,
    "ema(0.9, unbiased=True)": lambda: ema(0.9, unbiased=True),
    "debiased(0.9)": lambda: debiased(0.9),
    "debiased(0.9, unbiased=True)": lambda: debiased(0.9, unbiased=True),
    "cumulative()": cumulative,
    "cumulative(unbiased=True)": lambda: cumulative(unbiased=True),
    "window(8)": lambda: window(8),
    "window(9)": lambda: window(9),
    "window(8, unbiased=True)": lambda: window(8, unbiased=True),
    "guarded(ema(0.9))": lambda: guarded(ema(0.9)),
    "guarded(ema(0.99, unbiased=True))": lambda: guarded(ema(0.99, unbiased=True)),
    "frozen(ema(0.9))": lambda: frozen(ema(0.9)),
    "frozen(guarded(window(8)))": lambda: frozen(guarded(window(8))),
    "average_of_batches(unbiased=True)": average_of_batches,
    "average_of_batches(unbiased=False)": lambda: average_of_batches(unbiased=False),
}


@pytest.fixture(autouse=True)
def fresh_trace_counts():
    """Starts the counts of chex at zero: chex tells functions apart by their source alone."""
    chex.clear_trace_counter()


every_call = pytest.mark.parametrize("call", CALLS)


@every_call
def test_the_same_arguments_make_the_same_value(call):
    first, second = CALLS[call](), CALLS[call]()
    assert first == second
    assert hash(first) == hash(second)


def test_other_arguments_make_another_value():
    assert len({make() for make in CALLS.values()}) == len(CALLS)


@every_call
def test_an_estimator_shows_the_call_that_makes_it(call):
    assert repr(CALLS[call]()) == call


@every_call
def test_an_estimator_is_an_estimator_with_three_functions(call):
    estimator = CALLS[call]()
    assert isinstance(estimator, Estimator)
    assert Estimator(*estimator) == estimator
    assert repr(Estimator(*estimator)) == call


@every_call
def test_copies_are_equal(call):
    estimator = CALLS[call]()
    assert copy.deepcopy(estimator) == copy.copy(estimator) == estimator
    assert pickle.loads(pickle.dumps(estimator)) == estimator


def test_another_process_has_the_same_values():
    estimators = [make() for make in CALLS.values()]
    states = [estimator.init((2,)) for estimator in estimators]
    command = (
        "import pickle, sys\n"
        "pairs = zip(*pickle.load(sys.stdin.buffer))\n"
        "moved = [(e, e.init((2,)), e.read(s)) for e, s in pairs]\n"
        "sys.stdout.buffer.write(pickle.dumps(moved))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command],
        input=pickle.dumps((estimators, states)),
        cwd=Path(__file__).parents[2],
        capture_output=True,
        check=True,
    )
    for (estimator, state, reading), ours, start in zip(
        pickle.loads(done.stdout), estimators, states, strict=True
    ):
        assert estimator == ours
        chex.assert_trees_all_equal(state, start)
        chex.assert_trees_all_equal(reading, ours.read(start))


@every_call
def test_a_static_argument_is_traced_once_for_equal_estimators(call):
    @functools.partial(jax.jit, static_argnums=0)
    @chex.assert_max_traces(n=1)
    def read(estimator, state):
        return estimator.read(state)

    state = CALLS[call]().init((2,))
    chex.assert_trees_all_equal(read(CALLS[call](), state), read(CALLS[call](), state))


def test_a_second_trace_would_be_noticed():
    @functools.partial(jax.jit, static_argnums=0)
    @chex.assert_max_traces(n=1)
    def read(estimator, state):
        return estimator.read(state)

    state = ema(0.9).init((2,))
    read(ema(0.9), state)
    with pytest.raises(AssertionError, match="traced > 1 times"):
        read(ema(0.8), state)


class Averaged(nn.Module):
    """Keeps the running mean of its input."""

    estimator: Estimator

    @nn.compact
    def __call__(self, x):
        batch = Moments(x.mean(0), x.var(0), jnp.array(float(len(x))))
        state = self.variable("batch_stats", "state", self.estimator.init, x.shape[1:])
        if not self.is_initializing():
            state.value = self.estimator.update(state.value, batch)
        return self.estimator.read(state.value).mean


@every_call
def test_modules_with_equal_estimators_are_equal_and_traced_once(call):
    @functools.partial(jax.jit, static_argnums=0)
    @chex.assert_max_traces(n=1)
    def run(module, x):
        return module.init_with_output(jax.random.key(0), x)[0]

    first, second = Averaged(CALLS[call]()), Averaged(CALLS[call]())
    assert first == second == first.clone() == pickle.loads(pickle.dumps(first))
    run(first, jnp.ones((3, 2)))
    np.testing.assert_array_equal(run(second, jnp.ones((3, 2))), np.zeros(2))


class Holder(nnx.Module):
    """A module of nnx with an estimator among its attributes."""

    def __init__(self, estimator):
        self.estimator = estimator
        self.mean = nnx.BatchStat(estimator.init((2,)).mean)


def test_modules_of_nnx_with_equal_estimators_share_one_trace():
    @nnx.jit
    @chex.assert_max_traces(n=1)
    def read(module):
        return module.mean[...] + 1

    for _ in range(2):
        np.testing.assert_array_equal(read(Holder(ema(0.9))), np.ones(2))
    graph, other = (nnx.graphdef(Holder(ema(0.9))) for _ in range(2))
    assert graph == other
    assert graph != nnx.graphdef(Holder(ema(0.8)))


def first_batch(shape, dtype=jnp.float32):
    return BatchStats(jnp.zeros(shape, dtype), jnp.ones(shape, dtype))


def latest_batch(state, moments):
    return BatchStats(moments.mean, moments.var)


def as_moments(state):
    return Moments(state.mean, state.var, jnp.ones(()))


@dataclasses.dataclass(frozen=True)
class Latest:
    """A rule of a user's own: the statistics are those of the last batch."""

    factor: float = 1.0

    def init(self, shape, dtype=jnp.float32):
        return first_batch(shape, dtype)

    def update(self, state, moments):
        return BatchStats(self.factor * moments.mean, moments.var)

    def read(self, state):
        return as_moments(state)


OWN = {
    "functions": lambda: Estimator(first_batch, latest_batch, as_moments),
    "rule": lambda: Estimator.of(Latest()),
}


@pytest.mark.parametrize("wrap", [lambda estimator: estimator, guarded])
@pytest.mark.parametrize("kind", OWN)
def test_an_estimator_of_the_users_own_works_and_is_a_value(kind, wrap):
    estimator = wrap(OWN[kind]())
    batch = Moments(jnp.array([3.0, 4.0]), jnp.array([1.0, 2.0]), jnp.array(8.0))
    reading = estimator.read(estimator.update(estimator.init((2,)), batch))
    assert (reading.mean.tolist(), reading.var.tolist()) == ([3, 4], [1, 2])
    assert estimator == wrap(OWN[kind]()) == pickle.loads(pickle.dumps(estimator))
    assert hash(estimator) == hash(wrap(OWN[kind]()))


def test_an_estimator_of_the_users_own_shows_its_parts():
    assert repr(OWN["rule"]()) == "Latest(factor=1.0)"
    assert repr(OWN["functions"]()).startswith("Estimator(init=<function first_batch at ")
    mixed = ema(0.9)._replace(read=as_moments)
    assert mixed != ema(0.9)
    assert repr(mixed).startswith("Estimator(init=")


NUMBERS = [
    np.float32(0.5),
    np.float64(0.5),
    np.float16(0.5),
    jnp.bfloat16(0.5),
    np.array(0.5),
    jnp.array(0.5),
]


@pytest.mark.parametrize("make", [ema, debiased])
@pytest.mark.parametrize("decay", NUMBERS, ids=lambda decay: f"{type(decay).__name__}")
def test_a_decay_may_be_a_scalar_of_numpy_or_jax(make, decay):
    assert make(decay) == make(0.5)
    assert hash(make(decay)) == hash(make(0.5))
    assert repr(make(decay)) == repr(make(0.5))


@pytest.mark.parametrize("make", [ema, debiased])
def test_a_decay_of_zero_or_one_may_be_an_integer(make):
    assert (make(0), make(1)) == (make(0.0), make(1.0))


def test_a_length_may_be_an_integer_of_numpy():
    assert window(np.int64(8)) == window(8)
    assert repr(window(np.int64(8))) == "window(8)"


NO_NUMBERS = ["0.9", None, True, np.True_, 0.5j, [0.9], np.array([0.9])]


@pytest.mark.parametrize("make", [ema, debiased])
@pytest.mark.parametrize("decay", NO_NUMBERS, ids=repr)
def test_a_decay_that_is_no_number_is_refused(make, decay):
    with without_type_checks(), pytest.raises(TypeError, match=r"decay=.* must be a number from 0"):
        make(decay)


@pytest.mark.parametrize("make", [ema, debiased])
@pytest.mark.parametrize("decay", [np.nan, np.float32(np.nan), np.inf, -0.1, np.float32(1.5)])
def test_a_decay_that_is_no_share_is_refused(make, decay):
    with pytest.raises(ValueError, match=r"decay=.* must be from 0 to 1"):
        make(decay)


def test_a_traced_decay_is_refused():
    with pytest.raises(TypeError, match=r"decay=.* must be a number from 0 to 1"):
        jax.jit(lambda decay: ema(decay).init((2,)))(0.9)


@pytest.mark.parametrize("n", ["8", 2.5, 8.0, None, True])
def test_a_length_that_is_no_integer_is_refused(n):
    with without_type_checks(), pytest.raises(TypeError, match=r"window\(.*\) must keep a whole"):
        window(n)


@pytest.mark.parametrize("wrap", [guarded, frozen])
@pytest.mark.parametrize("inner", ["x", None, ema, 0.9])
def test_what_is_no_estimator_is_refused(wrap, inner):
    name = wrap.__name__
    with without_type_checks(), pytest.raises(TypeError, match=rf"{name}\(.*\) needs an Estimator"):
        wrap(inner)


TYPES = {"ema(0.9)": BatchStats, "cumulative()": Moments, "window(8)": WindowState}


@pytest.mark.parametrize(("kept", "other"), [*itertools.permutations(TYPES, 2)])
def test_the_state_of_another_estimator_is_refused_by_name(kept, other):
    estimator, state = CALLS[kept](), CALLS[other]().init((2,))
    batch = Moments(jnp.zeros(2), jnp.ones(2), jnp.array(8.0))
    message = (
        f"{re.escape(kept)} keeps its state as {TYPES[kept].__name__}, got {TYPES[other].__name__}"
    )
    for use in (lambda: estimator.update(state, batch), lambda: estimator.read(state)):
        with pytest.raises(TypeError, match=message):
            use()


@pytest.mark.parametrize("call", ["ema(0.9)", "debiased(0.9)", "cumulative()", "window(8)"])
def test_moments_of_other_features_than_the_state_are_refused_with_both_shapes(call):
    estimator = CALLS[call]()
    batch = Moments(jnp.zeros(3), jnp.ones(3), jnp.array(8.0))
    with pytest.raises(ValueError, match=r"shape \[1\] cannot take in moments of shape \[3\]"):
        estimator.update(estimator.init((1,)), batch)


class Variants(chex.TestCase):
    """Compiled and not, the estimators compute the same."""

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*CALLS)
    def test_one_update_is_the_float64_one(self, call):
        estimator = CALLS[call]()
        x = np.random.default_rng(0).normal(3, 2, (8, 2)).astype(np.float32)

        @self.variant
        def reading(x):
            batch = Moments(x.mean(0), x.var(0), jnp.array(8.0))
            return estimator.read(estimator.update(estimator.init((2,)), batch))

        mean, var = expected_reading(call, x.astype(np.float64))
        found = reading(jnp.asarray(x))
        # A mean and a variance of eight numbers, and three roundings of the update.
        bound = 16 * np.finfo(np.float32).eps
        np.testing.assert_allclose(found.mean, mean, rtol=bound)
        np.testing.assert_allclose(found.var, var, rtol=bound)


def expected_reading(call, x):
    """Returns the mean and the variance after one batch, by the text of the call."""
    bessel = 8 / 7 if "unbiased=True" in call else 1.0
    mean, var = x.mean(0), bessel * x.var(0)
    if call.startswith("frozen"):
        return np.zeros(2), np.ones(2)
    if "ema" in call:
        decay = 0.99 if "0.99" in call else 0.9
        return (1 - decay) * mean, decay + (1 - decay) * var
    return mean, var
