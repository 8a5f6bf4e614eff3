"""Domain-specific batch normalization: each example by the examples of its domain.

Chang, You, Seo, Kwak, Han: Domain-Specific Batch Normalization for Unsupervised Domain Adaptation,
arXiv:1906.03950, 2019.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape, place
from jaxnorm.functional.batch._running import shaped, whole_count
from jaxnorm.functional.batch._single_value import SingleValue, switches
from jaxnorm.functional.batch._table import require_batch_axis, rows
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import normalize
from jaxnorm.stats import Estimator, Moments, Variance, ema, moments
from jaxnorm.stats.sampling import usable
from jaxnorm.stats.shapes import broadcasting
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike, Shape


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

    Each domain has scale, bias and running statistics of its own, in training and in evaluation. A
    domain without examples in the batch keeps its running statistics. Float32 or wider (Chang et
    al., arXiv:1906.03950, 2019, equations 3 to 5).

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
        single_value: where one value stands behind a statistic: "raise", or normalize with the
            "running" statistics and leave them alone ("warn" does so and says it), or "allow".
        dtype: the output's dtype; that of `x` if None.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state, of the structure and dtypes of
        `stats`.

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
    ids = _checked(domain, x.shape)
    stats_shape = kept_shape(x.shape, features)
    mapped = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    sample = {"mask": mask, "weights": weights, "variance": variance, **mapped}
    average, update = switches(
        "domain_batch_norm",
        x.shape,
        stats_shape,
        use_running_average=use_running_average,
        update_stats=update_stats,
        single_value=single_value,
        **mapped,
    )
    index = jnp.clip(ids, 0, num_domains - 1)

    def of_examples(table: Any, name: str) -> Any:
        return rows(table, index, x.shape, features, name, num_domains)

    batch = None
    if update or not average:
        batch = _by_domain(x, stats_shape, ids, num_domains, sample)
        batch = shaped(batch, (num_domains, *(x.shape[axis] for axis in features)))
    taken = whole_count(estimator.read(stats)) if batch is None or average else batch
    parts = {"scale": scale, "bias": bias}
    placed = {
        name: place(part, x.shape, features, name)
        if shared_affine or part is None
        else of_examples(part, name)
        for name, part in parts.items()
    }
    usual = of_examples(taken, "stats")
    y = normalize(usable(x, mask, weights), usual, epsilon=epsilon, dtype=dtype, **placed)
    if update and batch is not None:
        stats = estimator.update(stats, batch)
    return y, stats


def _by_domain(x: Array, stats_shape: Shape, ids: Array, count: int, sample: dict) -> Moments:
    """Returns the moments of the examples of each domain, [count, *stats_shape]."""
    mask, others = sample["mask"], {name: v for name, v in sample.items() if name != "mask"}
    valid = True if mask is None else broadcasting(mask, x.shape, "mask")

    def taken(domain: Array) -> Moments:
        member = (ids == domain).reshape(-1, *(1,) * (x.ndim - 1))
        return moments(x, stats_shape, mask=member & valid, **others)

    return jax.vmap(taken)(jnp.arange(count))


def _checked(domain: ArrayLike, shape: Shape) -> Array:
    """Returns one domain for each example."""
    ids = jnp.asarray(domain)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"domain must be integers, got {ids.dtype} {list(ids.shape)}")
    if ids.shape not in ((), shape[:1]):
        raise ValueError(
            f"domain {list(ids.shape)} must have one number for each of the {shape[0]} examples of "
            f"x {list(shape)}; give it shape {list(shape[:1])}, or [] for all alike"
        )
    return jnp.broadcast_to(ids, shape[:1])
