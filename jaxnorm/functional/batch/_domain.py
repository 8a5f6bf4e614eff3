"""Domain-specific batch normalization: each example by the examples of its domain.

Chang, You, Seo, Kwak, Han: Domain-Specific Batch Normalization for Unsupervised Domain Adaptation,
arXiv:1906.03950, 2019.
"""

from typing import Any

import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape
from jaxnorm.functional.batch._domains import domain_moments, domains_of
from jaxnorm.functional.batch._running import shaped, whole_count
from jaxnorm.functional.batch._single_value import SingleValue, switches
from jaxnorm.functional.batch._table import placed_rows, require_batch_axis, rows
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import normalize
from jaxnorm.stats import Estimator, Variance, ema
from jaxnorm.stats.sampling import usable
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def domain_batch_norm(
    x: ArrayLike,
    stats: Any,
    domain: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    num_domains: int,
    shared_affine: bool = False,
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
) -> tuple[Array, Any]:
    """Returns `x` normalized per feature by the statistics of each example's domain, and these.

    `y = (x - mean_d) / sqrt(var_d + epsilon) * scale_d + bias_d` for an example of domain d, in
    training and in evaluation. A domain without examples in the batch keeps its running statistics.
    Float32 or wider (Chang et al., arXiv:1906.03950, 2019, equations 3 to 5).

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating or complex.
        stats: the state of `estimator`, statistics of [num_domains, *features].
        domain: [N], or [] for all examples alike; integers, which may be traced. An example with
            another number than 0 to num_domains - 1 is padding: it enters no statistic, and its
            output is that of the nearest domain.
        scale: [num_domains, *features]; None for one. See `shared_affine`.
        bias: like `scale`; None for zero.
        num_domains: how many domains.
        shared_affine: whether scale and bias serve all domains: then [*features], or of the rank
            of `x` and broadcastable to it.
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
        single_value: where one value stands behind a statistic; see `jaxnorm.batch_norm`.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state.

    Raises:
        ValueError: the domains are not one for each example, axis 0 is a feature axis, the batch
            holds one value per feature, a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex, or the domains are no integers.

    Examples:
        >>> x, ids = jnp.array([[1.0], [10.0], [3.0], [30.0]]), jnp.array([0, 1, 0, 1])
        >>> how = {"num_domains": 2, "use_running_average": False, "estimator": ema(0.9)}
        >>> y, stats = domain_batch_norm(x, ema(0.9).init((2, 1)), ids, **how)
        >>> y.ravel().round(2), stats.mean.ravel()
        (Array([-1., -1.,  1.,  1.], dtype=float32), Array([0.2, 2. ], dtype=float32))

    Notes:
        The statistics take a pass over `x` for each domain. A domain with one value per feature in
        the batch has variance zero, so that the output is the bias: sample several of each domain.
    """
    x = as_array(x)
    features = canonical_axes(axis, x.ndim, "axis")
    require_batch_axis(features, x.shape)
    ids = domains_of(domain, x.shape)
    stats_shape = kept_shape(x.shape, features)
    mapped = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    sample = {"mask": mask, "weights": weights, "variance": variance, **mapped}
    asked = (use_running_average, update_stats, single_value)
    average, update = switches("domain_batch_norm", x.shape, stats_shape, *asked, **mapped)
    batch = None
    if update or not average:
        batch = domain_moments(x, stats_shape, ids, num_domains, sample)
        batch = shaped(batch, (num_domains, *(x.shape[axis] for axis in features)))
    taken = whole_count(estimator.read(stats)) if batch is None or average else batch
    index = jnp.clip(ids, 0, num_domains - 1)
    own = None if shared_affine else (index, num_domains)
    y = normalize(
        usable(x, mask, weights),
        rows(taken, index, x, features, "stats", num_domains),
        **placed_rows(scale, bias, own, x, features),
        epsilon=epsilon,
        dtype=dtype,
    )
    if update and batch is not None:
        stats = estimator.update(stats, batch)
    return y, stats
