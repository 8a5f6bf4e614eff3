"""The moments of a batch at every batch norm of a model."""

from collections.abc import Callable, Mapping
from typing import Any, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from jaxnorm._views import Apply, Call, NnxApply, intercept, opened
from jaxnorm.stats import Moments, merge, moments, pool, reduced_stats_shape
from jaxnorm.surgery._batch_norms import feature_axes, uses_running_average
from jaxnorm.typing import Array, AxisName, PyTree

_COLLECTION = "batch_moments"


@overload
def collect_moments(
    apply: nnx.Module, batch: PyTree, /, *, axis_name: AxisName | None = None
) -> PyTree: ...


@overload
def collect_moments(
    apply: Apply,
    variables: Mapping[str, PyTree],
    batch: PyTree,
    *,
    axis_name: AxisName | None = None,
) -> PyTree: ...


def collect_moments(
    apply: Any,
    variables: Any = None,
    batch: PyTree = None,
    *,
    axis_name: AxisName | None = None,
) -> PyTree:
    """Returns the mean, variance and count of one batch at the input of every batch norm.

    The network runs as in training: each layer normalizes with the batch's own statistics. Nothing
    is updated.

    Args:
        apply: (variables, batch, mutable=[...]) -> (output, updated), with the batch norms in train
            mode, such as `functools.partial(model.apply, train=True)`; or an nnx model, whose norms
            normalize by their batch whatever their mode, all else being in its own.
        variables: of a linen model; `params` and `batch_stats`.
        batch: the model's input.
        axis_name: mapped axes over which the batch is sharded; shards may differ in size.

    Returns:
        The nesting of `batch_stats`, with `Moments` of [*features] in the place of each layer.
        Batch norms that were called with their running statistics are missing.

    Examples:
        >>> import jaxnorm
        >>> model, x = jaxnorm.linen.BatchNorm(use_running_average=False), jnp.array([[1.0], [3.0]])
        >>> found = collect_moments(model.apply, model.init(jax.random.key(0), x), x)
        >>> found.mean, found.var
        (Array([2.], dtype=float32), Array([1.], dtype=float32))
        >>> collect_moments(jaxnorm.nnx.BatchNorm(1, rngs=nnx.Rngs(0)), x).var
        Array([1.], dtype=float32)
    """
    apply, variables, batch = opened(collect_moments, apply, variables, batch)
    if isinstance(apply, NnxApply):
        apply = apply.in_batch_mode()
    # Flax's own batch norm updates its statistics or fails, so they must be mutable for it.
    with intercept(_collect_of_flax):
        _, updated = apply(variables, batch, mutable=[_COLLECTION, "batch_stats"])
    return _moments_only(updated.get(_COLLECTION, {}), axis_name)


def _collect_of_flax(next_fun: Callable[..., Any], args: Any, kwargs: Any, call: Call) -> Any:
    """Lets Flax's batch norm write what ours does by itself."""
    flax = call.kind in (nn.BatchNorm, nnx.BatchNorm) and not call.initializing
    if flax and not uses_running_average(call.module, args, kwargs):
        x = jnp.asarray(args[0] if args else kwargs["x"])
        taken = _batch_moments(call.module, x, kwargs.get("mask"))
        earlier = call.kept(_COLLECTION, "moments", None)
        call.keep(_COLLECTION, "moments", taken if earlier is None else merge(earlier, taken))
    return next_fun(*args, **kwargs)


def _batch_moments(module: Any, x: Array, mask: Array | None) -> Moments:
    kept = feature_axes(module, x.ndim)
    stats_shape = reduced_stats_shape(x.shape, [a for a in range(x.ndim) if a not in kept])
    valid = None if mask is None else jnp.asarray(mask) != 0
    taken = moments(
        x,
        stats_shape,
        mask=valid,
        axis_name=module.axis_name,
        axis_index_groups=module.axis_index_groups,
    )
    features = tuple(x.shape[a] for a in kept)
    taken = taken._replace(count=jnp.broadcast_to(taken.count, stats_shape))
    return jax.tree.map(lambda part: part.reshape(features), taken)


def _moments_only(collected: Any, axis_name: AxisName | None) -> Any:
    if not isinstance(collected.get("moments"), Moments):
        return {name: _moments_only(below, axis_name) for name, below in collected.items()}
    taken = collected["moments"]
    if axis_name is None:
        return taken
    # A count that all features share is spread first: shards gather arrays of one shape.
    full = jax.tree.map(lambda part: jnp.broadcast_to(part, taken.mean.shape), taken)
    return pool(full, taken.mean.shape, axis_name=axis_name)
