"""Ghost batch normalization: batch normalization of small parts of a large batch.

Hoffer, Hubara, Soudry: Train longer, generalize better, arXiv:1705.08741, 2017.
"""

from typing import Any

from jaxnorm.functional._parameters import kept_shape, placed
from jaxnorm.functional.batch._ghost_shape import ghost_stats_shape
from jaxnorm.functional.batch._running import keep_dims, squeezed
from jaxnorm.functional.batch._single_value import SingleValue, switches
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import Implementation, normalize, standardize
from jaxnorm.stats import Estimator, Variance, ema, moments, pool
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


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

    `y = (x - mean) / sqrt(var + epsilon) * scale + bias` with the moments of the ghost batch: axis
    0 is cut into contiguous ones; statistics shape `(N / B, 1, 1, C)` for `x [N, H, W, C]`, float32
    or wider (Hoffer et al., arXiv:1705.08741, 2017, algorithm 1). The running statistics take in
    the whole batch, its ghost batches pooled.

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating or complex.
        stats: the state of `estimator`, statistics of [*features].
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        ghost_batch_size: examples in a ghost batch, a divisor of N; a batch of fewer examples is
            one ghost batch. Without effect where the running statistics normalize.
        use_running_average: whether the running statistics normalize instead of the batch's own.
        update_stats: whether the batch enters them; if None, just where it normalizes.
        estimator: how it does; "decay" of `ema` weighs the old value.
        axis: the feature axes, not the first.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        single_value: where a ghost batch holds one value per feature; see `jaxnorm.batch_norm`.
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
    whole = ghosts = kept_shape(x.shape, features)
    if not use_running_average:
        ghosts = ghost_stats_shape(x.shape, ghost_batch_size, axis)
    mapped = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    sample = {"mask": mask, "weights": weights, "variance": variance, **mapped}
    average, update = switches(
        "ghost_batch_norm",
        x.shape,
        ghosts,
        *(use_running_average, update_stats, single_value),
        **mapped,
        of="feature and ghost batch",
        detail=f" with ghost_batch_size={ghost_batch_size}",
        remedy="use larger ghost batches",
    )
    affine = {**placed(scale, bias, x.shape, features), "epsilon": epsilon, "dtype": dtype}
    if average:
        y = normalize(x, keep_dims(estimator.read(stats), whole), **affine)
        batch = moments(x, whole, **sample) if update else None
    else:
        y, batch = standardize(x, ghosts, implementation=implementation, **affine, **sample)
        batch = pool(batch, whole) if update else None
    if update and batch is not None:
        stats = estimator.update(stats, squeezed(batch, features))
    return y, stats
