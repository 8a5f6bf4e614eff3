"""Statistics of a batch where XLA partitions a program by itself: those of blocks, gathered once.

The compiler for TPU does not ask how an operation is partitioned, and a program that is lowered
does not know how its arrays lie. But the mesh axes that cut a batch evenly divide its size and the
number of devices. A batch that is cut into as many blocks as the greatest common divisor of the two
has no block on two shards. Moments of blocks then need no exchange, and XLA is told to have them on
every device, which is one gather.

Chan, Golub, LeVeque: Algorithms for computing the sample variance, The American Statistician, 1983.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxnorm import _partitioning
from jaxnorm.stats.measuring import Measured, pool_gathered
from jaxnorm.stats.sampling import Sampling
from jaxnorm.typing import Array


def blocks_of(ctx: Any, x: Any, sampling: Sampling) -> int:
    """Returns into how many blocks the first axis is cut: one where nothing is centred.

    Args:
        ctx: the context of a lowering rule.
        x: the aval of x.
        sampling: says of what the moments are.
    """
    if not sampling.center:
        return 1
    return _partitioning.blocks_of_batch(ctx, x.shape, sampling.stats_shape)


def in_blocks(
    measure: Callable[[Sampling, Array, Array | None], Measured],
    sampling: Sampling,
    x: Array,
    w: Array | None,
    blocks: int,
) -> Measured:
    """Returns the moments of `x`, pooled of those of blocks of its first axis.

    Args:
        measure: takes the sampling, `x` and the weights with the first axis split into blocks and
            their members, and returns `Measured` with a statistic for each block.
        sampling: reduces the first axis, names no mapped axes.
        x: [*shape].
        w: weights of the rank of `x`, or None.
        blocks: how many, a divisor of the first axis; with one, `x` is measured as it is.

    Returns:
        `Measured` of the statistics shape.

    Examples:
        >>> import jax
        >>> from jaxnorm.stats.measuring import measure
        >>> run = jax.jit(lambda x: in_blocks(measure, Sampling((1,)), x, None, 2).var)
        >>> run(jnp.array([1.0, 2.0, 3.0, 4.0]))
        Array([1.25], dtype=float32)
    """
    if blocks == 1:
        return measure(sampling, x, w)
    # XLA would sum each example first, and exchange these sums where positions are cut as well.
    split = lax.optimization_barrier(_split(x, blocks))
    own = sampling._replace(stats_shape=(blocks, *sampling.stats_shape))
    block = measure(own, split, None if w is None else _split(w, blocks))
    return pool_gathered(block, sampling.center, sampling.stats_shape, _on_all_devices)


def _split(values: Array, blocks: int) -> Array:
    """Returns [blocks, members, *shape], or [1, 1, *shape] of what all members share."""
    n, *rest = values.shape
    return values.reshape(*((1, 1) if n == 1 else (blocks, n // blocks)), *rest)


def _on_all_devices(rows: Sequence[Array]) -> list[Array]:
    return list(_partitioning.gathered(jnp.stack(rows), axis=1))
