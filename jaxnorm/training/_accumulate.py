"""Gradient accumulation: micro-batches, and running statistics updated once from all of them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm.stats import Moments, pool, whole_mean
from jaxnorm.training._gradient import GradientFn, Metrics
from jaxnorm.training._loops import slow_in_loops
from jaxnorm.training._shards import per_shard
from jaxnorm.typing import Array, AxisName, PyTree


def apply_batch_moments(batch_stats: PyTree, batch_moments: PyTree) -> PyTree:
    """Returns the running statistics after one update from collected moments.

    Each layer's new value is `decay * old + (1 - decay) * moments`, for the mean and the biased
    variance, in the dtype of the old one. Features with no sample keep their old value, and so do
    layers without collected moments.

    `jaxnorm.linen.BatchNorm` collects: with `batch_moments` mutable it writes there the moments of
    its batch and its decay, and leaves `batch_stats` alone. Given the collection of an earlier
    batch as a variable too, it writes the union of both, so that a chain of calls pools a large
    batch.

    Args:
        batch_stats: nested dictionaries that end in `{"mean": [*features], "var": [*features]}`.
        batch_moments: the same nesting, ending in `{"moments": Moments, "decay": []}` with moments
            of [*features].

    Returns:
        Running statistics of the structure and dtypes of `batch_stats`.

    Raises:
        ValueError: moments were collected for a layer that has no running statistics.

    Examples:
        >>> stats = {"norm": {"mean": jnp.zeros(1), "var": jnp.ones(1)}}
        >>> batch = Moments(mean=jnp.array([4.0]), var=jnp.array([3.0]), count=jnp.array([8.0]))
        >>> new = apply_batch_moments(stats, {"norm": {"moments": batch, "decay": jnp.array(0.5)}})
        >>> new["norm"]["mean"], new["norm"]["var"]
        (Array([2.], dtype=float32), Array([2.], dtype=float32))
    """
    return _apply(batch_stats, batch_moments, ())


def _apply(stats: Any, moments: Any, path: tuple[str, ...]) -> Any:
    if isinstance(moments.get("moments"), Moments):
        if "update" in moments:  # of a layer with an estimator of its own
            return moments["update"](stats, moments["moments"])
        return _advance(stats, moments["moments"], moments["decay"])
    for name in moments:
        if name not in stats:
            raise ValueError(
                f"batch_moments has an entry {'/'.join((*path, name))}, batch_stats has not; pass "
                "the moments that the same model collected"
            )
    return {
        name: _apply(below, moments[name], (*path, name)) if name in moments else below
        for name, below in stats.items()
    }


def _advance(stats: Mapping[str, Array], moments: Moments, decay: Array) -> dict[str, Array]:
    def average(old: Array, batch: Array) -> Array:
        weight = decay.reshape(*decay.shape, *(1,) * (old.ndim - decay.ndim))
        new = weight * old + (1 - weight) * batch
        return jnp.where(moments.count > 0, new, old).astype(old.dtype)

    return {
        **stats,
        "mean": average(stats["mean"], whole_mean(moments, stats["mean"].dtype)),
        "var": average(stats["var"], moments.var),
    }


def split_batch(batch: PyTree, steps: int) -> PyTree:
    """Returns `batch` cut into `steps` micro-batches; number i holds the rows i, i + steps, ...

    Taking every `steps`-th row keeps each device's rows on that device where the batch is sharded.

    Args:
        batch: arrays [N, ...].
        steps: how many micro-batches.

    Returns:
        Arrays [steps, N / steps, ...].

    Raises:
        ValueError: `steps` does not divide N.

    Examples:
        >>> split_batch(jnp.arange(6), 3).tolist()
        [[0, 3], [1, 4], [2, 5]]
    """

    def split(a: Array) -> Array:
        if a.ndim == 0 or a.shape[0] % steps:
            raise ValueError(
                f"accumulate_steps={steps} does not divide the batch axis of an array "
                f"{list(a.shape)}; use batches of a multiple of {steps} rows"
            )
        return jnp.swapaxes(a.reshape(-1, steps, *a.shape[1:]), 0, 1)

    return jax.tree.map(split, batch)


def accumulate(
    gradient: GradientFn,
    batch_stats: PyTree,
    micro_batches: PyTree,
    keys: Array,
    axis_name: AxisName | None = None,
) -> tuple[tuple[PyTree, Metrics], PyTree]:
    """Returns the mean gradient and metrics of micro-batches, and the new running statistics.

    One scan, so that the model is compiled once and one micro-batch's activations live at a time
    (straight-line code for convolutions on a CPU, which are slow in loops).
    Sums are kept in float32 or wider.

    Args:
        gradient: (batch_stats, micro-batch, key) -> ((gradient, metrics), batch_moments,
            batch_stats), where the last are the statistics of layers that collect no moments.
        batch_stats: the running statistics before the step.
        micro_batches: arrays [steps, N, ...].
        keys: [steps], a key per micro-batch.
        axis_name: the mapped axes that `gradient` runs under; None for none.

    Returns:
        The mean (gradient, metrics), of their dtypes, and the running statistics after one update
        from the moments of all micro-batches.

    Examples:
        >>> gradient = lambda stats, x, key: ((jnp.mean(x), {}), {}, stats)
        >>> accumulate(gradient, {}, jnp.array([[1.0], [3.0]]), jnp.arange(2))[0]
        (Array(2., dtype=float32), {})
    """
    first = jax.tree.map(lambda a: a[0], (micro_batches, keys))
    traced, (forms, _, _) = jax.make_jaxpr(gradient, return_shape=True)(batch_stats, *first)
    wide = jax.tree.map(
        lambda form: jnp.zeros(form.shape, jnp.promote_types(form.dtype, jnp.float32)), forms
    )

    def body(carry: tuple[PyTree, PyTree], micro: tuple[PyTree, Array]) -> tuple[Any, PyTree]:
        total, stats = carry
        values, moments, stats = gradient(stats, *micro)
        total = jax.tree.map(lambda t, v: t + v.astype(t.dtype), total, values)
        return (total, stats), jax.tree.map(_full_count, moments, is_leaf=_is_moments)

    start = (per_shard(wide, axis_name), batch_stats)
    unroll = slow_in_loops(traced)
    (total, stats), moments = lax.scan(body, start, (micro_batches, keys), unroll=unroll)
    mean = jax.tree.map(lambda t, form: (t / len(keys)).astype(form.dtype), total, forms)
    pooled = jax.tree.map(_pool_stacked, moments, is_leaf=_is_moments)
    return mean, apply_batch_moments(stats, pooled)


def _is_moments(node: Any) -> bool:
    return isinstance(node, Moments)


def _full_count(node: Moments | Array) -> Moments | Array:
    if not isinstance(node, Moments):
        return node
    return node._replace(count=jnp.broadcast_to(node.count, node.mean.shape))


def _pool_stacked(node: Moments | Array) -> Moments | Array:
    """Pools moments [steps, *features]; the decays beside them are equal, so the first serves."""
    if not isinstance(node, Moments):
        return node[0]
    pooled = pool(node, (1, *node.mean.shape[1:]))
    return jax.tree.map(lambda part: jnp.squeeze(part, axis=0), pooled)
