"""What the pointwise functions share: scale and bias in float32 or wider."""

import jax.numpy as jnp

from jaxnorm.functional._parameters import place
from jaxnorm.numerics import accumulation_dtype, canonical_axes
from jaxnorm.typing import Array, ArrayLike, Axes


def widened(x: Array) -> Array:
    """Returns `x` in the dtype that sums over it would have."""
    return x.astype(accumulation_dtype(x.dtype))


def affine(y: Array, scale: ArrayLike | None, bias: ArrayLike | None, feature_axes: Axes) -> Array:
    """Returns `y * scale + bias`, each [*features] or of the rank of `y`."""
    features = canonical_axes(feature_axes, y.ndim, "feature_axes")
    placed = place(scale, y.shape, features, "scale")
    y = y if placed is None else y * placed.astype(jnp.promote_types(placed.dtype, y.dtype))
    shift = place(bias, y.shape, features, "bias")
    return y if shift is None else y + shift.astype(jnp.promote_types(shift.dtype, y.dtype))
