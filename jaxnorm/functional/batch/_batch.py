"""Batch normalization: each feature over the batch and its positions.

Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015.
"""

from typing import Any

from jaxnorm.functional._parameters import kept_shape, placed
from jaxnorm.functional.batch._running import keep_dims, squeezed
from jaxnorm.functional.batch._single_value import SingleValue, switches
from jaxnorm.numerics import accumulation_dtype, as_array, canonical_axes
from jaxnorm.ops import (
    Activation,
    Implementation,
    activated,
    check_activation,
    normalize,
    standardize,
)
from jaxnorm.stats import Estimator, Variance, ema, moments
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def batch_norm(
    x: ArrayLike,
    stats: Any,
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
    activation: Activation | None = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> tuple[Array, Any]:
    """Returns `x` normalized per feature, and the running statistics after this batch.

    `y = (x - mean) / sqrt(var + epsilon) * scale + bias`; statistics shape `(1, 1, 1, C)` for
    `x [N, H, W, C]`, float32 or wider (Ioffe, Szegedy, arXiv:1502.03167, 2015, algorithms 1 and 2).
    Which statistics normalize and whether they are updated are two independent switches.

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating or complex, of any rank.
        stats: the state of `estimator`, statistics of [*features]; see `Estimator.init`.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        use_running_average: whether the running statistics normalize instead of the batch's own.
        update_stats: whether the batch enters the running statistics; if None, just where it
            normalizes.
        estimator: how it does; "decay" of `ema` weighs the old value.
        axis: the feature axes; all others are reduced.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        single_value: where the batch holds one value per feature: "raise", or normalize with the
            "running" statistics and leave them alone ("warn" does so and says it), or "allow" the
            zeros that follow.
        activation: "relu", "silu" or "gelu", applied after scale and bias; None for none.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU), "pallas" (GPU, TPU) or None for the faster one.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state, of the structure and dtypes of
        `stats`; it is unchanged by a batch that is wholly masked.

    Raises:
        ValueError: one value per feature, a shape that does not fit, or an unbound `axis_name`.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> stats = ema(0.9).init((2,))
        >>> x = jnp.array([[1.0, 10.0], [3.0, 30.0]])
        >>> y, stats = batch_norm(x, stats, use_running_average=False, estimator=ema(0.9))
        >>> y.round(2), stats.mean
        (Array([[-1., -1.],
               [ 1.,  1.]], dtype=float32), Array([0.2, 2. ], dtype=float32))

    Notes:
        The running variance is biased as in Flax; `ema(unbiased=True)` is PyTorch's. Per-example
        gradients by `vmap(grad)` are zero in training mode: a batch of one equals its mean.
    """
    x = as_array(x)
    features = canonical_axes(axis, x.ndim, "axis")
    stats_shape = kept_shape(x.shape, features)
    mapped = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    sample = {"mask": mask, "weights": weights, "variance": variance, **mapped}
    asked = (use_running_average, update_stats, single_value)
    average, update = switches("batch_norm", x.shape, stats_shape, *asked, **mapped, of="feature")
    affine = {**placed(scale, bias, x.shape, features), "epsilon": epsilon}
    check_activation(activation, x)
    if average:
        running = keep_dims(estimator.read(stats), stats_shape)
        wide = dtype if activation is None else accumulation_dtype(x.dtype)
        y = activated(activation, normalize(x, running, dtype=wide, **affine))
        y = y.astype(dtype or x.dtype)
        batch = moments(x, stats_shape, **sample) if update else None
    else:
        how = {"activation": activation, "dtype": dtype, "implementation": implementation}
        y, batch = standardize(x, stats_shape, **how, **affine, **sample)
    if update and batch is not None:
        stats = estimator.update(stats, squeezed(batch, features))
    return y, stats
