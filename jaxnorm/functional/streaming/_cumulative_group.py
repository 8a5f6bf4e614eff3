"""Cumulative norms: each step of a sequence by the moments of the steps up to it.

Ma et al.: Megalodon, arXiv:2404.08801, 2024, and Luo, Mesgarani: Conv-TasNet, arXiv:1809.07454,
2018.
"""

import jax

from jaxnorm.functional._parameters import placed
from jaxnorm.functional.instance._group_shape import group_stats_shape
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import normalize
from jaxnorm.stats import Moments, Variance, prefix_moments
from jaxnorm.stats.sampling import usable
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike


def cumulative_group_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    num_groups: int,
    axis: int = -1,
    before: Moments | None = None,
    epsilon: float = 1e-6,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
) -> Array | tuple[Array, Moments]:
    """Returns `x` over the moments of each group of channels in the steps up to each one.

    `y[t] = (x[t] - mean[t]) / sqrt(var[t] + epsilon) * scale + bias` with the moments of
    `x[0], ..., x[t]`; statistics shape `(N, T, 1, G)` for `x [N, T, W, C]`, float32 or wider (Ma et
    al., arXiv:2404.08801, 2024, section 3.2: timestep normalization). No step depends on a later
    one. One group is the cumulative layer norm of Luo, Mesgarani, arXiv:1809.07454, 2018.

    Args:
        x: [N, T, *spatial, C] (or channels at `axis`), floating or complex: T steps, of any
            rank from 3.
        scale: [C], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        num_groups: the number of groups of contiguous channels.
        axis: the channel axis, behind the steps.
        before: moments [N, 1, *(1), G] of the steps before the first, as this function returns
            them, or zeros; None for the whole sequence at once.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        The shape of `x`, of `dtype`; where `before` is given also the moments of all steps up
        to the last, which are `before` for the next call.

    Raises:
        ValueError: the groups do not divide the channels, there is no step, a shape does not fit,
            or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> x, zero = jnp.array([[[1.0, 3.0], [3.0, 5.0]]]), jnp.zeros((1, 1, 1))
        >>> cumulative_group_norm(x, num_groups=1, epsilon=0.0)[0, 1].round(2)
        Array([0.  , 1.41], dtype=float32)
        >>> y, seen = cumulative_group_norm(x, num_groups=1, before=Moments(zero, zero, zero))
        >>> seen.mean.ravel(), seen.count.ravel()
        (Array([3.], dtype=float32), Array([4.], dtype=float32))

    Notes:
        Megalodon keeps the scale around zero and may learn a prior of the moments, which `before`
        takes with a count of entries. Lingvo and Praxis sum the squared deviations of each step
        from the mean at that step; here the variance is that of all steps about their one mean.
    """
    x = as_array(x)
    features = canonical_axes(axis, x.ndim, "axis")
    if x.ndim < 3 or features[0] < 2:
        raise ValueError(
            f"x {list(x.shape)} must have the axes [N, T, *spatial, C], the channels (axis={axis}) "
            "behind the steps; use x[None] for one sequence [T, C], x[:, None] for one step [N, C]"
        )
    x = usable(x, mask, weights)
    taken = prefix_moments(
        x,
        group_stats_shape(x.shape, num_groups, axis=axis),
        1,
        before=before,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
    )
    y = normalize(
        x,
        taken,
        **placed(scale, bias, x.shape, features),
        epsilon=epsilon,
        dtype=dtype,
    )
    if before is None:
        return y
    return y, jax.tree.map(lambda part: part[:, -1:], taken)
