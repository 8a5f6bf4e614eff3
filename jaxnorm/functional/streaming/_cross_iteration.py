"""Cross-iteration batch normalization: earlier batches, carried over to the current kernel.

Yao et al.: Cross-Iteration Batch Normalization, arXiv:2002.05712, 2020.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnorm.functional._large import large_units, unitless
from jaxnorm.functional._parameters import kept_shape, scaled_and_shifted
from jaxnorm.functional.batch._running import shaped
from jaxnorm.functional.pointwise._widened import widened
from jaxnorm.functional.streaming._carried import after, with_earlier
from jaxnorm.functional.streaming._checks import require_state
from jaxnorm.functional.streaming._states import CrossIterationState
from jaxnorm.numerics import canonical_axes
from jaxnorm.ops import normalize
from jaxnorm.stats import BatchStats, Moments, moments, rescaled
from jaxnorm.stats.sampling import usable
from jaxnorm.typing import Array, ArrayLike, DTypeLike


def cross_iteration_batch_norm(
    x: ArrayLike,
    state: CrossIterationState,
    kernel: ArrayLike,
    pullback: Callable[[Array], Array],
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    use_running_average: bool,
    update_stats: bool | None = None,
    decay: float = 0.9,
    burn_in_steps: int = 0,
    axis: int = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    dtype: DTypeLike | None = None,
) -> tuple[Array, CrossIterationState]:
    """Returns `x` over the moments of this batch and of the last ones, and the statistics after it.

    `x` is the output of a layer with a kernel `w`. An earlier batch had another kernel `w'`, mean
    `m` and variance `v`. It counts with the moments that it has, to first order, under `w`:
    `m + dm . (w - w')` and `max(v + dv . (w - w') - (dm . (w - w'))^2, 0)`, where `dm` and `dv` are
    derivatives by the filter of the feature. All batches weigh the same, and the earlier ones are
    constants for derivatives; `y = (x - mean) / sqrt(var + epsilon) * scale + bias`. Statistics
    shape `(1, 1, C)` for `x [N, T, C]`, float32 or wider (Yao et al., arXiv:2002.05712, 2020).
    In evaluation running averages of the batches' own moments normalize.

    Args:
        x: [N, *spatial, C] (or features at `axis`), floating, of any rank.
        state: of `CrossIterationState.start(kernel.shape, window)`; the window has this batch too.
        kernel: [..., C], floating; entries of filter c change feature c of `x` only.
        pullback: from a cotangent of `x` to that of the kernel, as `jax.vjp` of the layer gives it.
        scale: [C], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        use_running_average: whether the running statistics normalize instead.
        update_stats: whether the batch enters the state; if None, just in training.
        decay: the weight of the old running statistics, from 0 to 1.
        burn_in_steps: in these first batches each is by itself.
        axis: the feature axis.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state.

    Raises:
        ValueError: a shape does not fit, or the decay is outside [0, 1].
        TypeError: `x` is not floating.

    Examples:
        >>> inputs, kernel = jnp.array([[1.0], [3.0]]), jnp.array([[2.0]])
        >>> x, pullback = jax.vjp(lambda kernel: inputs @ kernel, kernel)
        >>> state = CrossIterationState.start((1, 1), window=2)
        >>> how = {"pullback": lambda g: pullback(g)[0], "use_running_average": False}
        >>> y, state = cross_iteration_batch_norm(x, state, kernel, **how)
        >>> y.ravel().round(2), state.means, state.mean_slopes.ravel()
        (Array([-1.,  1.], dtype=float32), Array([[4.]], dtype=float32), Array([2.], dtype=float32))

    Notes:
        The paper carries over `m` and `E[x^2] = v + m^2`. The variance here is the carried
        `E[x^2]` less the square of the carried mean, with no difference of large numbers. A
        negative result counts as 0; the authors' code leaves the batch out, and it adds epsilon to
        the root.
    """
    like, name = jnp.result_type(x), "cross_iteration_batch_norm"
    x = usable(widened(x, ordered_for=name), mask, None)
    kernel = jax.lax.stop_gradient(widened(kernel, ordered_for=name))
    features = canonical_axes(axis, x.ndim, "axis")
    sizes, row = tuple(x.shape[axis] for axis in features), kept_shape(x.shape, features)
    if kernel.shape[-1:] != sizes:
        raise ValueError(
            f"kernel {list(kernel.shape)} must have the features {list(sizes)} of x "
            f"{list(x.shape)} on its last axis; move them there"
        )
    require_state(state, state.start(kernel.shape, len(state.means) + 1), decay=decay)
    past = jax.lax.stop_gradient(state)
    # Where squares overflow no variance could be differentiated: such features have a unit.
    unit = large_units(x, row, mask=mask)
    z, of_features = x / unit, unit.reshape(sizes)
    own, pull = jax.vjp(lambda z: moments(z, row, mask=mask), z)
    taken = rescaled(Moments(past.mean, past.var, jnp.ones_like(past.var)), 1 / of_features)
    if not use_running_average:
        taken = with_earlier(shaped(own, sizes), past, kernel, of_features, burn_in_steps)
    y = normalize(z, shaped(taken, row), epsilon=unitless(epsilon, unit))
    y = scaled_and_shifted(y, scale, bias, features).astype(dtype or like)
    if not (update_stats or (update_stats is None and not use_running_average)):
        return y, state
    still = jax.tree.map(jnp.zeros_like, own)
    directions = (still._replace(mean=jnp.ones_like(unit)), still._replace(var=unit))
    slopes = BatchStats(*(pullback(pull(v)[0].astype(like)) for v in directions))
    batch = shaped(rescaled(own, unit), sizes)
    return y, jax.lax.stop_gradient(after(past, batch, kernel, slopes, decay))
