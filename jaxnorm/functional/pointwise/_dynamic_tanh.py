"""Dynamic tanh: a learned squashing in the place of a norm, without statistics.

Zhu, Chen, He, LeCun, Liu: Transformers without Normalization, arXiv:2503.10622, 2025.
"""

import jax.numpy as jnp

from jaxnorm.functional._parameters import scaled_and_shifted
from jaxnorm.functional.pointwise._widened import widened
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def dynamic_tanh(
    x: ArrayLike,
    alpha: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    feature_axes: Axes = -1,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `x` squashed entry by entry, scaled and shifted.

    `y = tanh(alpha x) * scale + bias`, in float32 or wider and rounded once (Zhu et al.,
    arXiv:2503.10622, 2025). No statistics, so no mask is needed.

    Args:
        x: [*shape], floating or complex.
        alpha: [], or broadcastable to `x`; None for one. The authors start it at 0.5.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        feature_axes: the axes that scale and bias belong to.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*shape], of `dtype`.

    Raises:
        ValueError: a shape does not fit.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> dynamic_tanh(jnp.array([0.0, 2.0, 1e4]), 0.5).round(3)
        Array([0.   , 0.762, 1.   ], dtype=float32)

    Notes:
        In large language models the authors start alpha lower, the lower the wider the model, and
        higher before attention than elsewhere.
    """
    x = as_array(x)
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    wide = widened(x)
    inner = wide if alpha is None else jnp.asarray(alpha, wide.dtype) * wide
    return scaled_and_shifted(jnp.tanh(inner), scale, bias, features).astype(dtype or x.dtype)
