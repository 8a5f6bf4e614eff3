"""LayerScale: the branch of a residual block, scaled per channel by a small learned factor.

Touvron et al.: Going deeper with Image Transformers, arXiv:2103.17239, 2021.
"""

from jaxnorm.functional.pointwise._parts import affine, widened
from jaxnorm.numerics import as_array, require_inexact
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def layer_scale(
    x: ArrayLike, scale: ArrayLike, *, feature_axes: Axes = -1, dtype: DTypeLike | None = None
) -> Array:
    """Returns the branch of a residual block, scaled per channel.

    `y = scale * x`, to be added to the block's input (Touvron et al., arXiv:2103.17239, 2021,
    section 2). The product is taken in float32 or wider and rounded once.

    Args:
        x: [*shape], the branch, floating or complex.
        scale: [*features]; the authors start it at 0.1 up to 18 layers, 1e-5 up to 24 layers and
            1e-6 beyond.
        feature_axes: the axes that the scale belongs to.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*shape], of `dtype`.

    Raises:
        ValueError: a shape does not fit.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer_scale(jnp.array([[2.0, 3.0]]), jnp.array([0.5, 0.0]))
        Array([[1., 0.]], dtype=float32)
    """
    x = as_array(x)
    require_inexact(x)
    return affine(widened(x), scale, None, feature_axes).astype(dtype or x.dtype)
