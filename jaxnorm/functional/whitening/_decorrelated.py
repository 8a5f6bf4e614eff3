"""Decorrelated batch normalization: whitening by the symmetric inverse root of the covariance.

Huang, Yang, Lang, Deng: Decorrelated Batch Normalization, arXiv:1804.08450, 2018.
"""

from jaxnorm.functional.whitening._parts import WhiteningState, whiten
from jaxnorm.stats import Variance, inverse_root
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike


def decorrelated_batch_norm(
    x: ArrayLike,
    state: WhiteningState,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    use_running_average: bool,
    update_stats: bool | None = None,
    num_groups: int = 1,
    decay: float = 0.9,
    axis: int = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
) -> tuple[Array, WhiteningState]:
    """Returns `x` whitened within each group of channels, and the running statistics.

    `y = (cov + epsilon I)^(-1/2) (x - mean)`, the root symmetric (ZCA); statistics
    `[G, C/G, C/G]`, float32 or wider (Huang et al., arXiv:1804.08450, 2018). The derivative passes
    through the root and is finite where eigenvalues are equal: see `jaxnorm.stats.inverse_root`.

    Args:
        x: [N, *spatial, C] (or channels at `axis`), floating, of any rank.
        state: running statistics: mean [C], covariance [G, C/G, C/G].
        scale: [C], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        use_running_average: whether the running statistics normalize instead of the batch's own.
        update_stats: whether the batch enters them; if None, just where it normalizes.
        num_groups: contiguous groups of channels, G.
        decay: the weight of the old running statistics, from 0 to 1.
        axis: the channel axis; all others are reduced.
        epsilon: added to the diagonal of the covariance, not negative.
        mask: boolean, broadcastable to `x`; a vector takes part where all entries of its group do.
        weights: real, broadcastable to `x`, not negative; a vector weighs as its lightest entry.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state.

    Raises:
        ValueError: a shape that does not fit, or an unbound `axis_name`.
        TypeError: `x` is not floating, or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[1.0, 0.0], [3.0, 0.0], [2.0, 1.0], [2.0, -1.0]])
        >>> state = WhiteningState(jnp.zeros(2), jnp.eye(2)[None])
        >>> how = {"use_running_average": False, "decay": 0.5}
        >>> y, state = decorrelated_batch_norm(x, state, **how)
        >>> y.round(2)[0], state.mean
        (Array([-1.41,  0.  ], dtype=float32), Array([1., 0.], dtype=float32))

    Notes:
        The state holds the running covariance, whose root is taken again at evaluation. The paper
        averages the roots. Many channels in one group need many vectors: with fewer vectors than
        channels the covariance has no inverse but for epsilon.
    """
    return whiten(
        inverse_root,
        x,
        state,
        scale,
        bias,
        num_groups=num_groups,
        axis=axis,
        use_running_average=use_running_average,
        update_stats=update_stats,
        decay=decay,
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
    )
