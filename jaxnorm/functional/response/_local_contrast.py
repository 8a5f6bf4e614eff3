"""Local contrast normalization: less the Gaussian mean around a position, by the spread around it.

Jarrett, Kavukcuoglu, Ranzato, LeCun: What is the Best Multi-Stage Architecture for Object
Recognition?, ICCV, 2009.
"""

import math

import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape
from jaxnorm.functional.response._units import in_units, positions
from jaxnorm.numerics import as_array, canonical_axes, check_epsilon
from jaxnorm.stats import moments, whole_mean, windowed_moments
from jaxnorm.stats.measuring import centered
from jaxnorm.stats.sampling import sample_weights
from jaxnorm.stats.shapes import broadcasting
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def local_contrast_norm(
    x: ArrayLike,
    *,
    window: int = 9,
    std: float | None = None,
    axes: Axes | None = None,
    axis: int = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `x` less its local mean, divided by its local spread where that exceeds the average.

    `v = x - sum(w x)`, `s = sqrt(sum(w v^2))`, `y = v / max(mean(s), s)`; `w` is a Gaussian window
    over positions, the same for all channels, of sum one; `mean(s)` is that of the example. Float32
    or wider (Jarrett et al., ICCV, 2009, the layer N).

    Args:
        x: [N, *spatial, C] (or channels at `axis`), real and floating.
        window: entries of the window along each of the axes, odd.
        std: of the Gaussian, in entries; a quarter of the window if None.
        axes: the axes along which the window slides; all but the first and `axis` if None.
        axis: the channel axis, which is taken as a whole.
        epsilon: the least divisor.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the windows.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        The shape of `x`, of `dtype`.

    Raises:
        ValueError: the window is even or empty, or a shape does not fit.
        TypeError: `x` is not real and floating.

    Examples:
        >>> x = jnp.array([[[1.0], [3.0]]])
        >>> local_contrast_norm(x, window=3, std=1e3).round(3).ravel()
        Array([-1.,  1.], dtype=float32)

    Notes:
        At the edges the window is cut and its weights sum to one again. The paper has no epsilon.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window={window} has no middle; use an odd number of entries, such as 9")
    check_epsilon(epsilon)
    x = as_array(x)
    z, unit = in_units(x, mask)
    width = window / 4 if std is None else std
    taps = tuple(math.exp(-0.5 * ((i - window // 2) / width) ** 2) for i in range(window))
    slid = positions(x.ndim, axes, axis)
    (channels,) = canonical_axes(axis, x.ndim, "axis")
    windows, along = (*[taps] * len(slid), None), (*slid, channels)
    around = windowed_moments(z, windows, axes=along, mask=mask)
    v = centered(z, sample_weights(x, mask, None), around.mean, around.tail)
    square = windowed_moments(v, windows, axes=along, center=False, mask=mask).var
    spread = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    valid = None
    if mask is not None:
        valid = jnp.broadcast_to(broadcasting(mask, x.shape, "mask"), x.shape)
        valid = jnp.any(valid, axis=channels, keepdims=True)
    usual = moments(spread, kept_shape(x.shape, (0,)), mask=valid)
    divisor = jnp.maximum(jnp.maximum(whole_mean(usual, z.dtype), spread), epsilon / unit)
    y = v / jnp.where(divisor > 0, divisor, 1)
    return y.astype(dtype or x.dtype)
