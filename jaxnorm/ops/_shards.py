"""How the statistics of an array lie on a mesh whose axes cut it.

A mesh axis that cuts an array between its samples asks for nothing. One that cuts through samples
asks for a sum over the shards. A grouped axis may have both: of four shards with two groups, two
shards hold a group. Where a group ends within a shard the shard is cut into blocks, so many that no
block holds members of two groups.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxnorm.stats.sums import block_sum, spread
from jaxnorm.typing import Array, Shape

Names = tuple[str, ...]


class Along(NamedTuple):
    """The shape of what is cut as x is, along the axes that it has in full.

    Examples:
        >>> Along((8, 1)).shape
        (8, 1)
    """

    shape: Shape


Place = str | Shape | Along
"""What an operand is beside x: "whole" of its shape, "statistic" of theirs, or a scale's shape."""


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


def cut_axis(n: int, s: int, names: Names, sizes: Mapping[str, int]) -> Cut:
    """Returns how an axis is cut.

    Args:
        n: the axis's size, which the mesh axes divide.
        s: its entry in the statistics shape.
        names: the mesh axes it is sharded over.
        sizes: of the mesh axes, by name.

    Returns:
        A `Cut`.

    Examples:
        >>> cut_axis(24, 6, ("a", "b"), {"a": 2, "b": 2})
        Cut(kept=(), through=('a', 'b'), groups=6, blocks=3, shards=4)
    """
    groups, kept = s, 0
    apart = s in (1, n) or ends_with_groups(s, list(sizes.values()))
    while apart and kept < len(names) and groups % sizes[names[kept]] == 0:
        groups //= sizes[names[kept]]
        kept += 1
    shards = math.prod(sizes[name] for name in names[kept:])
    local = n // math.prod(sizes[name] for name in names)
    blocks = groups if shards == 1 else local // math.gcd(local, n // s)
    return Cut(names[:kept], names[kept:], groups, blocks, shards)


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


def groups_of_blocks(values: Array, cuts: Sequence[Cut]) -> Array:
    """Returns this shard's part of each sum.

    Args:
        values: [*blocks], sums over this shard's blocks.
        cuts: of the array's axes.

    Returns:
        [*groups], to be summed over the shards that have a part in them.

    Examples:
        >>> groups_of_blocks(jnp.ones(4), [Cut((), (), 4, 4, 1)])
        Array([1., 1., 1., 1.], dtype=float32)
    """
    for axis, cut in enumerate(cuts):
        if cut.shards > 1 and cut.groups > 1:
            every = list(values.shape)
            every[axis] = cut.blocks * cut.shards
            start = _first_block(cut)
            zeros = jnp.zeros(every, values.dtype)
            values = lax.dynamic_update_slice_in_dim(zeros, values, start, axis)
            every[axis] = cut.groups
            values = block_sum(values, tuple(every))
    return values


def blocks_of_groups(statistic: Array, cuts: Sequence[Cut]) -> Array:
    """Returns the statistic that each of this shard's blocks belongs to.

    Args:
        statistic: [*groups].
        cuts: of the array's axes.

    Returns:
        [*blocks].

    Examples:
        >>> blocks_of_groups(jnp.ones(4), [Cut((), (), 4, 4, 1)])
        Array([1., 1., 1., 1.], dtype=float32)
    """
    for axis, cut in enumerate(cuts):
        if cut.shards > 1 and cut.groups > 1:
            every = list(statistic.shape)
            every[axis] = cut.blocks * cut.shards
            start = _first_block(cut)
            statistic = jnp.broadcast_to(spread(statistic, tuple(every)), every)
            statistic = lax.dynamic_slice_in_dim(statistic, start, cut.blocks, axis)
    return statistic


def gathered_blocks(rows: Sequence[Array], cuts: Sequence[Cut]) -> list[Array]:
    """Returns arrays of the blocks of all shards that share statistics, with one collective.

    Args:
        rows: [*blocks] each, this shard's.
        cuts: of the array's axes.

    Returns:
        [*every_block] each, the blocks of an axis in the order of the whole array.

    Examples:
        >>> import jax
        >>> cut = Cut((), ("a",), 1, 1, 2)
        >>> jax.vmap(lambda x: gathered_blocks([x], [cut])[0], axis_name="a")(jnp.ones((2, 1)))
        Array([[1., 1.],
               [1., 1.]], dtype=float32)
    """
    rank = len(cuts)
    names = tuple(name for cut in cuts for name in cut.through)
    everyone = lax.all_gather(jnp.stack(rows), names)
    split = everyone.reshape(*(cut.shards for cut in cuts), *everyone.shape[1:])
    order = [rank, *(place for axis in range(rank) for place in (axis, rank + 1 + axis))]
    return list(
        split.transpose(order).reshape(len(rows), *(cut.shards * cut.blocks for cut in cuts))
    )


def sharding_rule(
    operands: Sequence[Place],
    results: Sequence[Place],
    shape: Shape,
    stats_shape: Shape,
    sizes: Sequence[int],
) -> tuple[str, dict[str, int]]:
    """Returns which axes are sharded alike, in the notation of Shardy's custom rules.

    Scale and bias are not tied to `x`: parameters that are sharded to save memory (FSDP) would have
    the statistics sharded as well, and gathered for the backward pass.

    Args:
        operands: "whole" for arrays of `shape`, "statistic" for those of `stats_shape`, `Along` for
            weights, and the shapes of scale and bias.
        results: the same.
        shape: of the whole array.
        stats_shape: of its statistics.
        sizes: the prime factors of the number of devices.

    Returns:
        The rule, and the sizes of the factors that stand in compound axes only.

    Examples:
        >>> sharding_rule(["whole", (1, 6)], ["whole", "statistic"], (8, 6), (8, 1), [2, 2])
        ('d0 d1, u0 c1 -> d0 d1, d0 u1', {})
    """
    grouped = {
        axis: n // s
        for axis, (n, s) in enumerate(zip(shape, stats_shape, strict=True))
        if s not in (1, n) and ends_with_groups(s, sizes)
    }
    unique = itertools.count()

    def factor(axis: int, place: Place) -> str:
        if isinstance(place, Along):
            tied = place.shape[axis] == shape[axis]
            return factor(axis, "whole") if tied else f"u{next(unique)}"
        if place == "whole":
            return f"(g{axis} m{axis})" if axis in grouped else f"d{axis}"
        if place == "statistic" and axis in grouped:
            return f"g{axis}"
        if place == "statistic" and stats_shape[axis] == shape[axis]:
            return f"d{axis}"
        if place != "statistic" and place[axis] == shape[axis]:
            return f"c{axis}"
        return f"u{next(unique)}"

    def mapping(place: Place) -> str:
        return " ".join(factor(axis, place) for axis in range(len(shape)))

    sides = (", ".join(map(mapping, side)) for side in (operands, results))
    return " -> ".join(sides), {f"m{axis}": n for axis, n in grouped.items()}


def _first_block(cut: Cut) -> Array:
    return lax.axis_index(cut.through) * cut.blocks
