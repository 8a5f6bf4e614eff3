"""Many steps per dispatch, over data that stay on the device."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm.training._gradient import Metrics
from jaxnorm.training._loops import slow_in_loops
from jaxnorm.training._order import batch_rows
from jaxnorm.training._state import TrainState
from jaxnorm.training._step import EvalStep, TrainStep
from jaxnorm.typing import Array, PyTree


def make_scan_steps(
    train_step: TrainStep,
    *,
    batch_size: int,
    num_steps: int | None = None,
    scan: bool | None = None,
    donate: bool = True,
) -> TrainStep:
    """Returns a function that takes many train steps over data in memory.

    The data stay on the device; each step gathers its rows there. Every epoch visits the rows in a
    new order without replacement, dropping the `N % batch_size` last ones of that order. The order
    is a function of `(state.rng, epoch)` and the place in it of `state.step`, so that runs cut into
    pieces of any length, and resumed runs, see the same batches.

    Args:
        train_step: (state, batch) -> (state, metrics), of `make_train_step`.
        batch_size: rows per step, B.
        num_steps: steps per call; None for one epoch, `N // B`.
        scan: whether the steps are one dispatch, a `lax.scan`, or one dispatch each, which is
            faster for convolutions on a CPU: XLA does not bring those into their fast form inside
            of loops. None chooses.
        donate: whether the given state's buffers are reused for the new one.

    Returns:
        (state, data) -> (state, metrics), with data a tree of arrays [N, ...] and each metric
        [num_steps].

    Raises:
        ValueError: a size is not positive; on call, the arrays differ in length or are shorter than
            a batch.

    Examples:
        >>> def step(state, batch):
        ...     return state._replace(step=state.step + 1), {"sum": jnp.sum(batch)}
        >>> start, skipped = jnp.zeros((2,), jnp.int32)
        >>> state = TrainState(start, {}, {}, (), jax.random.key(0), skipped)
        >>> state, metrics = make_scan_steps(step, batch_size=2)(state, jnp.arange(6.0))
        >>> int(state.step), float(metrics["sum"].sum())
        (3, 15.0)
    """
    if batch_size < 1 or (num_steps is not None and num_steps < 1):
        raise ValueError(f"batch_size={batch_size} and num_steps={num_steps} must be at least 1")
    step = functools.partial(_gathered_step, train_step)
    draw = jax.jit(batch_rows, static_argnums=(2, 3, 4))
    scanned = jax.jit(functools.partial(_scanned, step), donate_argnums=0 if donate else ())
    logged = jax.jit(functools.partial(_logged_step, step), donate_argnums=(0, 1))
    chosen = scan

    def take_steps(state: TrainState, data: PyTree) -> tuple[TrainState, Metrics]:
        nonlocal chosen
        data = jax.tree.map(jnp.asarray, data)
        size = _rows(data)
        if size < batch_size:
            raise ValueError(f"batch_size={batch_size} exceeds the {size} rows of the data")
        steps = size // batch_size if num_steps is None else num_steps
        rows = draw(state.rng, state.step, size, batch_size, steps)
        if chosen is None:
            chosen = not slow_in_loops(jax.make_jaxpr(step)(state, data, rows[0]))
        if chosen:
            return scanned(state, data, rows)
        if not donate:
            state = jax.tree.map(jnp.copy, state)
        forms = jax.eval_shape(step, state, data, rows[0])[1]
        log = jax.tree.map(lambda form: jnp.zeros((steps, *form.shape), form.dtype), forms)
        for i in range(steps):
            state, log = logged(state, log, data, rows, i)
        return state, log

    return take_steps


def _gathered_step(
    train_step: TrainStep, state: TrainState, data: PyTree, rows: Array
) -> tuple[TrainState, Metrics]:
    return train_step(state, jax.tree.map(lambda a: jnp.take(a, rows, axis=0), data))


def _scanned(
    step: Callable, state: TrainState, data: PyTree, rows: Array
) -> tuple[TrainState, Metrics]:
    return lax.scan(lambda state, rows: step(state, data, rows), state, rows)


def _logged_step(
    step: Callable, state: TrainState, log: Metrics, data: PyTree, rows: Array, i: Array
) -> tuple[TrainState, Metrics]:
    state, metrics = step(state, data, rows[i])
    return state, jax.tree.map(lambda kept, new: kept.at[i].set(new), log, metrics)


def make_evaluation(eval_step: EvalStep, *, batch_size: int) -> EvalStep:
    """Returns a jitted function that evaluates on all of the data, in batches.

    The metrics are means over all N rows: the last, smaller batch weighs as much as it holds.

    Args:
        eval_step: (state, batch) -> metrics, each a mean over the batch, of `make_eval_step`.
        batch_size: rows that are evaluated at a time.

    Returns:
        (state, data) -> metrics, with data a tree of arrays [N, ...] and each metric [].

    Raises:
        ValueError: the size is not positive; on call, the arrays differ in length or are empty.

    Examples:
        >>> evaluate = make_evaluation(lambda state, x: {"mean": jnp.mean(x)}, batch_size=2)
        >>> evaluate(None, jnp.array([1.0, 2.0, 6.0]))
        {'mean': Array(3., dtype=float32)}
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")

    def evaluate(state: TrainState, data: PyTree) -> Metrics:
        size = _rows(data)
        if size == 0:
            raise ValueError("the data to evaluate on have no rows")
        count, rest = divmod(size, batch_size)
        parts = []
        if count:
            whole = jax.tree.map(
                lambda a: a[: size - rest].reshape(count, batch_size, *a.shape[1:]), data
            )
            means = lax.map(lambda batch: eval_step(state, batch), whole)
            parts.append(jax.tree.map(lambda m: jnp.sum(m, axis=0) * (batch_size / size), means))
        if rest:
            means = eval_step(state, jax.tree.map(lambda a: a[size - rest :], data))
            parts.append(jax.tree.map(lambda m: m * (rest / size), means))
        return jax.tree.map(lambda *shares: sum(shares), *parts)

    return jax.jit(evaluate)


def _rows(data: PyTree) -> int:
    sizes = {jnp.shape(a)[:1] for a in jax.tree.leaves(data)}
    if len(sizes) != 1 or () in sizes:
        shapes = [list(jnp.shape(a)) for a in jax.tree.leaves(data)]
        raise ValueError(f"the arrays of the data must share their first axis, got shapes {shapes}")
    return sizes.pop()[0]
