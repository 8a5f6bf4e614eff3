"""Dynamic erf: a learned squashing by the error function in the place of a norm.

Chen et al.: Stronger Normalization-Free Transformers, arXiv:2512.10938, 2025.
"""

import jax
import jax.numpy as jnp

from jaxnorm.functional.pointwise._parts import affine, widened
from jaxnorm.numerics import as_array, require_inexact
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def dynamic_erf(
    x: ArrayLike,
    alpha: ArrayLike,
    shift: ArrayLike | None = None,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    feature_axes: Axes = -1,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `x` squashed entry by entry by the error function, scaled and shifted.

    `y = erf(alpha x + shift) * scale + bias`, in float32 or wider and rounded once (Chen et al.,
    arXiv:2512.10938, 2025). No statistics, so no mask is needed.

    Args:
        x: [*shape], real.
        alpha: [], or broadcastable to `x`.
        shift: like `alpha`; None for zero.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        feature_axes: the axes that scale and bias belong to.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*shape], of `dtype`.

    Raises:
        ValueError: a shape does not fit.
        TypeError: `x` is not real and floating.

    Examples:
        >>> dynamic_erf(jnp.array([0.0, 2.0, 1e4]), 0.5).round(2)
        Array([0.  , 0.84, 1.  ], dtype=float32)
    """
    x = as_array(x)
    require_inexact(x)
    if jnp.iscomplexobj(x):
        raise TypeError(
            f"dynamic_erf needs a real x, got {x.dtype} {list(x.shape)}; give it the real and the "
            "imaginary part by itself"
        )
    wide = widened(x)
    inner = jnp.asarray(alpha, wide.dtype) * wide
    inner = inner if shift is None else inner + jnp.asarray(shift, wide.dtype)
    return affine(jax.scipy.special.erf(inner), scale, bias, feature_axes).astype(dtype or x.dtype)
