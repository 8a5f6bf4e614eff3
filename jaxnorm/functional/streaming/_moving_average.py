"""Moving average batch normalization: means over the last batches in both passes.

Yan et al.: Towards Stabilizing Batch Statistics in Backward Propagation, arXiv:2001.06838, 2020.
"""

import jax
import jax.numpy as jnp

from jaxnorm import _explicit
from jaxnorm.functional._parameters import kept_shape, scaled_and_shifted
from jaxnorm.functional.pointwise._widened import widened
from jaxnorm.functional.streaming._checks import require_state
from jaxnorm.functional.streaming._last import entered
from jaxnorm.functional.streaming._states import MovingAverageState
from jaxnorm.functional.streaming._steered import Over, steered
from jaxnorm.numerics import canonical_axes
from jaxnorm.ops import normalize
from jaxnorm.stats import Moments, moments
from jaxnorm.stats.sampling import usable
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def moving_average_batch_norm(
    x: ArrayLike,
    state: MovingAverageState,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    use_running_average: bool,
    update_stats: bool | None = None,
    decay: float = 0.98,
    r_max: float = 5.0,
    warmup_steps: int = 100,
    correction_steps: int = 1000,
    axis: Axes = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
) -> tuple[Array, MovingAverageState]:
    """Returns `x` over the root mean square of the last batches, and the statistics after it.

    `z = x / sqrt(s + epsilon)` with the mean `s` of `mean(x^2)` over the last `window` batches,
    this one among them; `y = r z * scale + bias` with `r = sqrt(s + epsilon) / sqrt(mean_square +
    epsilon)`, a constant for derivatives, clipped to `[1 / r_max, r_max]`; then `mean_square <-
    decay mean_square + (1 - decay) s`, which serves in evaluation. The gradient `g` with respect to
    `z` is passed on as `(g - p z) / sqrt(s + epsilon)` with the mean `p` of `mean(g z)` over the
    last batches. Statistics shape `(1, 1, C)` for `x [N, T, C]`, float32 or wider (Yan et al.,
    arXiv:2001.06838, 2020). **The new value of `state.products` comes out as the gradient with
    respect to it.** No mean is subtracted: the paper centres the kernel of the layer before by
    `weight_centralization`, which leaves the mean of its output small.

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating, of any rank.
        state: of `MovingAverageState.start([*features], window)`.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        use_running_average: whether `mean_square` normalizes, as a constant.
        update_stats: whether the batch enters the state; if None, just in training.
        decay: the weight of the old `mean_square`, from 0 to 1.
        r_max: the largest r, at least 1.
        warmup_steps: before this step, and until the window is full, `s` and `p` are the batch's.
        correction_steps: up to this step, and in the warmup, `r` is 1.
        axis: the feature axes; all others are reduced.
        epsilon: added to the mean square.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the state with all but new `products`.

    Raises:
        ValueError: a shape or a bound does not fit, or an unbound `axis_name`.
        TypeError: `x` is not floating.

    Examples:
        >>> x, state = jnp.array([[0.0], [2.0]]), MovingAverageState.start((1,), window=2)
        >>> y, state = moving_average_batch_norm(x, state, use_running_average=False)
        >>> y.ravel().round(2), state.mean_squares.ravel()
        (Array([0.  , 1.41], dtype=float32), Array([2., 0.], dtype=float32))
    """
    if not r_max >= 1:
        raise ValueError(f"r_max={r_max} must be at least 1; use 1 for no correction")
    result = jnp.dtype(dtype or jnp.result_type(x))
    x = usable(widened(x, ordered_for="moving_average_batch_norm"), mask, None)
    features = canonical_axes(axis, x.ndim, "axis")
    sizes, row = tuple(x.shape[axis] for axis in features), kept_shape(x.shape, features)
    require_state(state, state.start(sizes, len(state.products)), decay=decay)
    mapped = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    running = jax.lax.stop_gradient(state.mean_square)
    batch = moments(jax.lax.stop_gradient(x), row, center=False, mask=mask, **mapped)
    own, seen = (
        _explicit.like(jnp.broadcast_to(part, row).reshape(sizes), running)
        for part in (batch.var, batch.count > 0)
    )
    step = state.updates + seen
    averaged = (step > len(state.products)) & (step >= warmup_steps)
    squares = entered(state.mean_squares, own, seen)
    s = jnp.where(seen, jnp.where(averaged, squares.mean(0), own), running)
    divisor, one = (running if use_running_average else s).reshape(row), jnp.ones(row, x.dtype)
    z = normalize(x, Moments(0 * one, divisor, one), epsilon=epsilon)
    if not use_running_average:
        over = Over(row, sizes, **mapped)
        z = steered(_rule, over, z, mask, state.products, (averaged, seen))
        r = jnp.clip(jnp.sqrt((s + epsilon) / (running + epsilon)), 1 / r_max, r_max)
        z = z * jnp.where(step > max(correction_steps, warmup_steps), r, 1).reshape(row)
    y = scaled_and_shifted(z, scale, bias, features).astype(result)
    if not (update_stats or (update_stats is None and not use_running_average)):
        return y, state
    running = decay * running + (1 - decay) * s
    return y, MovingAverageState(running, squares, state.products, step)


def _rule(kept: Array, gz: Array, zz: Array, when: tuple[Array, Array]) -> tuple[Array, Array]:
    averaged, seen = when
    products = entered(kept, gz, seen)
    mean = products.mean(0)
    return jnp.where(averaged, mean, _explicit.like(gz, mean)), products
