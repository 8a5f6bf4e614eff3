"""The nodes of a batch of graphs: statistics of each graph, and what they are at its nodes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnorm.numerics import accumulation_dtype, as_array, require_inexact
from jaxnorm.ops import normalize
from jaxnorm.stats import Moments, moments, segment_moments, segment_units, units
from jaxnorm.stats._segments import at_rows, segments_of, without_padding
from jaxnorm.stats.sampling import usable
from jaxnorm.typing import Array, ArrayLike, DTypeLike, PyTree


class Graphs(NamedTuple):
    """Nodes without padding, and the graph of each.

    Examples:
        >>> graphs = graphs_of(jnp.array([[1.0], [jnp.nan]]), jnp.array([0, 1]), 1, None, None)
        >>> graphs.x.ravel()
        Array([1., 0.], dtype=float32)
    """

    x: Array  # [N, *features], zero in padding and where it is masked and not finite
    ids: Array | None  # [N], the number of graphs in padding; None where all nodes are one graph
    number: int  # of graphs
    sample: dict[str, Any]  # mask and weights

    def units(self, at_least: float) -> Array:
        """Returns the sizes of the largest entries, [S, *features]."""
        if self.ids is None:
            return units(self.x, (1, *self.x.shape[1:]), at_least=at_least, **self.sample)
        return segment_units(self.x, self.ids, self.number, at_least=at_least, **self.sample)

    def moments(self, x: Array, center: bool = True) -> Moments:
        """Returns the moments of each graph, [S, *features], of what stands at the nodes."""
        if self.ids is None:
            # A mask takes two passes in any case; they keep the variance of a large graph exact.
            stats_shape = (1, *x.shape[1:])
            return moments(x, stats_shape, center=center, variance="two_pass", **self.sample)
        return segment_moments(x, self.ids, self.number, center=center, **self.sample)

    def at_nodes(self, statistics: PyTree) -> PyTree:
        """Returns statistics [S, ...] at the nodes [N, ...], or as they are for one graph."""
        if self.ids is None:
            return statistics
        ids = self.ids
        return jax.tree.map(lambda v: at_rows(v, ids) if jnp.ndim(v) else v, statistics)

    def centred(self, x: Array, taken: Moments) -> Array:
        """Returns what stands at the nodes less the mean of their graph, in float32 or wider.

        By itself, so that in a graph of one node the gradient of this is exactly zero: divided by
        the root of a small epsilon first, what rounding leaves of it would not be small.
        """
        about = self.at_nodes(taken._replace(var=jnp.ones_like(taken.var)))
        return normalize(x, about, epsilon=0.0, dtype=accumulation_dtype(x.dtype))

    def divided(
        self,
        deviation: Array,
        var: Array,
        count: Array,
        dtype: DTypeLike,
        scale: Array | None = None,
        bias: Array | None = None,
    ) -> Array:
        """Returns `deviation / sqrt(var) * scale + bias`, the statistics those of each graph."""
        of_nodes = self.at_nodes(Moments(jnp.zeros_like(var), var, count))
        return normalize(deviation, of_nodes, scale=scale, bias=bias, epsilon=0.0, dtype=dtype)

    def without_padding(self, y: Array) -> Array:
        """Returns an output that is zero at the nodes of no graph."""
        return y if self.ids is None else without_padding(y, self.ids, self.number)


def graphs_of(
    x: ArrayLike,
    segment_ids: ArrayLike | None,
    num_segments: int | None,
    mask: ArrayLike | None,
    weights: ArrayLike | None,
) -> Graphs:
    """Returns the nodes of a batch of graphs after checking them.

    Args:
        x: [N, *features].
        segment_ids: [N], the graph of each node; None for one graph.
        num_segments: how many graphs there are, where there are ids.
        mask: boolean, broadcastable to `x`.
        weights: real, broadcastable to `x`.

    Returns:
        `Graphs`.

    Raises:
        ValueError: ids without a number of graphs, or a shape that does not fit.
        TypeError: `x` is not floating or complex, or the ids are no integers.

    Examples:
        >>> graphs_of(jnp.ones((2, 3)), None, None, None, None).moments(jnp.ones((2, 3))).count
        Array(2., dtype=float32)
    """
    x = as_array(x)
    require_inexact(x)
    if x.ndim < 2:
        raise ValueError(f"x {list(x.shape)} must be [nodes, features]; add an axis of features")
    sample = {"mask": mask, "weights": weights}
    if segment_ids is None:
        return Graphs(usable(x, **sample), None, 1, sample)
    if num_segments is None:
        raise ValueError(
            f"segment_ids {list(jnp.shape(segment_ids))} came without num_segments; pass how many "
            "graphs there are at most, which must be known when the program is traced"
        )
    ids = segments_of(x, segment_ids, num_segments)
    return Graphs(without_padding(x, ids, num_segments, **sample), ids, num_segments, sample)
