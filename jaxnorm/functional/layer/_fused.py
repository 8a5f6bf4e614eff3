"""The norms over features together with what stands before and behind them."""

from typing import Any

from jaxnorm.functional._parameters import about_one, place
from jaxnorm.functional.batch._single_value import refuse_single_values
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import Fused, fused_standardize
from jaxnorm.stats import reduced_stats_shape
from jaxnorm.typing import ArrayLike, Axes


def over_features(
    name: str,
    x: ArrayLike,
    scale: ArrayLike | None,
    bias: ArrayLike | None,
    *,
    reduction_axes: Axes,
    feature_axes: Axes,
    zero_centered: bool,
    center: bool,
    **options: Any,
) -> Fused:
    """Returns what `fused_standardize` does, over the features of each position.

    Args:
        name: of the norm, for the error.
        x: [*batch, C].
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        reduction_axes: the axes that the statistics are taken over.
        feature_axes: the axes that a [*features] scale and bias belong to.
        zero_centered: whether `1 + scale` multiplies.
        center: whether the mean is subtracted.
        **options: the other arguments of `fused_standardize`.

    Returns:
        `Fused`.

    Raises:
        ValueError: an axis or a shape does not fit, or one value stands behind a mean.

    Examples:
        >>> import jax.numpy as jnp
        >>> axes = {"reduction_axes": -1, "feature_axes": -1, "zero_centered": False}
        >>> x = jnp.array([[1.0, -3.0]])
        >>> over_features("norm", x, None, None, center=True, epsilon=0.0, **axes).y
        Array([[ 1., -1.]], dtype=float32)
    """
    x = as_array(x)
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    stats_shape = reduced_stats_shape(x.shape, reduction_axes)
    if center:
        refuse_single_values(
            f"{name} got one value per statistic, x {list(x.shape)} with "
            f"reduction_axes={reduction_axes}",
            "give x two features or more",
            x.shape,
            stats_shape,
            "raise",
            options.get("axis_name"),
            options.get("axis_index_groups"),
        )
    return fused_standardize(
        x,
        stats_shape,
        center=center,
        scale=place(about_one(scale, zero_centered), x.shape, features, "scale"),
        bias=place(bias, x.shape, features, "bias"),
        **options,
    )
