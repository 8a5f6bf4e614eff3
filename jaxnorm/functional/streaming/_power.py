"""Power normalization: a running quadratic mean forward, and a running statistic backward.

Shen, Yao, Gholami, Mahoney, Keutzer: PowerNorm, arXiv:2003.07845, 2020.
"""

import jax
import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape, scaled_and_shifted
from jaxnorm.functional.streaming._checks import require_state
from jaxnorm.functional.streaming._states import PowerState
from jaxnorm.functional.streaming._steered import Over, steered
from jaxnorm.numerics import accumulation_dtype, as_array, canonical_axes
from jaxnorm.ops import normalize
from jaxnorm.stats import BatchStats, Moments, ema, moments
from jaxnorm.stats.sampling import usable
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def power_norm(
    x: ArrayLike,
    state: PowerState,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    use_running_average: bool,
    update_stats: bool | None = None,
    decay: float = 0.9,
    backward_decay: float = 0.9,
    axis: Axes = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
) -> tuple[Array, PowerState]:
    """Returns `x` over the running root mean square of each feature, and the running statistics.

    `z = x / sqrt(mean_square + epsilon)`, `y = z * scale + bias`, with the statistic of the steps
    before; after it `mean_square <- decay mean_square + (1 - decay) mean(x^2)`. Statistics shape
    `(1, 1, C)` for `x [N, T, C]`, float32 or wider (Shen et al., arXiv:2003.07845, 2020: PN).
    In training the gradient `g` with respect to `z` is passed on as
    `(g - backward z) / sqrt(mean_square + epsilon)`, and with `a = 1 - backward_decay` `backward`
    becomes `backward (1 - a mean(z^2)) + a mean(g z)`. That happens in the backward pass, so
    **the new value of `state.backward` comes out as the gradient with respect to it**.

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating, of any rank.
        state: running statistics of [*features].
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        use_running_average: whether the gradient is that of a constant divisor, as in evaluation.
        update_stats: whether the batch enters `mean_square`; if None, just in training.
        decay: the weight of the old `mean_square`, from 0 to 1.
        backward_decay: the weight of the old `backward`, from 0 to 1.
        axis: the feature axes; all others are reduced.
        epsilon: added to the mean square.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the state with a new `mean_square`.

    Raises:
        ValueError: a shape that does not fit, or an unbound `axis_name`.
        TypeError: `x` is not floating.

    Examples:
        >>> x, state = jnp.array([[1.0], [3.0]]), PowerState.start((1,))
        >>> def loss(state):
        ...     y, new = power_norm(x, state, use_running_average=False, epsilon=0.0)
        ...     return y.sum(), new
        >>> gradients, new = jax.grad(loss, has_aux=True)(state)
        >>> new._replace(backward=gradients.backward)
        PowerState(mean_square=Array([1.4], dtype=float32), backward=Array([0.2], dtype=float32))

    Notes:
        The authors' code divides by the batch's own mean square in the first steps, and in the
        backward pass always; it first divides groups of features by their root mean square.
    """
    x = as_array(x)
    features = canonical_axes(axis, x.ndim, "axis")
    sizes = tuple(x.shape[axis] for axis in features)
    require_state(state, state.start(sizes), decay=decay, backward_decay=backward_decay)
    stats_shape = kept_shape(x.shape, features)
    result, wide = jnp.dtype(dtype or x.dtype), accumulation_dtype(dtype or x.dtype)
    shared = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    x = usable(x, mask, None)
    forward = jax.lax.stop_gradient(jnp.asarray(state.mean_square)).reshape(stats_shape)
    one = jnp.ones_like(forward)
    z = normalize(x, Moments(0 * one, forward, one), epsilon=epsilon, dtype=wide)
    if not use_running_average:
        kept = jnp.asarray(state.backward)
        over = Over(stats_shape, kept.shape, **shared)
        z = steered(_rule, over, z, mask, kept, jnp.asarray(1 - backward_decay, kept.dtype))
    y = scaled_and_shifted(z, scale, bias, features).astype(result)
    if not ((not use_running_average) if update_stats is None else update_stats):
        return y, state
    batch = moments(x, stats_shape, center=False, mask=mask, **shared)
    batch = jax.tree.map(lambda v: v.reshape(forward.size) if v.ndim else v, batch)
    old = BatchStats(jnp.zeros(forward.size), forward.reshape(forward.size))
    new = ema(decay).update(old, batch).var
    return y, state._replace(mean_square=new.reshape(jnp.shape(state.mean_square)))


def _rule(kept: Array, gz: Array, zz: Array, rate: Array) -> tuple[Array, Array]:
    return kept, kept * (1 - rate * zz) + rate * gz
