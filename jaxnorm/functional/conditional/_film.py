"""Feature-wise linear modulation: each feature scaled and shifted by functions of a condition.

Perez et al.: FiLM: Visual Reasoning with a General Conditioning Layer, arXiv:1709.07871, 2017.
"""

from jaxnorm.functional.conditional._placing import conditioned
from jaxnorm.numerics import accumulation_dtype, as_array, require_inexact
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def film(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    scale_offset: float = 0.0,
    feature_axes: Axes = -1,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `x` scaled and shifted per example and feature.

    `y = x * (scale_offset + scale) + bias`, in float32 or wider and rounded once (Perez et al.,
    arXiv:1709.07871, 2017). No statistics, so no mask is needed.

    Args:
        x: [N, *shape, *features] (or features at `feature_axes`), floating or complex.
        scale: [N, *features], [*features], or of the rank of `x` and broadcastable to it; None for
            a factor of one.
        bias: like `scale`; None for zero.
        scale_offset: added to the scale; 1 for a scale that is stored around zero.
        feature_axes: the axes that scale and bias belong to.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [N, *shape, *features], of `dtype`.

    Raises:
        ValueError: a shape does not fit.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> film(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, -1.0]]), jnp.array([[0.0, 5.0]]))
        Array([[3., 3.]], dtype=float32)
    """
    x = as_array(x)
    require_inexact(x)
    placed = conditioned(scale, bias, x.shape, feature_axes, scale_offset)
    y = x.astype(accumulation_dtype(x.dtype))
    y = y if placed["scale"] is None else y * placed["scale"]
    y = y if placed["bias"] is None else y + placed["bias"]
    return y.astype(dtype or x.dtype)
