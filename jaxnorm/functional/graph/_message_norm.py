"""Message normalization: the messages that reach a node get the length of its own features.

Li, Xiong, Thabet, Ghanem: DeeperGCN: All You Need to Train Deeper GCNs, arXiv:2006.07739, 2020.
"""

import jax.numpy as jnp

from jaxnorm.numerics import as_array, require_inexact
from jaxnorm.ops import standardize
from jaxnorm.stats import moments, reduced_stats_shape, sample_size, units
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def message_norm(
    x: ArrayLike,
    message: ArrayLike,
    scale: ArrayLike | None = None,
    *,
    reduction_axes: Axes = -1,
    epsilon: float = 1e-24,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns the aggregated message of each node at the length of the node's features.

    `y = scale |x| message / sqrt(|message|^2 + epsilon)`, one length per node, float32 or wider (Li
    et al., arXiv:2006.07739, 2020). A layer goes on with `x + y`.

    Args:
        x: [N, C], the nodes, floating.
        message: [N, C], what reaches each of them.
        scale: [], learned; None for one.
        reduction_axes: the axes that lengths are taken over.
        epsilon: added to the squared length of the message, which the paper's formula divides by.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [N, C], of `dtype`; zero where the message is.

    Raises:
        ValueError: the shapes of `x` and of the message differ, or an axis does not fit.
        TypeError: `x` or the message is not floating or complex.

    Examples:
        >>> message_norm(jnp.array([[3.0, 4.0]]), jnp.array([[0.0, 0.1]]), 2.0).round(3)
        Array([[ 0., 10.]], dtype=float32)

    Notes:
        PyTorch Geometric divides by `max(|message|, 1e-12)`.
    """
    x, message = as_array(x), as_array(message)
    require_inexact(x)
    require_inexact(message, "message")
    if x.shape != message.shape:
        raise ValueError(
            f"message {list(message.shape)} must have the shape of x {list(x.shape)}; aggregate "
            "the messages per node first, for example with jax.ops.segment_sum"
        )
    stats_shape = reduced_stats_shape(x.shape, reduction_axes)
    size = sample_size(x.shape, stats_shape)
    unit = units(x, stats_shape)
    square = moments(x / unit, stats_shape, center=False).var
    # The root of zero has no derivative; that of the length of zero is taken for zero.
    some = square > 0
    rms = jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0) * unit
    y, _ = standardize(
        message,
        stats_shape,
        center=False,
        scale=rms if scale is None else rms * jnp.asarray(scale),
        epsilon=epsilon / size,
        dtype=dtype or x.dtype,
    )
    return y
