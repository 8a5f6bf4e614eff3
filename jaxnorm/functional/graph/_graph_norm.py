"""Graph normalization: each feature over the nodes of a graph, less a learned share of the mean.

Cai et al.: GraphNorm, arXiv:2009.03294, 2020.
"""

import math

import jax.numpy as jnp

from jaxnorm.functional._large import unitless
from jaxnorm.functional._parameters import place
from jaxnorm.functional.graph._graphs import graphs_of
from jaxnorm.numerics import canonical_axes, check_epsilon
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def graph_norm(
    x: ArrayLike,
    segment_ids: ArrayLike | None = None,
    alpha: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    num_segments: int | None = None,
    feature_axes: Axes = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns each feature of the nodes of a graph normalized, the mean left in to a learned share.

    `y = (x - alpha mean) / sqrt(mean((x - alpha mean)^2) + epsilon) * scale + bias`, with one
    statistic per graph and feature, float32 or wider (Cai et al., arXiv:2009.03294, 2020).

    Args:
        x: [N, *features], the nodes of all graphs, floating.
        segment_ids: [N], the graph of each node; negative, or not below `num_segments`, for nodes
            that are padding, which change nothing and come out as zero. None for one graph.
        alpha: [*features], the share of the mean that is taken away; None for all of it.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        num_segments: how many graphs there are, where there are ids; known at trace time.
        feature_axes: the axes that alpha, scale and bias belong to, not the first.
        epsilon: added to the mean square.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [N, *features], of `dtype`.

    Raises:
        ValueError: ids without `num_segments`, or a shape that does not fit.
        TypeError: `x` is not floating or complex, or is complex and there is an alpha, or the ids
            are no integers.

    Examples:
        >>> x, ids = jnp.array([[1.0], [3.0], [50.0], [70.0]]), jnp.array([0, 0, 1, 1])
        >>> graph_norm(x, ids, num_segments=2).ravel().round(2)
        Array([-1.,  1., -1.,  1.], dtype=float32)
        >>> graph_norm(jnp.array([[3.0], [3.0]]), alpha=jnp.zeros(1)).ravel().round(2)
        Array([1., 1.], dtype=float32)
    """
    check_epsilon(epsilon)
    graphs = graphs_of(x, segment_ids, num_segments, mask, weights)
    x = graphs.x
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    if alpha is not None and jnp.iscomplexobj(x):
        raise TypeError(
            f"alpha needs a real x, got {x.dtype} {list(x.shape)}; use alpha=None, or normalize "
            "the real and the imaginary parts"
        )
    share, gain, shift = (
        place(value, x.shape, features, name)
        for name, value in (("alpha", alpha), ("scale", scale), ("bias", bias))
    )
    unit = graphs.units(math.sqrt(epsilon))
    in_units = x * graphs.at_nodes(1 / unit)
    taken = graphs.moments(in_units)
    var = taken.var + unitless(epsilon, unit)
    if share is not None:
        rest = (1 - share.astype(var.dtype)) * taken.mean
        around, kept = graphs.at_nodes(_shares(jnp.sqrt(var), rest))
        kept = kept if gain is None else kept * gain
        gain = around if gain is None else around * gain
        shift = kept if shift is None else kept + shift
    centred = graphs.centred(in_units, taken)
    y = graphs.divided(centred, var, taken.count, dtype or x.dtype, gain, shift)
    return graphs.without_padding(y)


def _shares(std: Array, rest: Array) -> tuple[Array, Array]:
    """Returns `std / length` and `rest / length`, with `length = sqrt(std^2 + rest^2)`.

    With them `(x - alpha mean) / length` is `share (x - mean) / std + kept`. By way of angles both
    keep their digits, and so do their derivatives, however small the one is beside the other.
    """
    size = jnp.where(rest >= 0, rest, -rest)
    sign = jnp.where(rest >= 0, 1, -1).astype(rest.dtype)
    return jnp.sin(jnp.arctan2(std, size)), sign * jnp.sin(jnp.arctan2(size, std))
