"""How channels are cut into groups."""

from jaxnorm.numerics import canonical_axes
from jaxnorm.typing import Axes, Shape


def group_stats_shape(
    shape: Shape,
    num_groups: int | None,
    group_size: int | None = None,
    axis: int = -1,
    reduction_axes: Axes | None = None,
) -> Shape:
    """Returns the statistics shape of group normalization.

    Args:
        shape: the shape of `x`.
        num_groups: the number of groups, or None.
        group_size: the channels in a group, or None.
        axis: the channel axis.
        reduction_axes: the reduced axes; all but the first if None.

    Returns:
        `shape` with ones at the reduced axes and the number of groups at `axis`.

    Raises:
        ValueError: see `group_norm`.

    Examples:
        >>> group_stats_shape((8, 4, 4, 6), num_groups=3)
        (8, 1, 1, 3)
    """
    (axis,) = canonical_axes(axis, len(shape), "axis")
    channels = shape[axis]
    if (num_groups is None) == (group_size is None):
        raise ValueError(
            f"group_norm needs num_groups or group_size, one of the two; got num_groups="
            f"{num_groups} and group_size={group_size} for the {channels} channels of x "
            f"{list(shape)}"
        )
    groups = _groups(shape, channels, num_groups, group_size)
    if reduction_axes is None:
        reduced = {*range(1, len(shape)), axis}
    else:
        reduced = set(canonical_axes(reduction_axes, len(shape), "reduction_axes"))
        if axis not in reduced:
            raise ValueError(
                f"reduction_axes={reduction_axes} of x {list(shape)} must include the channel axis "
                f"{axis}, which is reduced within each group"
            )
    return tuple(groups if a == axis else 1 if a in reduced else n for a, n in enumerate(shape))


def _groups(shape: Shape, channels: int, num_groups: int | None, group_size: int | None) -> int:
    """Returns the number of groups after checking that they are equal and fill the channels."""
    divisors = [n for n in range(1, channels + 1) if channels % n == 0]
    name, asked = ("num_groups", num_groups) if group_size is None else ("group_size", group_size)
    if asked is not None and asked in divisors:
        return asked if name == "num_groups" else channels // asked
    near = max([n for n in divisors if n <= (asked or 1)], default=1)
    other = "group_size" if name == "num_groups" else "num_groups"
    raise ValueError(
        f"{name}={asked} does not divide the {channels} channels of x {list(shape)}; use "
        f"{name}={near} or {other}={channels // near}"
    )
