"""Layer scale: a residual branch times a small learned scale for each feature.

Touvron, Cord, Sablayrolles, Synnaeve, Jegou: Going deeper with Image Transformers,
arXiv:2103.17239, 2021.
"""

from jaxnorm.functional._parameters import scaled_and_shifted
from jaxnorm.functional.pointwise._widened import widened
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def layer_scale(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    *,
    feature_axes: Axes = -1,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns a residual branch times a scale for each feature.

    `y = scale * x`, to be added to what the branch was computed of; in float32 or wider and rounded
    once (Touvron et al., arXiv:2103.17239, 2021, section 2). Where the scale starts near zero so
    does the branch, while each feature soon has a step size of its own.

    Args:
        x: [*shape], the output of the branch, floating or complex.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
            `layer_scale_start` says where the authors start it.
        feature_axes: the axes that the scale belongs to.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*shape], of `dtype`.

    Raises:
        ValueError: a shape does not fit.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer_scale(jnp.array([[2.0, 4.0]]), jnp.array([0.5, 0.25]))
        Array([[1., 1.]], dtype=float32)
    """
    x = as_array(x)
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    return scaled_and_shifted(widened(x), scale, None, features).astype(dtype or x.dtype)


def layer_scale_start(depth: int) -> float:
    """Returns where the authors of layer scale start it in a network of `depth` blocks.

    0.1 up to 18 blocks, 1e-5 up to 24 and 1e-6 beyond (Touvron et al., arXiv:2103.17239, 2021,
    section 2; the paper names 24 itself, and what lies between is taken from the deeper side).

    Args:
        depth: the number of blocks, at least 1.

    Returns:
        The first value of every entry of the scale.

    Raises:
        ValueError: `depth` is not positive.

    Examples:
        >>> [layer_scale_start(depth) for depth in (12, 24, 36)]
        [0.1, 1e-05, 1e-06]
    """
    if depth < 1:
        raise ValueError(f"depth={depth} must be at least 1, the number of residual blocks")
    if depth <= 18:
        return 0.1
    return 1e-5 if depth <= 24 else 1e-6
