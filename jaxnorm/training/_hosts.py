"""Metrics of processes that saw different numbers of rows."""

from collections.abc import Mapping, Sequence

import numpy as np
from jax.experimental import multihost_utils

from jaxnorm.typing import Array


def pool_metrics(parts: Sequence[tuple[Mapping[str, Array | float], int]]) -> dict[str, float]:
    """Returns means over the rows of all processes, from the means of this process's batches.

    Each process evaluates batches of its own, as many as it has and of any sizes, without waiting
    for the others; this is the one place where they meet. Every process calls it once, also one
    whose share of the data has run out.

    Args:
        parts: (metrics, rows) of each batch of this process: scalars, means over that many rows.
            Metrics of no rows do not matter, be they NaN; a process without data gives zeros under
            the names of the others.

    Returns:
        The means over all rows of all processes, the same on each, under the names of the parts.

    Raises:
        ValueError: there are no parts, their names differ, a count is negative, or no process has
            any row.

    Examples:
        >>> means = pool_metrics([({"loss": np.array(1.0)}, 3), ({"loss": np.array(5.0)}, 1)])
        >>> means
        {'loss': 2.0}
    """
    if not parts:
        raise ValueError(
            "pool_metrics got no parts; a process without rows passes [({'loss': 0.0, ...}, 0)], "
            "so that the others do not wait for it"
        )
    names = sorted(parts[0][0])
    counts = [rows for _, rows in parts]
    if any(sorted(metrics) != names for metrics, _ in parts) or min(counts) < 0:
        raise ValueError(
            f"the parts need one set of metrics and counts of rows from zero on, got "
            f"{[sorted(metrics) for metrics, _ in parts]} and rows {counts}"
        )
    sums = np.zeros(len(names))
    for metrics, rows in parts:
        if rows:
            sums += rows * np.array([float(metrics[name]) for name in names])
    mine = sums / max(sum(counts), 1)
    # The mean travels in float32, what JAX's collectives carry by default; the count is exact.
    means, rows = multihost_utils.process_allgather(
        (mine.astype(np.float32), np.int32(sum(counts)))
    )
    means, rows = np.atleast_2d(np.asarray(means, np.float64)), np.atleast_1d(np.asarray(rows))
    total = int(rows.sum(dtype=np.int64))
    if not total:
        raise ValueError("no process has any row to evaluate on")
    pooled = rows.astype(np.float64) @ means / total
    return dict(zip(names, pooled.tolist(), strict=True))
