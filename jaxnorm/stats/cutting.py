"""How a mesh cuts an array and its samples.

A mesh axis that cuts an array between its samples asks for nothing. One that cuts through samples
asks for a sum over the shards. A grouped axis may have both: of four shards with two groups, two
shards hold a group. Where a group ends within a shard the shard is cut into blocks, so many that no
block holds members of two groups.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxnorm import _explicit
from jaxnorm.typing import DTypeLike, Shape

Names = tuple[str, ...]


class Cut(NamedTuple):
    """One axis of an array on a mesh.

    Examples:
        >>> cut_axis(24, 2, ("a", "b"), {"a": 2, "b": 2})
        Cut(kept=('a',), through=('b',), groups=1, blocks=1, shards=2)
    """

    kept: Names  # mesh axes that cut between samples
    through: Names  # mesh axes that cut through samples
    groups: int  # statistics that a shard has a part in, together with those it shares them with
    blocks: int  # of a shard; each within one sample
    shards: int  # that have a part in the same statistics


def cut_axis(n: int, s: int, names: Names, sizes: Mapping[str, int], explicit: bool = False) -> Cut:
    """Returns how an axis is cut.

    Args:
        n: the axis's size, which the mesh axes divide.
        s: its entry in the statistics shape.
        names: the mesh axes it is sharded over.
        sizes: of the mesh axes, by name.
        explicit: whether types say how statistics lie: as the array, or the same on all its shards.

    Returns:
        A `Cut`. Mesh axes of one device cut through nothing.

    Examples:
        >>> cut_axis(24, 6, ("a", "b"), {"a": 2, "b": 2})
        Cut(kept=(), through=('a', 'b'), groups=6, blocks=3, shards=4)
    """
    groups, kept = s, 0
    every = math.prod(sizes[name] for name in names)
    ends = s % every == 0 if explicit else ends_with_groups(s, list(sizes.values()))
    apart = s > 1 and (s == n or ends)
    while apart and kept < len(names) and groups % sizes[names[kept]] == 0:
        groups //= sizes[names[kept]]
        kept += 1
    through = tuple(name for name in names[kept:] if sizes[name] > 1)
    shards = math.prod(sizes[name] for name in through)
    local = n // every
    blocks = groups if shards == 1 else local // math.gcd(local, n // s)
    return Cut(names[:kept], through, groups, blocks, shards)


def ends_with_groups(groups: int, sizes: Sequence[int]) -> bool:
    """Returns whether on every mesh a shard ends where a group does, or a group where a shard does.

    Else the statistics of a grouped axis are the same on all devices: Shardy could not say how they
    lie, and would gather the array itself.

    Args:
        groups: along one axis.
        sizes: the prime factors of the number of devices.

    Returns:
        False where neither the groups nor the shards divide the others.

    Examples:
        >>> ends_with_groups(32, [2, 2, 2]), ends_with_groups(6, [2, 2, 2])
        (True, False)
    """
    return groups == 1 or all(
        math.gcd(groups, n) in (groups, n)
        and ends_with_groups(groups // math.gcd(groups, n), [*sizes[:i], *sizes[i + 1 :]])
        for i, n in enumerate(sizes)
    )


def cuts_of(
    shape: Shape,
    stats_shape: Shape,
    spec: Sequence[Names],
    sizes: Mapping[str, int],
    explicit: bool = False,
) -> tuple[Cut, ...]:
    """Returns how each axis of an array is cut.

    Args:
        shape: of the array.
        stats_shape: of its statistics.
        spec: for each axis the mesh axes it is sharded over.
        sizes: of the mesh axes, by name.
        explicit: as `cut_axis` takes it.

    Returns:
        A `Cut` for each axis.

    Examples:
        >>> cuts_of((8,), (1,), [("a",)], {"a": 2})
        (Cut(kept=(), through=('a',), groups=1, blocks=1, shards=2),)
    """
    axes = zip(shape, stats_shape, spec, strict=True)
    return tuple(cut_axis(n, s, names, sizes, explicit) for n, s, names in axes)


def statistic(x: Any, stats_shape: Shape, dtype: DTypeLike) -> Any:
    """Returns the aval of a statistic of an array.

    On a mesh with explicit axes the statistic lies on the shards that hold its samples.

    Args:
        x: the aval of the array.
        stats_shape: the statistics shape.
        dtype: of the statistic.

    Returns:
        An aval of [*stats_shape].

    Examples:
        >>> import jax
        >>> statistic(jax.core.ShapedArray((2, 3), "float32"), (1, 3), "float32").shape
        (1, 3)
    """
    mesh = _explicit.mesh_of(x)
    spec = _explicit.spec_of(x)
    if mesh is not None:
        spec = [cut.kept for cut in cuts_of(x.shape, stats_shape, spec, mesh.shape, True)]
    return _explicit.typed(x, stats_shape, dtype, spec)
