"""Pair normalization: the distances between the nodes of a graph keep their total size.

Zhao, Akoglu: PairNorm: Tackling Oversmoothing in GNNs, arXiv:1909.12223, 2019.
"""

import math

import jax.numpy as jnp

from jaxnorm.functional._large import unitless
from jaxnorm.functional.graph._graphs import Graphs, graphs_of
from jaxnorm.numerics import check_epsilon
from jaxnorm.ops import standardize
from jaxnorm.stats import Moments, pool
from jaxnorm.typing import Array, ArrayLike, DTypeLike


def pair_norm(
    x: ArrayLike,
    segment_ids: ArrayLike | None = None,
    *,
    num_segments: int | None = None,
    scale: float = 1.0,
    scale_individually: bool = False,
    epsilon: float = 1e-6,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns the nodes of each graph about their mean, at a mean squared length of `scale^2`.

    `y_i = scale c_i / sqrt(mean_j(|c_j|^2) + epsilon)` with `c_i = x_i - mean_j(x_j)`; one mean per
    graph and feature and one length per graph, float32 or wider (Zhao, Akoglu, arXiv:1909.12223,
    2019). The variant PairNorm-SI has `|c_i|^2` in the place of its mean.

    Args:
        x: [N, *features], the nodes of all graphs, floating or complex; C features in all.
        segment_ids: [N], the graph of each node; negative, or not below `num_segments`, for nodes
            that are padding, which change nothing and come out as zero. None for one graph.
        num_segments: how many graphs there are, where there are ids; known at trace time.
        scale: the length that is kept, s; not learned.
        scale_individually: whether each node gets this length, as in PairNorm-SI.
        epsilon: added to the squared length, inside the root, as in the authors' code.
        mask: boolean, broadcastable to `x`, usually [N, 1]; true where an entry takes part. Where
            single entries do not, a squared length is the mean square of the others times C.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [N, *features], of `dtype`.

    Raises:
        ValueError: ids without `num_segments`, or a shape that does not fit.
        TypeError: `x` is not floating or complex, or the ids are no integers.

    Examples:
        >>> x = jnp.array([[1.0, 0.0], [3.0, 0.0], [2.0, 7.0], [2.0, 1.0]])
        >>> pair_norm(x, jnp.array([0, 0, 1, 1]), num_segments=2).round(2)
        Array([[-1.,  0.],
               [ 1.,  0.],
               [ 0.,  1.],
               [ 0., -1.]], dtype=float32)
    """
    check_epsilon(epsilon)
    graphs = graphs_of(x, segment_ids, num_segments, mask, weights)
    of_graphs = _individually if scale_individually else _together
    y = of_graphs(graphs, scale, epsilon, jnp.dtype(dtype or graphs.x.dtype))
    return graphs.without_padding(y)


def _together(graphs: Graphs, scale: float, epsilon: float, dtype: jnp.dtype) -> Array:
    size = math.prod(graphs.x.shape[1:])
    whole = (graphs.number, *(1,) * (graphs.x.ndim - 1))
    unit = jnp.max(
        graphs.units(math.sqrt(epsilon)), axis=tuple(range(1, graphs.x.ndim)), keepdims=True
    )
    in_units = graphs.x * graphs.at_nodes(1 / unit)
    taken = graphs.moments(in_units)
    # Means of zero, so that what is pooled is the spread within features and not between them.
    within = pool(Moments(jnp.zeros_like(taken.mean), taken.var, taken.count), whole)
    var = within.var * size + unitless(epsilon, unit)
    factor = jnp.asarray(scale, var.dtype)
    return graphs.divided(graphs.centred(in_units, taken), var, within.count, dtype, factor)


def _individually(graphs: Graphs, scale: float, epsilon: float, dtype: jnp.dtype) -> Array:
    x = graphs.x
    size = math.prod(x.shape[1:])
    centred = graphs.centred(x, graphs.moments(x))
    y, _ = standardize(
        centred,
        (len(x), *(1,) * (x.ndim - 1)),
        center=False,
        scale=jnp.asarray(scale / math.sqrt(size), centred.dtype),
        epsilon=epsilon / size,
        dtype=dtype,
        **graphs.sample,
    )
    return y
