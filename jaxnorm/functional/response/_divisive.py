"""Divisive normalization: local mean and local energy, each of a window around the entry.

Ren, Liao, Urtasun, Sinz, Zemel: Normalizing the Normalizers, arXiv:1611.04520, 2016.
"""

from collections.abc import Sequence

import jax.numpy as jnp

from jaxnorm.functional._parameters import placed
from jaxnorm.functional.response._units import in_units, positions
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.ops import normalize
from jaxnorm.stats import windowed_moments
from jaxnorm.stats.measuring import centered
from jaxnorm.stats.sampling import sample_weights
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def divisive_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    window: int | Sequence[int | None],
    suppression: int | Sequence[int | None] | None = None,
    axes: Axes | None = None,
    smoother: float = 1.0,
    feature_axes: Axes = -1,
    mask: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `x` less the mean around each entry, divided by the energy around it.

    `v = x - mean_A(x)`, `y = v / sqrt(smoother^2 + mean_B(v^2)) * scale + bias`, A and B being
    windows around each entry; float32 or wider (Ren et al., arXiv:1611.04520, 2016). With
    windows of whole axes it is layer norm or instance norm.

    Args:
        x: [N, *spatial, *features] (or features at `feature_axes`), real and floating.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        window: entries of A, one number for all `axes` or one for each, None for a whole axis.
        suppression: entries of B; as `window` if None.
        axes: the axes along which the windows slide; all between the first and the last if None.
        smoother: the energy that is added to the root, positive; the paper's sigma.
        feature_axes: the axes that scale and bias belong to.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the windows.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        The shape of `x`, of `dtype`.

    Raises:
        ValueError: the smoother is not positive, a window is empty, or a shape does not fit.
        TypeError: `x` is not real and floating.

    Examples:
        >>> x = jnp.array([[[4.0], [12.0], [20.0]]])
        >>> divisive_norm(x, window=3, suppression=1, smoother=3.0).round(3).ravel()
        Array([-0.8,  0. ,  0.8], dtype=float32)

    Notes:
        The energy is the mean square of `v`. From each entry of `v` a mean of its own was taken, so
        the energy is the variance of the window only where A and B are whole axes. A window is cut
        at the edges, where the authors' code counts zeros. Their windows of images take all
        channels at once.
    """
    if not smoother > 0:
        raise ValueError(f"smoother={smoother} must be positive: a window may have no energy")
    x = as_array(x)
    z, unit = in_units(x, mask, at_least=smoother)
    slid = positions(x.ndim, axes)
    w = sample_weights(x, mask, None)
    around = windowed_moments(z, window, axes=slid, mask=mask)
    v = centered(z, w, around.mean, around.tail)
    energy = windowed_moments(
        v, window if suppression is None else suppression, axes=slid, center=False, mask=mask
    )
    features = canonical_axes(feature_axes, x.ndim, "feature_axes")
    return normalize(
        v,
        energy,
        **placed(scale, bias, x.shape, features),
        epsilon=jnp.maximum((smoother / unit) ** 2, jnp.finfo(z.dtype).tiny),
        dtype=dtype or x.dtype,
    )
