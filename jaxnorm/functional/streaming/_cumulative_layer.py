"""Cumulative layer norm: each step of a sequence by all channels of the steps up to it.

Luo, Mesgarani: Conv-TasNet, arXiv:1809.07454, 2018.
"""

from jaxnorm.functional.streaming._cumulative_group import cumulative_group_norm
from jaxnorm.stats import Moments, Variance
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike


def cumulative_layer_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
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
    """Returns `x` over the moments of all channels in the steps up to each one.

    `y[t] = (x[t] - mean[t]) / sqrt(var[t] + epsilon) * scale + bias` with the moments of
    `x[0], ..., x[t]`; statistics shape `(N, T, 1, 1)` for `x [N, T, W, C]`, float32 or wider (Luo,
    Mesgarani, arXiv:1809.07454, 2018: cLN). No step depends on a later one.

    Args:
        x: [N, T, *spatial, C] (or channels at `axis`), floating or complex: T steps, of any
            rank from 3.
        scale: [C], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        axis: the channel axis, behind the steps.
        before: moments [N, 1, *(1), 1] of the steps before the first, as this function returns
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
        ValueError: there is no step, a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[[1.0, 3.0], [3.0, 5.0]]])
        >>> cumulative_layer_norm(x, epsilon=0.0)[0].round(2)
        Array([[-1.  ,  1.  ],
               [ 0.  ,  1.41]], dtype=float32)
    """
    return cumulative_group_norm(
        x,
        scale,
        bias,
        num_groups=1,
        axis=axis,
        before=before,
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
    )
