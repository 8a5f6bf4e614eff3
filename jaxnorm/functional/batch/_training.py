"""What the norms over the batch share: which statistics normalize, and rows of statistics."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape
from jaxnorm.functional.batch._batch import SingleValue, has_single_value, uses_running
from jaxnorm.stats import Moments
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, Shape


def switches(
    name: str,
    shape: Shape,
    stats_shape: Shape,
    *,
    use_running_average: bool,
    update_stats: bool | None,
    single_value: SingleValue,
    axis_name: AxisName | None,
    axis_index_groups: AxisIndexGroups,
) -> tuple[bool, bool]:
    """Returns whether running statistics normalize, and whether the batch enters them.

    Args:
        name: what the error calls the norm.
        shape: the shape of `x`.
        stats_shape: the statistics shape.
        use_running_average: what was asked for.
        update_stats: what was asked for; None for "where the batch normalizes".
        single_value: what happens where one value stands behind a statistic.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: groups of shards.

    Returns:
        Two booleans.

    Raises:
        ValueError: one value stands behind a statistic, and `single_value` is "raise".

    Examples:
        >>> asked = {"use_running_average": False, "update_stats": None, "single_value": "running"}
        >>> mapped = {"axis_name": None, "axis_index_groups": None}
        >>> switches("norm", (8, 2), (1, 2), **asked, **mapped)
        (False, True)
        >>> switches("norm", (1, 2), (1, 2), **asked, **mapped)
        (True, False)
    """
    update = (not use_running_average) if update_stats is None else update_stats
    if use_running_average or not has_single_value(
        shape, stats_shape, axis_name, axis_index_groups
    ):
        return use_running_average, update
    what = f"{name} in training mode got one value per statistic, x {list(shape)}"
    average = uses_running(single_value, what, "use a larger batch")
    return average, update and not average


def shaped(moments: Moments, shape: Shape) -> Moments:
    """Returns moments whose parts have another shape of the same size; scalars stay.

    Args:
        moments: of any shape.
        shape: of as many entries.

    Returns:
        `Moments` of `shape`.

    Examples:
        >>> shaped(Moments(jnp.ones(3), jnp.ones(3), jnp.array(2.0)), (1, 3)).mean.shape
        (1, 3)
    """
    return jax.tree.map(lambda part: part.reshape(shape) if part.ndim else part, moments)


def rows(
    table: Any, index: Any, shape: Shape, features: tuple[int, ...], name: str, count: int
) -> Any:
    """Returns rows of arrays [count, *features], as they stand against `x`.

    Args:
        table: arrays of [count, *features] in any structure; None for none.
        index: which row each example takes, [N] or [] for all examples alike.
        shape: the shape of `x`.
        features: the feature axes, canonical and not the first.
        name: the argument's name, for the error.
        count: the number of rows.

    Returns:
        [N or 1, 1, ..., *features] each, of the rank of `x`.

    Raises:
        ValueError: the number of rows or of features differs.

    Examples:
        >>> rows(jnp.arange(4.0).reshape(2, 2), 1, (8, 3, 2), (2,), "scale", 2)
        Array([[[2., 3.]]], dtype=float32)
    """
    size = (count, *(shape[axis] for axis in features))
    index = jnp.asarray(index)

    def taken(part: ArrayLike) -> Array:
        part = jnp.asarray(part)
        if part.shape != size:
            raise ValueError(
                f"{name} {list(part.shape)} must have a row of features for each of the {count}, "
                f"against x {list(shape)}; give it shape {list(size)}"
            )
        return part[index].reshape((index.size, *kept_shape(shape, features)[1:]))

    return jax.tree.map(taken, table)


def require_batch_axis(features: tuple[int, ...], shape: Shape) -> None:
    """Raises where the first axis, which is the batch, is a feature axis.

    Args:
        features: the feature axes, canonical.
        shape: the shape of `x`.

    Returns:
        Nothing.

    Raises:
        ValueError: it is.

    Examples:
        >>> require_batch_axis((1,), (8, 3))
    """
    if 0 in features:
        raise ValueError(
            f"axis={features} of x {list(shape)} names axis 0, which is the batch; move the "
            "features to another axis"
        )
