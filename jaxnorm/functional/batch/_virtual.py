"""Virtual batch normalization: each example by a fixed reference batch, and by itself.

Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen: Improved Techniques for Training GANs,
arXiv:1606.03498, 2016.
"""

from jaxnorm.functional._parameters import kept_shape, placed
from jaxnorm.functional.batch._table import require_batch_axis
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import Implementation, normalize, standardize
from jaxnorm.stats import Variance, merge, moments
from jaxnorm.stats.sampling import usable
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def virtual_batch_norm(
    x: ArrayLike,
    reference: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    include_example: bool = True,
    axis: Axes = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
    reference_weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> tuple[Array, Array]:
    """Returns `x` normalized by a reference batch, and the reference batch normalized by itself.

    `y = (x - mean) / sqrt(var + epsilon) * scale + bias` per feature, the sample behind an example
    being the R examples of the reference batch and the example itself, which so weighs 1 / (R + 1);
    statistics shape `(N, 1, 1, C)` for `x [N, H, W, C]`, float32 or wider (Salimans et al.,
    arXiv:1606.03498, 2016, section 3.4). No example of `x` depends on another one. The reference
    batch is chosen once and goes through the network along with `x`, layer by layer.

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating or complex.
        reference: [R, *spatial, *features], the reference batch at this layer.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        include_example: whether the example is in the sample; if not, all examples are normalized
            alike.
        axis: the feature axes, not the first.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        reference_mask: like `mask`, of the reference batch.
        reference_weights: like `weights`, of the reference batch.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the reference batch is spread.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        `x` and `reference` normalized, each of its shape and of `dtype`.

    Raises:
        ValueError: the reference batch has other features or another rank than `x`, axis 0 is a
            feature axis, a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> x, reference = jnp.array([[4.0]]), jnp.array([[0.0], [2.0]])
        >>> virtual_batch_norm(x, reference)[0].round(3)
        Array([[1.225]], dtype=float32)

    Notes:
        Entries weigh alike where the two differ in their positions or masks, so that an example
        weighs more than 1 / (R + 1) if it has more of them.
    """
    x, reference = as_array(x), as_array(reference)
    features = canonical_axes(axis, x.ndim, "axis")
    require_batch_axis(features, x.shape)
    if x.ndim != reference.ndim or any(x.shape[a] != reference.shape[a] for a in features):
        raise ValueError(
            f"reference {list(reference.shape)} must have the rank and the features of x "
            f"{list(x.shape)}; pass the reference batch as it is at this layer"
        )
    result = dtype or x.dtype
    affine = {**placed(scale, bias, x.shape, features), "epsilon": epsilon, "dtype": result}
    y_reference, sample = standardize(
        reference,
        kept_shape(reference.shape, features),
        mask=reference_mask,
        weights=reference_weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        implementation=implementation,
        **affine,
    )
    if include_example:
        stats_shape = kept_shape(x.shape, (0, *features))
        own = moments(x, stats_shape, mask=mask, weights=weights, variance=variance)
        sample = merge(sample, own)
    return normalize(usable(x, mask, weights), sample, **affine), y_reference
