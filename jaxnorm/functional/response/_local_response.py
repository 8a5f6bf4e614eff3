"""Local response normalization: each entry by the squares of the channels around it.

Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural
Networks, NeurIPS, 2012.
"""

import jax.numpy as jnp

from jaxnorm.functional.response._units import in_units
from jaxnorm.stats import windowed_moments
from jaxnorm.typing import Array, ArrayLike, DTypeLike


def local_response_norm(
    x: ArrayLike,
    *,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    average: bool = False,
    axis: int = -1,
    mask: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `x` divided by a power of the squares of the channels around each one.

    `y = x / (k + alpha sum(x^2)) ** beta`, summed over the `size` channels around each that there
    are, in float32 or wider (Krizhevsky, Sutskever, Hinton, NeurIPS, 2012, section 3.3, with the
    paper's constants). Statistics of the shape of `x`.

    Args:
        x: [N, *spatial, C] (or channels at `axis`), real and floating.
        size: how many channels, those from `i - size // 2` to `i + (size - 1) // 2`.
        alpha: the weight of the sum.
        beta: the exponent.
        k: added to the weighted sum, positive.
        average: whether alpha is divided by `size`, as PyTorch, Caffe and GoogLeNet do.
        axis: the channel axis.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the sums.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        The shape of `x`, of `dtype`.

    Raises:
        ValueError: `k` is not positive, the window is empty, or a shape does not fit.
        TypeError: `x` is not real and floating.

    Examples:
        >>> x = jnp.array([[1.0, 0.0, 1.0]])
        >>> local_response_norm(x, size=3, alpha=1.0, beta=1.0, k=1.0).round(3)
        Array([[0.5, 0. , 0.5]], dtype=float32)

    Notes:
        PyTorch's `LocalResponseNorm` has `k=1` and `average=True`; TensorFlow's takes a radius,
        `(size - 1) // 2`, and has other constants.
    """
    if not k > 0:
        raise ValueError(f"k={k} must be positive: where all channels are zero it is divided by")
    # The unit is one, and the divisor exact, until squares come close to the largest float.
    z, unit = in_units(x, mask, at_least=1.0, headroom=2.0**30)
    taken = windowed_moments(z, size, axes=axis, center=False, mask=mask)
    weight = alpha / size if average else alpha
    # Zeros beside entries of 1e30: below 2^-66 the derivative of the power has no float32.
    divisor = jnp.maximum(k / unit / unit + weight * (taken.var * taken.count), 2.0**-66)
    # In units of the example: x / (unit^2 divisor)^beta.
    y = z * unit ** (1 - 2 * beta) * divisor**-beta
    return y.astype(dtype or jnp.asarray(x).dtype)
