"""What shards exchange of samples that a mesh cuts through, and what Shardy is told of them."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxnorm.stats.cutting import Cut, ends_with_groups
from jaxnorm.stats.sums import block_sum, spread
from jaxnorm.typing import Array, Shape


class Along(NamedTuple):
    """The shape of what is cut as x is, along the axes that it has in full.

    Examples:
        >>> Along((8, 1)).shape
        (8, 1)
    """

    shape: Shape


Place = str | Shape | Along
"""What an operand is beside x: "whole" of its shape, "statistic" of theirs, or a scale's shape."""


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
