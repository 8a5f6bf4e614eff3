"""Batch-instance normalization: a learned share of batch norm, the rest instance norm.

Nam, Kim: Batch-Instance Normalization, arXiv:1805.07925, 2018.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm.functional._parameters import place
from jaxnorm.functional.batch._batch import batch_norm
from jaxnorm.functional.batch._single_value import SingleValue
from jaxnorm.functional.instance._instance import instance_norm
from jaxnorm.numerics import accumulation_dtype, as_array, canonical_axes, require_inexact
from jaxnorm.ops import Implementation
from jaxnorm.stats import Estimator, Variance, ema
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def batch_instance_norm(
    x: ArrayLike,
    stats: Any,
    gate: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    use_running_average: bool,
    update_stats: bool | None = None,
    estimator: Estimator = ema(0.99),
    axis: Axes = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    single_value: SingleValue = "raise",
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> tuple[Array, Any]:
    """Returns a blend of batch norm and instance norm of `x`, and the running statistics.

    `y = (r BN(x) + (1 - r) IN(x)) * scale + bias`, `r` being `gate` clipped to [0, 1]; statistics
    shapes `(1, 1, 1, C)` and `(N, 1, 1, C)` for `x [N, H, W, C]`, float32 or wider (Nam, Kim,
    arXiv:1805.07925, 2018). Running statistics serve the batch norm only.

    Args:
        x: [N, *spatial, *features] (or features at `axis`, not the first), floating or complex.
        stats: the state of `estimator`, statistics of [*features].
        gate: [*features], or of the rank of `x` and broadcastable to it: the share of batch norm,
            which the authors start at one; None for one.
        scale: like `gate`; None for one.
        bias: like `gate`; None for zero.
        use_running_average: whether the running statistics take the place of the batch's own.
        update_stats: whether the batch enters the running statistics; if None, just where its
            statistics normalize.
        estimator: how it does; "decay" of `ema` weighs the old value.
        axis: the feature axes.
        epsilon: added to both variances.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the batch, not an example, is cut.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        single_value: where a batch holds one value per feature; see `batch_norm`.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state.

    Raises:
        ValueError: the batch axis is among the features, one value per feature, a shape that does
            not fit, or an unbound `axis_name`.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> x, stats = jnp.array([[[1.0], [3.0]], [[5.0], [7.0]]]), ema().init((1,))
        >>> y, _ = batch_instance_norm(x, stats, jnp.zeros(1), use_running_average=False)
        >>> y.round(2).ravel()
        Array([-1.,  1., -1.,  1.], dtype=float32)

    Notes:
        The paper clips the gate after each step of the optimizer. Here the call clips, and the
        gradient is that of the gate without the clip: a gate past a border finds its way back.
    """
    x = as_array(x)
    require_inexact(x)
    features = canonical_axes(axis, x.ndim, "axis")
    placed = place(gate, x.shape, features, "gate")
    share = jnp.ones(()) if placed is None else placed
    share = share + jax.lax.stop_gradient(jnp.clip(share, 0, 1) - share)
    scale = place(scale, x.shape, features, "scale")
    shares = [r if scale is None else r * scale for r in (share, 1 - share)]
    same = {
        "epsilon": epsilon,
        "mask": mask,
        "weights": weights,
        "variance": variance,
        "dtype": accumulation_dtype(dtype or x.dtype),
        "implementation": implementation,
    }
    within = instance_norm(x, shares[1], feature_axes=features, single_value="allow", **same)
    y, stats = batch_norm(
        x,
        stats,
        shares[0],
        bias,
        use_running_average=use_running_average,
        update_stats=update_stats,
        estimator=estimator,
        axis=features,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        single_value=single_value,
        **same,
    )
    return (y + within).astype(dtype or x.dtype), stats
