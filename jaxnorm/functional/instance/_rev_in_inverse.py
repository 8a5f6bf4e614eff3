"""The inverse of reversible instance normalization: a forecast in the units of its series.

Kim et al.: Reversible Instance Normalization for Accurate Time-Series Forecasting, ICLR, 2022.
"""

import jax.numpy as jnp

from jaxnorm.functional._parameters import placed
from jaxnorm.functional.layer._positional import moment_shortcut
from jaxnorm.numerics import as_array, canonical_axes, require_inexact
from jaxnorm.stats import Moments
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def rev_in_inverse(
    y: ArrayLike,
    moments: Moments,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    feature_axes: Axes = -1,
    epsilon: float = 1e-5,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `y` with the mean and the variance that `rev_in` took away.

    `x = (y - bias) / scale * sqrt(var + epsilon) + mean`, in float32 or wider (Kim et al., ICLR,
    2022, equation 3).

    Args:
        y: [N, H, *features], of any length H in time.
        moments: of [N, 1, *features], from `rev_in`.
        scale: [*features], or of the rank of `y` and broadcastable to it; the one that `rev_in`
            got, not zero.
        bias: like `scale`.
        feature_axes: as in `rev_in`.
        epsilon: as in `rev_in`.
        dtype: the output's dtype; that of `y` if None.

    Returns:
        The shape of `y`, of `dtype`.

    Raises:
        ValueError: a shape does not fit.
        TypeError: `y` is not floating or complex.

    Examples:
        >>> from jaxnorm import rev_in
        >>> x = jnp.array([[[1.0], [5.0]]])
        >>> rev_in_inverse(*rev_in(x, jnp.array([3.0])), jnp.array([3.0])).ravel()
        Array([1., 5.], dtype=float32)

    Notes:
        The authors' code divides by `scale + epsilon**2`, which is no inverse, but has no pole at
        zero.
    """
    y = as_array(y)
    require_inexact(y)
    features = canonical_axes(feature_axes, y.ndim, "feature_axes")
    mean = jnp.asarray(moments.mean)
    fits = all(m in (1, n) for m, n in zip(mean.shape, y.shape, strict=False))
    if mean.ndim != y.ndim or not fits:
        raise ValueError(
            f"moments {list(mean.shape)} do not broadcast to y {list(y.shape)}; pass those that "
            "rev_in returned for the same examples and features"
        )
    value = y.astype(jnp.promote_types(y.dtype, mean.dtype))
    factor, shift = placed(scale, bias, y.shape, features).values()
    value = value if shift is None else value - shift
    value = value if factor is None else value / factor
    return moment_shortcut(value, moments, epsilon=epsilon, dtype=dtype or y.dtype)
