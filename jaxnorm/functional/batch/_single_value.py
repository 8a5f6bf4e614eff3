"""Which statistics normalize, above all where a batch holds one value per feature."""

import warnings
from typing import Literal

from jaxnorm.stats import sample_size, shard_count
from jaxnorm.typing import AxisIndexGroups, AxisName, Shape

SingleValue = Literal["raise", "warn", "running", "allow"]
"""What happens where a batch holds one value per feature, whose variance is zero."""


def switches(
    name: str,
    shape: Shape,
    stats_shape: Shape,
    use_running_average: bool,
    update_stats: bool | None,
    single_value: SingleValue,
    *,
    axis_name: AxisName | None,
    axis_index_groups: AxisIndexGroups,
    of: str = "statistic",
    detail: str = "",
    remedy: str = "use a larger batch",
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
        of: what the error says has one value.
        detail: what the error says besides the shape.
        remedy: what the error says helps.

    Returns:
        Two booleans.

    Raises:
        ValueError: one value stands behind a statistic, and `single_value` is "raise" or unknown.

    Examples:
        >>> asked, mapped = (False, None, "running"), {"axis_name": None, "axis_index_groups": None}
        >>> switches("norm", (8, 2), (1, 2), *asked, **mapped)
        (False, True)
        >>> switches("norm", (1, 2), (1, 2), *asked, **mapped)
        (True, False)
    """
    update = (not use_running_average) if update_stats is None else update_stats
    if use_running_average or not has_single_value(
        shape, stats_shape, axis_name, axis_index_groups
    ):
        return use_running_average, update
    what = f"{name} in training mode got one value per {of}, x {list(shape)}{detail}"
    average = _uses_running(single_value, what, remedy)
    return average, update and not average


def has_single_value(
    shape: Shape,
    stats_shape: Shape,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
) -> bool:
    """Returns whether just one value stands behind each statistic, whose variance is then zero.

    Args:
        shape: the shape of `x`.
        stats_shape: the statistics shape.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: groups of shards.

    Returns:
        True for one value; an empty batch is not one.

    Examples:
        >>> has_single_value((1, 5), (1, 5)), has_single_value((2, 5), (1, 5))
        (True, False)
    """
    size = sample_size(shape, stats_shape)
    if axis_name is not None:
        size *= shard_count(axis_name, axis_index_groups)
    return size == 1


def refuse_single_values(
    what: str,
    remedy: str,
    shape: Shape,
    stats_shape: Shape,
    single_value: Literal["raise", "allow"],
    axis_name: AxisName | None,
    axis_index_groups: AxisIndexGroups,
) -> None:
    """Raises where a norm without running statistics has one value behind each statistic.

    Args:
        what: what the error says has one value.
        remedy: what the error says helps.
        shape: the shape of `x`.
        stats_shape: the statistics shape.
        single_value: "allow" for the bias that follows.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: groups of shards.

    Raises:
        ValueError: one value stands behind a statistic, or `single_value` is unknown.

    Examples:
        >>> shapes = (2, 3), (2, 1)
        >>> refuse_single_values("norm got one value", "give more", *shapes, "raise", None, None)
    """
    if single_value not in ("raise", "allow"):
        raise ValueError(f"single_value={single_value!r} is unknown; use 'raise' or 'allow'")
    if single_value == "raise" and has_single_value(
        shape, stats_shape, axis_name, axis_index_groups
    ):
        raise ValueError(
            f"{what}: its variance is zero and the output would be the bias whatever x is; "
            f"{remedy}, or pass single_value='allow'"
        )


def _uses_running(single_value: SingleValue, what: str, remedy: str) -> bool:
    if single_value == "warn":
        warnings.warn(
            f"{what}; it uses the running statistics and leaves them as they are; {remedy}",
            stacklevel=4,
        )
    if single_value in ("warn", "running", "allow"):
        return single_value != "allow"
    if single_value != "raise":
        raise ValueError(
            f"single_value={single_value!r} is unknown; use 'raise', 'warn', 'running' or 'allow'"
        )
    raise ValueError(
        f"{what}: its variance is zero and the output would be the bias whatever x is; {remedy}, "
        "use_running_average=True, or single_value='running' or single_value='allow'"
    )
