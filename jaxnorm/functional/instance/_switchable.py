"""Switchable normalization: a learned mixture of the statistics of instance, layer and batch norm.

Luo et al.: Differentiable Learning-to-Normalize via Switchable Normalization,
arXiv:1806.10779, 2018.
"""

from collections.abc import Sequence
from typing import Any

from jaxnorm.functional._large import large_units, unitless
from jaxnorm.functional._parameters import kept_shape, placed
from jaxnorm.functional.batch._running import keep_dims, squeezed
from jaxnorm.functional.instance._instance import instance_stats_shape
from jaxnorm.functional.instance._mixture import Candidate, mixed, softmaxed
from jaxnorm.numerics import accumulation_dtype, as_array, canonical_axes
from jaxnorm.ops import normalize
from jaxnorm.stats import Estimator, Variance, ema, moments, pool, rescaled
from jaxnorm.stats.sampling import usable
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def switchable_norm(
    x: ArrayLike,
    stats: Any,
    mean_logits: ArrayLike,
    var_logits: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    use_running_average: bool,
    update_stats: bool | None = None,
    candidates: Sequence[Candidate] = ("instance", "layer", "batch"),
    estimator: Estimator = ema(0.99),
    axis: Axes = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    single_value: str = "allow",
    dtype: DTypeLike | None = None,
) -> tuple[Array, Any]:
    """Returns `x` normalized by mixed statistics, and the running statistics after this batch.

    `y = (x - sum_k w_k mean_k) / sqrt(sum_k v_k var_k + epsilon) * scale + bias` with `w` and `v`
    the softmax of the logits and k the candidates, of statistics shapes `(N, 1, 1, C)`,
    `(N, 1, 1, 1)` and `(1, 1, 1, C)` for `x [N, H, W, C]`, float32 or wider (Luo et al.,
    arXiv:1806.10779, 2018). Layer and batch are pooled from the instances.

    Args:
        x: [N, *spatial, *features] (or features at `axis`, not the first), floating or complex.
        stats: the state of `estimator`, statistics of [*features].
        mean_logits: [K], one for each candidate; equal ones for equal weights.
        var_logits: [K].
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        use_running_average: whether the running statistics take the place of the batch's own.
        update_stats: whether the batch enters them; if None, just where it normalizes.
        candidates: which statistics are mixed, in the order of the logits.
        estimator: how the batch enters; the paper's average over batches is `cumulative()`.
        axis: the feature axes.
        epsilon: added to the mixed variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the batch, not an example, is cut.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        single_value: without effect, since the layer's statistics are mixed in; modules name it.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state.

    Raises:
        ValueError: a candidate is unknown, the logits are not one for each, the batch axis is among
            the features, a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> x, stats = jnp.array([[[1.0], [3.0]], [[5.0], [7.0]]]), ema().init((1,))
        >>> only = jnp.array([0.0, -99.0, -99.0])
        >>> y, _ = switchable_norm(x, stats, only, only, use_running_average=False)
        >>> y.round(2).ravel()
        Array([-1.,  1., -1.,  1.], dtype=float32)

    Notes:
        The authors' code divides by one less than the positions in the variances of instances, and
        leaves the instances out where x has no positions: two candidates.
    """
    x = as_array(x)
    features = canonical_axes(axis, x.ndim, "axis")
    of_means = softmaxed(mean_logits, "mean_logits", candidates)
    of_vars = softmaxed(var_logits, "var_logits", candidates)
    sample: dict[str, Any] = {"mask": mask, "weights": weights}
    # Where squares overflow no weight could be differentiated: such an input has a unit of its own.
    shards = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    unit = large_units(x, (1,) * x.ndim, **sample, **shards)
    scaled = usable(x, **sample).astype(accumulation_dtype(x.dtype)) / unit
    stats_shape = instance_stats_shape(x.shape, features)
    instance = moments(scaled, stats_shape, **sample, variance=variance)
    update = (not use_running_average) if update_stats is None else update_stats
    batch_shape = kept_shape(x.shape, features)
    found = {"instance": instance, "layer": pool(instance, kept_shape(x.shape, (0,)))}
    if update or not use_running_average:
        found["batch"] = pool(instance, batch_shape, **shards)
    taken = squeezed(rescaled(found["batch"], unit), features) if update else None
    if use_running_average:
        found["batch"] = rescaled(keep_dims(estimator.read(stats), batch_shape), 1 / unit)
    y = normalize(
        scaled,
        mixed(of_means, of_vars, [found[name] for name in candidates]),
        **placed(scale, bias, x.shape, features),
        epsilon=unitless(epsilon, unit),
        dtype=dtype or x.dtype,
    )
    return y, stats if taken is None else estimator.update(stats, taken)
