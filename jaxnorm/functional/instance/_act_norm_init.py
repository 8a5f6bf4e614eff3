"""The scale and the bias with which activation normalization starts, from a batch.

Kingma, Dhariwal: Glow: Generative Flow with Invertible 1x1 Convolutions, arXiv:1807.03039, 2018.
"""

import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.stats import moments, whole_mean
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName


def act_norm_init(
    x: ArrayLike,
    *,
    feature_axes: Axes = -1,
    epsilon: float = 1e-6,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
) -> tuple[Array, Array]:
    """Returns the scale and the bias with which `act_norm` gives a batch mean 0 and variance 1.

    `scale = 1 / sqrt(var + epsilon)`, `bias = -mean * scale`; statistics shape `(1, 1, 1, C)` for
    `x [N, H, W, C]`, float32 or wider (Kingma, Dhariwal, arXiv:1807.03039, 2018: actnorm).

    Args:
        x: [N, *spatial, *features] (or features at `feature_axes`), floating.
        feature_axes: the axes that scale and bias belong to.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.

    Returns:
        Two arrays of [*features].

    Raises:
        ValueError: a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> act_norm_init(jnp.array([[1.0], [5.0]]), epsilon=0.0)
        (Array([0.5], dtype=float32), Array([-1.5], dtype=float32))

    Notes:
        The authors' code adds its epsilon, 1e-6, to the deviation in the place of the variance.
    """
    x = as_array(x)
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    taken = moments(
        x,
        kept_shape(x.shape, features),
        mask=mask,
        weights=weights,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
    )
    sizes = tuple(x.shape[axis] for axis in features)
    scale = (1 / jnp.sqrt(taken.var + epsilon)).reshape(sizes)
    return scale, -whole_mean(taken, taken.mean.dtype).reshape(sizes) * scale
