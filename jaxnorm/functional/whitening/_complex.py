"""Complex batch normalization: real and imaginary part whitened together.

Trabelsi et al.: Deep Complex Networks, arXiv:1705.09792, 2017.
"""

import jax
import jax.numpy as jnp

from jaxnorm.functional.whitening._pair_root import pair_root
from jaxnorm.functional.whitening._parts import WhiteningState, whiten
from jaxnorm.numerics import as_array, canonical_axes
from jaxnorm.stats import Variance
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike


def complex_batch_norm(
    x: ArrayLike,
    state: WhiteningState,
    scale: ArrayLike | None = None,
    cross: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    use_running_average: bool,
    update_stats: bool | None = None,
    decay: float = 0.9,
    axis: int = -1,
    epsilon: float = 1e-4,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
) -> tuple[Array, WhiteningState]:
    """Returns complex `x` whitened per channel, scaled by a matrix, and the running statistics.

    `y = G (V + epsilon I)^(-1/2) (x - mean) + bias` of the pair (real, imaginary), with its 2x2
    covariance `V` and the symmetric `G = [[g_rr, g_ri], [g_ri, g_ii]]`; statistics `[C, 2, 2]`,
    float32 or wider (Trabelsi et al., arXiv:1705.09792, 2017). With `s` the root of the determinant
    and `t = sqrt(trace + 2 s)` the inverse root is `(trace I - V + s I) / (s t)`.

    Args:
        x: [N, *spatial, C] (or channels at `axis`), complex, of any rank.
        state: running statistics: mean [C, 2] (real, imaginary), covariance [C, 2, 2].
        scale: [C, 2], `g_rr` and `g_ii`; None for one. Modules start it at `1 / sqrt(2)`.
        cross: [C], `g_ri`; None for zero.
        bias: [C, 2], its real and imaginary part; None for zero.
        use_running_average: whether the running statistics normalize instead of the batch's own.
        update_stats: whether the batch enters them; if None, just where it normalizes.
        decay: the weight of the old running statistics, from 0 to 1.
        axis: the channel axis; all others are reduced.
        epsilon: added to both variances, not negative.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype, complex; that of `x` if None.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state.

    Raises:
        ValueError: a shape that does not fit, or an unbound `axis_name`.
        TypeError: `x` is not complex.

    Examples:
        >>> x = jnp.array([[1.0 + 0j], [-1.0 + 0j], [2j], [-2j]])
        >>> state = WhiteningState(jnp.zeros((1, 2)), jnp.eye(2)[None])
        >>> complex_batch_norm(x, state, use_running_average=False)[0].ravel().round(1)[::2]
        Array([1.4+0.j , 0. +1.4j], dtype=complex64)

    Notes:
        The parameters are real, so that optimizers need not know complex numbers.
    """
    x = as_array(x)
    if not jnp.iscomplexobj(x):
        raise TypeError(f"complex_batch_norm needs a complex x, got {x.dtype}; use batch_norm")
    (axis,) = canonical_axes(axis, x.ndim, "axis")
    channels, shape = x.shape[axis], jnp.moveaxis(x, axis, -1).shape

    def pairs(v: Array) -> Array:
        """Returns the parts of each channel as neighbours on the last axis."""
        v = jnp.moveaxis(v, axis, -1)
        both = (v.real, v.imag) if jnp.iscomplexobj(v) else (v, v)
        return jnp.stack(both, -1).reshape(*v.shape[:-1], 2 * v.shape[-1])

    def sample(v: ArrayLike | None) -> Array | None:
        return None if v is None else pairs(jnp.broadcast_to(jnp.asarray(v), x.shape))

    result = jnp.dtype(dtype or x.dtype)
    means = WhiteningState(jnp.asarray(state.mean).reshape(-1), state.covariance)
    y, new = whiten(
        pair_root,
        pairs(x),
        means,
        None,
        None,
        num_groups=channels,
        axis=-1,
        use_running_average=use_running_average,
        update_stats=update_stats,
        decay=decay,
        epsilon=epsilon,
        mask=sample(mask),
        weights=sample(weights),
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=jnp.finfo(result).dtype,
    )
    y = y.reshape(*shape, 2)
    scaled = y if scale is None else y * jnp.asarray(scale)
    if cross is not None:
        scaled = scaled + y[..., ::-1] * jnp.asarray(cross)[..., None]
    if bias is not None:
        scaled = scaled + jnp.asarray(bias)
    y = jnp.moveaxis(jax.lax.complex(scaled[..., 0], scaled[..., 1]), -1, axis).astype(result)
    return y, WhiteningState(new.mean.reshape(channels, 2), new.covariance)
