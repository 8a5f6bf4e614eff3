"""Group normalization: each example over its positions and each group of channels.

Wu, He: Group Normalization, arXiv:1803.08494, 2018.
"""

from jaxnorm.functional._parameters import place
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import Implementation, standardize
from jaxnorm.stats import Variance
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike, Shape


def group_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    num_groups: int | None = None,
    group_size: int | None = None,
    axis: int = -1,
    reduction_axes: Axes | None = None,
    epsilon: float = 1e-6,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> Array:
    """Returns `x` with mean 0 and variance 1 in each group of channels of each example.

    `y = (x - mean) / sqrt(var + epsilon) * scale + bias`; statistics shape `(N, 1, 1, G)` for
    `x [N, H, W, C]`, float32 or wider (Wu, He, arXiv:1803.08494, 2018, equations 1, 2, 7).

    Args:
        x: [N, *spatial, C] (or channels at `axis`), floating or complex, of any rank from 1.
        scale: [C], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        num_groups: the number of groups of contiguous channels; the paper's is 32.
        group_size: the number of channels in a group; give this or `num_groups`.
        axis: the channel axis.
        reduction_axes: the axes that the statistics are taken over, the channel axis among them;
            all but the first if None.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        [N, *spatial, C], of `dtype`.

    Raises:
        ValueError: the groups do not divide the channels, the axes leave out the channels, a shape
            does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> group_norm(jnp.array([[1.0, 3.0, 8.0, 4.0]]), num_groups=2).round(3)
        Array([[-1.,  1.,  1., -1.]], dtype=float32)
    """
    x = as_array(x)
    features = canonical_axes(axis, x.ndim, "axis")
    y, _ = standardize(
        x,
        group_stats_shape(x.shape, num_groups, group_size, axis, reduction_axes),
        scale=place(scale, x.shape, features, "scale"),
        bias=place(bias, x.shape, features, "bias"),
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
        implementation=implementation,
    )
    return y


def group_stats_shape(
    shape: Shape,
    num_groups: int | None,
    group_size: int | None = None,
    axis: int = -1,
    reduction_axes: Axes | None = None,
) -> Shape:
    """Returns the statistics shape of group normalization.

    Args:
        shape: the shape of `x`.
        num_groups: the number of groups, or None.
        group_size: the channels in a group, or None.
        axis: the channel axis.
        reduction_axes: the reduced axes; all but the first if None.

    Returns:
        `shape` with ones at the reduced axes and the number of groups at `axis`.

    Raises:
        ValueError: see `group_norm`.

    Examples:
        >>> group_stats_shape((8, 4, 4, 6), num_groups=3)
        (8, 1, 1, 3)
    """
    (axis,) = canonical_axes(axis, len(shape), "axis")
    channels = shape[axis]
    if (num_groups is None) == (group_size is None):
        raise ValueError(
            f"group_norm needs num_groups or group_size, one of the two; got num_groups="
            f"{num_groups} and group_size={group_size} for the {channels} channels of x "
            f"{list(shape)}"
        )
    groups = _groups(shape, channels, num_groups, group_size)
    if reduction_axes is None:
        reduced = {*range(1, len(shape)), axis}
    else:
        reduced = set(canonical_axes(reduction_axes, len(shape), "reduction_axes"))
        if axis not in reduced:
            raise ValueError(
                f"reduction_axes={reduction_axes} of x {list(shape)} must include the channel axis "
                f"{axis}, which is reduced within each group"
            )
    return tuple(groups if a == axis else 1 if a in reduced else n for a, n in enumerate(shape))


def _groups(shape: Shape, channels: int, num_groups: int | None, group_size: int | None) -> int:
    """Returns the number of groups after checking that they are equal and fill the channels."""
    divisors = [n for n in range(1, channels + 1) if channels % n == 0]
    name, asked = ("num_groups", num_groups) if group_size is None else ("group_size", group_size)
    if asked is not None and asked in divisors:
        return asked if name == "num_groups" else channels // asked
    near = max([n for n in divisors if n <= (asked or 1)], default=1)
    other = "group_size" if name == "num_groups" else "num_groups"
    raise ValueError(
        f"{name}={asked} does not divide the {channels} channels of x {list(shape)}; use "
        f"{name}={near} or {other}={channels // near}"
    )
