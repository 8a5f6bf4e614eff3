"""Dynamic erf: a learned squashing by the error function in the place of a norm.

Chen, Lu, Zhu, Sun, Liu: Stronger Normalization-Free Transformers, arXiv:2512.10938, 2025.
"""

import jax
import jax.numpy as jnp

from jaxnorm.functional._parameters import scaled_and_shifted
from jaxnorm.functional.pointwise._widened import widened
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def dynamic_erf(
    x: ArrayLike,
    alpha: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    feature_axes: Axes = -1,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `x` squashed entry by entry by the error function, scaled and shifted.

    `y = erf(alpha x + shift) * scale + bias`, in float32 or wider and rounded once (Chen et al.,
    arXiv:2512.10938, 2025, equation 10). No statistics, so no mask is needed.

    Args:
        x: [*shape], floating.
        alpha: [], or broadcastable to `x`; None for one. The authors start it at 0.5.
        shift: [], or broadcastable to `x`; None for zero, at which the authors start it.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        feature_axes: the axes that scale and bias belong to.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*shape], of `dtype`.

    Raises:
        ValueError: a shape does not fit.
        TypeError: `x` is not floating.

    Examples:
        >>> dynamic_erf(jnp.array([0.0, 2.0, 1e4]), 0.5).round(2)
        Array([0.  , 0.84, 1.  ], dtype=float32)
    """
    x = as_array(x)
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    wide = widened(x, ordered_for="dynamic_erf")
    inner = wide if alpha is None else jnp.asarray(alpha, wide.dtype) * wide
    inner = inner if shift is None else inner + jnp.asarray(shift, wide.dtype)
    y = jax.scipy.special.erf(inner)
    return scaled_and_shifted(y, scale, bias, features).astype(dtype or x.dtype)
