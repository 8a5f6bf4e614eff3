"""EvoNorm S1: SiLU over the deviation of a group of channels.

Liu, Brock, Simonyan, Le: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020.
"""

from jaxnorm.functional.evolved._group_family import evo_norm_s
from jaxnorm.stats import Variance
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike


def evo_norm_s1(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    num_groups: int | None = None,
    group_size: int | None = None,
    axis: int = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns a smooth activation of `x` over the deviation of its group of channels.

    `y = x sigmoid(x) / std * scale + bias`; statistics shape
    `(N, 1, 1, G)` for `x [N, H, W, C]`, float32 or wider (Liu et al., arXiv:2004.02967, 2020, table
    2). It takes the place of a norm and its activation, and needs no batch.

    Args:
        x: [N, *spatial, C] (or channels at `axis`), real.
        scale: [C], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        num_groups: the number of groups, a divisor of C; the authors take 32.
        group_size: the channels in a group; exactly one of the two is given.
        axis: the channel axis.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [N, *spatial, C], of `dtype`.

    Raises:
        ValueError: the groups do not divide the channels, a shape does not fit, or `axis_name` is
            not bound.
        TypeError: `x` is not real and floating.

    Examples:
        >>> import jax.numpy as jnp
        >>> evo_norm_s1(jnp.array([[1.0, 3.0, -1.0, 5.0]]), num_groups=2).round(1)
        Array([[ 0.7,  2.9, -0.1,  1.7]], dtype=float32)
    """
    return evo_norm_s(
        True,
        x,
        None,
        scale,
        bias,
        num_groups=num_groups,
        group_size=group_size,
        axis=axis,
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
    )
