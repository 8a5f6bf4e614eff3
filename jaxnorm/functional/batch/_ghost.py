"""Ghost batch normalization: batch normalization of small parts of a large batch.

Hoffer, Hubara, Soudry: Train longer, generalize better, arXiv:1705.08741, 2017.
"""

from typing import Any

from jaxnorm.functional._parameters import kept_shape, place
from jaxnorm.functional.batch._batch import batch_norm
from jaxnorm.functional.batch._running import squeezed
from jaxnorm.functional.batch._single_value import SingleValue, has_single_value, uses_running
from jaxnorm.functional.batch._table import require_batch_axis
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import Implementation, standardize
from jaxnorm.stats import Estimator, Variance, ema, pool
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike, Shape


def ghost_batch_norm(
    x: ArrayLike,
    stats: Any,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    ghost_batch_size: int,
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
    """Returns `x` normalized per feature within each ghost batch, and the running statistics.

    Axis 0 is cut into contiguous ghost batches; statistics shape `(N / B, 1, 1, C)` for
    `x [N, H, W, C]`, float32 or wider (Hoffer et al., arXiv:1705.08741, 2017, algorithm 1). The
    running statistics take in the whole batch, its ghost batches pooled.

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating or complex.
        stats: the state of `estimator`, statistics of [*features].
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        ghost_batch_size: examples in a ghost batch, a divisor of N; a batch of fewer examples is
            one ghost batch. Without effect where the running statistics normalize.
        use_running_average: whether the running statistics normalize instead of the batch's own.
        update_stats: whether the batch enters the running statistics; if None, just where it
            normalizes.
        estimator: how it does; "decay" of `ema` weighs the old value.
        axis: the feature axes, not the first.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        single_value: where a ghost batch holds one value per feature: "raise", or normalize with
            the "running" statistics and leave them alone ("warn" does so and says it), or "allow"
            the bias that follows.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state.

    Raises:
        ValueError: the size does not divide the batch, axis 0 is a feature axis, a ghost batch
            holds one value per feature, a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[1.0], [3.0], [10.0], [30.0]])
        >>> stats = ema().init((1,))
        >>> y, _ = ghost_batch_norm(x, stats, ghost_batch_size=2, use_running_average=False)
        >>> y.ravel().round(2)
        Array([-1.,  1., -1.,  1.], dtype=float32)

    Notes:
        The paper updates the running statistics once per ghost batch; pooled, one update sees what
        lies between the ghost batches as well.
    """
    x = as_array(x)
    features = canonical_axes(axis, x.ndim, "axis")
    update = (not use_running_average) if update_stats is None else update_stats
    sample = {
        "mask": mask,
        "weights": weights,
        "variance": variance,
        "axis_name": axis_name,
        "axis_index_groups": axis_index_groups,
    }
    affine = {"epsilon": epsilon, "dtype": dtype, "implementation": implementation}
    if not use_running_average:
        stats_shape = ghost_stats_shape(x.shape, ghost_batch_size, axis)
        if has_single_value(x.shape, stats_shape, axis_name, axis_index_groups):
            what = (
                "ghost_batch_norm in training mode got one value per feature and ghost batch, x "
                f"{list(x.shape)} with ghost_batch_size={ghost_batch_size}"
            )
            use_running_average = uses_running(single_value, what, "use larger ghost batches")
            update = update and not use_running_average
    if use_running_average:
        return batch_norm(
            x,
            stats,
            scale,
            bias,
            use_running_average=True,
            update_stats=update,
            estimator=estimator,
            axis=features,
            **affine,
            **sample,
        )
    y, ghosts = standardize(
        x,
        stats_shape,
        scale=place(scale, x.shape, features, "scale"),
        bias=place(bias, x.shape, features, "bias"),
        **affine,
        **sample,
    )
    if update:
        batch = squeezed(pool(ghosts, (1, *stats_shape[1:])), features)
        stats = estimator.update(stats, batch)
    return y, stats


def ghost_stats_shape(shape: Shape, ghost_batch_size: int, axis: Axes = -1) -> Shape:
    """Returns the statistics shape of ghost batch normalization.

    Args:
        shape: the shape of `x`.
        ghost_batch_size: examples in a ghost batch; all where there are fewer.
        axis: the feature axes.

    Returns:
        The number of ghost batches at axis 0, the features kept, ones elsewhere.

    Raises:
        ValueError: see `ghost_batch_norm`.

    Examples:
        >>> ghost_stats_shape((8, 4, 4, 6), ghost_batch_size=2)
        (4, 1, 1, 6)
    """
    features = canonical_axes(axis, len(shape), "axis")
    require_batch_axis(features, shape)
    size = min(ghost_batch_size, shape[0])
    if ghost_batch_size < 1 or shape[0] % max(size, 1):
        raise ValueError(
            f"ghost_batch_size={ghost_batch_size} does not divide the {shape[0]} examples of x "
            f"{list(shape)}; use a divisor of {shape[0]}"
        )
    return (shape[0] // max(size, 1), *kept_shape(shape, features)[1:])
