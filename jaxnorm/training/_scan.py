"""Many steps per dispatch, over data that stay on the device."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm.training._gradient import Metrics
from jaxnorm.training._keys import order_key
from jaxnorm.training._state import TrainState
from jaxnorm.training._step import EvalStep, TrainStep
from jaxnorm.typing import Array, PyTree


def make_scan_steps(
    train_step: TrainStep, *, batch_size: int, num_steps: int | None = None, donate: bool = True
) -> TrainStep:
    """Returns a jitted function that takes many train steps over data in memory.

    The data stay where they are; each step gathers its rows. Every epoch visits the rows in a new
    order without replacement, dropping the `N % batch_size` last ones of that order. The order is a
    function of `(state.rng, epoch)` and the place in it of `state.step`, so that runs cut into
    pieces of any length, and resumed runs, see the same batches.

    Args:
        train_step: (state, batch) -> (state, metrics), of `make_train_step`.
        batch_size: rows per step, B.
        num_steps: steps per call; None for one epoch, `N // B`.
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

    def scan_steps(state: TrainState, data: PyTree) -> tuple[TrainState, Metrics]:
        size = _rows(data)
        if size < batch_size:
            raise ValueError(f"batch_size={batch_size} exceeds the {size} rows of the data")
        steps = size // batch_size if num_steps is None else num_steps
        rows = batch_rows(state.rng, state.step, size, batch_size, steps)

        def body(state: TrainState, rows: Array) -> tuple[TrainState, Metrics]:
            return train_step(state, jax.tree.map(lambda a: jnp.take(a, rows, axis=0), data))

        return lax.scan(body, state, rows)

    return jax.jit(scan_steps, donate_argnums=0 if donate else ())


def batch_rows(rng: Array, step: Array, size: int, batch_size: int, steps: int) -> Array:
    """Returns which rows the batches of consecutive steps hold.

    Args:
        rng: [], the run's key.
        step: [], int32, the number of the first of the steps.
        size: rows of the data, N.
        batch_size: rows of a batch, B.
        steps: how many steps.

    Returns:
        [steps, B], int32 in `range(N)`; within an epoch of `N // B` steps no row comes twice.

    Examples:
        >>> rows = batch_rows(jax.random.key(0), 0, size=6, batch_size=2, steps=3)
        >>> sorted(rows.ravel().tolist())
        [0, 1, 2, 3, 4, 5]
    """
    per_epoch = size // batch_size
    first_epoch, place = jnp.divmod(step, per_epoch)
    # The run may start anywhere in its first epoch, so it can touch one epoch more than its length.
    epochs = math.ceil((steps - 1) / per_epoch) + 1

    def order(epoch: Array) -> Array:
        rows = jax.random.permutation(order_key(rng, epoch), size)
        return rows[: per_epoch * batch_size].reshape(per_epoch, batch_size)

    orders = jax.vmap(order)(first_epoch + jnp.arange(epochs))
    return lax.dynamic_slice_in_dim(orders.reshape(-1, batch_size), place, steps)


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
