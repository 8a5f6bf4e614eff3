"""Online normalization: each sample by the running statistics of the samples before it.

Chiley et al.: Online Normalization for Training Neural Networks, arXiv:1905.05894, 2019.
"""

import jax
import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape, scaled_and_shifted
from jaxnorm.functional.batch._table import require_batch_axis
from jaxnorm.functional.pointwise._widened import widened
from jaxnorm.functional.streaming._checks import require_state
from jaxnorm.functional.streaming._control import controlled
from jaxnorm.functional.streaming._states import OnlineState
from jaxnorm.functional.streaming._stream import stream_moments
from jaxnorm.numerics import canonical_axes
from jaxnorm.ops import normalize, standardize
from jaxnorm.stats import Moments, moments, whole_mean
from jaxnorm.stats.sampling import usable
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def online_norm(
    x: ArrayLike,
    state: OnlineState,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    use_running_average: bool,
    update_stats: bool | None = None,
    decay: float = 0.999,
    backward_decay: float = 0.99,
    layer_scaling: bool = True,
    axis: Axes = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
) -> tuple[Array, OnlineState]:
    """Returns each sample of `x` over the statistics of those before it, and the statistics.

    `z = (x[n] - mean) / sqrt(var + epsilon)`; then with mean `m` and variance `v` of the sample
    `var <- a var + (1 - a) v + a (1 - a) (m - mean)^2` and `mean <- a mean + (1 - a) m`, a = decay.
    `y = z * scale + bias`, divided by its root mean square over the sample where `layer_scaling`.
    Statistics shape `(N, 1, C)` for `x [N, T, C]`, float32 or wider (Chiley et al.,
    arXiv:1905.05894, 2019). In training the gradient `g` with respect to `z`, with
    `b = 1 - backward_decay`, becomes `h = g - b product z` and `product <- product + mean(h z)`,
    then `d = h / sqrt(var + epsilon) - b gradient` and `gradient <- gradient + mean(d)`. That
    happens in the backward pass, so **the new values of `state.gradient` and `state.product` come
    out as the gradients with respect to them**.

    Args:
        x: [N, *spatial, *features] (or features at `axis`), floating: samples in their order.
        state: running statistics of [*features].
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        use_running_average: whether `state` normalizes all samples, as a constant.
        update_stats: whether the samples enter `mean` and `var`; if None, just in training.
        decay: the weight of the old `mean` and `var`, from 0 to 1.
        backward_decay: one minus the share of the remembered errors that a gradient loses.
        layer_scaling: whether a sample's errors are bound by dividing by its size, as in the paper.
        axis: the feature axes, not the first.
        epsilon: added to the variance and to the mean square.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the state with a new `mean` and `var`.

    Raises:
        ValueError: a shape does not fit, or a decay is outside [0, 1].
        TypeError: `x` is not floating.

    Examples:
        >>> x, state = jnp.array([[2.0], [2.0]]), OnlineState.start((1,))
        >>> how = {"use_running_average": False, "decay": 0.5, "layer_scaling": False}
        >>> y, state = online_norm(x, state, **how)
        >>> y.ravel().round(2), state.mean
        (Array([2.  , 0.82], dtype=float32), Array([1.5], dtype=float32))

    Notes:
        The authors' PyTorch module clips `y` to [-5, 5] in place of layer scaling by default.
    """
    result = jnp.dtype(dtype or jnp.result_type(x))
    x = usable(widened(x, ordered_for="online_norm"), mask, None)
    features = canonical_axes(axis, x.ndim, "axis")
    require_batch_axis(features, x.shape)
    sizes, row = tuple(x.shape[axis] for axis in features), kept_shape(x.shape, features)
    require_state(state, state.start(sizes), decay=decay, backward_decay=backward_decay)
    how = {"stats_shape": (len(x), *row[1:]), "mask": mask}
    mean, var = (jax.lax.stop_gradient(v).astype(x.dtype).reshape(row) for v in state[:2])
    seen = Moments(mean, var, jnp.ones_like(var), jnp.zeros_like(mean))
    update = (not use_running_average) if update_stats is None else update_stats
    last = before = seen
    if update or not use_running_average:
        last, before = stream_moments(seen, moments(jax.lax.stop_gradient(x), **how), decay)
    if use_running_average:
        z = normalize(x, seen, epsilon=epsilon)
    else:
        rate = jnp.asarray(1 - backward_decay, x.dtype)
        x = controlled(x, None, state.gradient, rate, **how)
        z = normalize(x, before, epsilon=epsilon)
        z = controlled(z, z, state.product, rate, **how)
    y = scaled_and_shifted(z, scale, bias, features)
    if layer_scaling:
        whole = (len(x), *(1,) * (x.ndim - 1))
        y, _ = standardize(y, whole, center=False, mask=mask, epsilon=epsilon)
    if update:
        mean, var = (v.reshape(state.mean.shape) for v in (whole_mean(last), last.var))
        state = state._replace(mean=mean.astype(state.mean.dtype), var=var.astype(state.var.dtype))
    return y.astype(result), state
