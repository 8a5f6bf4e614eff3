"""The gradient of a model's loss, with what its norms did on the way."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._views import Apply
from jaxnorm.training._state import join_variables
from jaxnorm.typing import Array, PyTree

Metrics = dict[str, Array]
"""Named scalars."""

LossFn = Callable[[Any, PyTree], tuple[Array, Mapping[str, Array]]]
"""(output of the model, batch) -> (mean loss [], further metrics, means over the batch)."""

GradientFn = Callable[[PyTree, PyTree, Array], tuple[tuple[PyTree, Metrics], PyTree, PyTree]]
"""(batch_stats, batch, key) -> ((gradient, metrics), batch_moments, batch_stats)."""


def named_loss(loss_fn: LossFn, output: Any, batch: PyTree) -> tuple[Array, Metrics]:
    """Returns the loss, and the metrics with the loss among them.

    Args:
        loss_fn: (output, batch) -> (loss [], metrics).
        output: of the model.
        batch: what the model saw, and its labels.

    Returns:
        The loss [] and the metrics.

    Raises:
        TypeError: `loss_fn` returns no pair of a loss and metrics.
        ValueError: the loss is not a scalar.

    Examples:
        >>> named_loss(lambda output, batch: (jnp.mean(output), {}), jnp.ones(2), {})[1]
        {'loss': Array(1., dtype=float32)}
    """
    returned = loss_fn(output, batch)
    if not (
        isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], Mapping)
    ):
        raise TypeError(
            f"loss_fn must return a pair (loss, metrics), got {type(returned).__name__}; return "
            "(loss, {}) where there are no metrics"
        )
    loss, metrics = returned
    if jnp.shape(loss) != ():
        raise ValueError(
            f"loss_fn must return a scalar loss, got {list(jnp.shape(loss))}; "
            "take the mean over the batch"
        )
    return loss, {**metrics, "loss": loss}


def gradient_fn(
    apply: Apply,
    loss_fn: LossFn,
    inputs: Callable[[PyTree], Any],
    params: PyTree,
    *,
    collect_moments: bool,
) -> GradientFn:
    """Returns the gradient at `params` as a function of the running statistics and the batch.

    Args:
        apply: the model as a function of its variables, called with `train=True`, `mutable` and an
            rng named `dropout`.
        loss_fn: (output, batch) -> (loss [], metrics).
        inputs: picks the model's input out of a batch.
        params: where the gradient is taken.
        collect_moments: whether norms write the moments of their batch to `batch_moments`
            instead of updating their running statistics.

    Returns:
        (batch_stats, batch, key) -> ((gradient, metrics), batch_moments, batch_stats).

    Examples:
        >>> def loss_fn(output, batch):
        ...     return jnp.sum(output), {}
        >>> def apply(variables, x, **options):
        ...     return x @ variables["params"]["kernel"], {}
        >>> params = {"kernel": jnp.ones((2, 1))}
        >>> take = gradient_fn(apply, loss_fn, jnp.asarray, params, collect_moments=False)
        >>> take({}, jnp.array([[3.0, 4.0]]), jax.random.key(0))[0][0]["kernel"].ravel()
        Array([3., 4.], dtype=float32)
    """
    collections = ["batch_stats", "batch_moments"] if collect_moments else ["batch_stats"]

    def loss_of(params: PyTree, batch_stats: PyTree, batch: PyTree, key: Array) -> Any:
        output, updated = apply(
            join_variables(params, batch_stats),
            inputs(batch),
            rngs={"dropout": key},
            mutable=collections,
            train=True,
        )
        loss, metrics = named_loss(loss_fn, output, batch)
        return loss, (metrics, updated)

    def gradient(batch_stats: PyTree, batch: PyTree, key: Array) -> Any:
        take = jax.grad(loss_of, has_aux=True)
        grads, (metrics, updated) = take(params, batch_stats, batch, key)
        moments = updated.get("batch_moments", {})
        return (grads, metrics), moments, updated.get("batch_stats") or batch_stats

    return gradient
