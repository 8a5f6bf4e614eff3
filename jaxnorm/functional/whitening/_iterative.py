"""Iterative normalization: whitening by a few of Newton's steps, without eigenvectors.

Huang, Zhou, Zhu, Liu, Shao: Iterative Normalization, arXiv:1904.03441, 2019.
"""

import functools

import jax
import jax.numpy as jnp

from jaxnorm.functional.whitening._parts import WhiteningState, whiten
from jaxnorm.numerics import power_of_two
from jaxnorm.stats import Variance
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike


def iterative_norm(
    x: ArrayLike,
    state: WhiteningState,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    use_running_average: bool,
    update_stats: bool | None = None,
    num_groups: int = 1,
    iterations: int = 5,
    decay: float = 0.9,
    axis: int = -1,
    epsilon: float = 1e-5,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
) -> tuple[Array, WhiteningState]:
    """Returns `x` nearly whitened within each group of channels, and the running statistics.

    `y = P_T / sqrt(tr S) (x - mean)` with `S = cov + epsilon I`, `P_0 = I` and
    `P_k = (3 P_{k-1} - P_{k-1}^3 S / tr S) / 2`, which tends to `S^(-1/2) (x - mean)`; statistics
    `[G, C/G, C/G]`, float32 or wider (Huang et al., arXiv:1904.03441, 2019, algorithm 1). The
    derivative is that of the steps.

    Args:
        x: [N, *spatial, C] (or channels at `axis`), floating, of any rank.
        state: running statistics: mean [C], covariance [G, C/G, C/G].
        scale: [C], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        use_running_average: whether the running statistics normalize instead of the batch's own.
        update_stats: whether the batch enters them; if None, just where it normalizes.
        num_groups: contiguous groups of channels, G.
        iterations: T, how many steps, 5 to 7; many more diverge in float32 where a group is
            ill-conditioned, since each step squares what rounding left.
        decay: the weight of the old running statistics, from 0 to 1.
        axis: the channel axis; all others are reduced.
        epsilon: added to the diagonal of the covariance, not negative.
        mask: boolean, broadcastable to `x`; a vector takes part where all entries of its group do.
        weights: real, broadcastable to `x`, not negative; a vector weighs as its lightest entry.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        `y` of the shape of `x` and of `dtype`, and the new state.

    Raises:
        ValueError: a shape that does not fit, or an unbound `axis_name`.
        TypeError: `x` is not floating, or complex.

    Examples:
        >>> x = jnp.array([[1.0, 0.0], [3.0, 0.0], [2.0, 1.0], [2.0, -1.0]])
        >>> state = WhiteningState(jnp.zeros(2), jnp.eye(2)[None])
        >>> y, state = iterative_norm(x, state, use_running_average=False, decay=0.5)
        >>> y.round(2)[0], state.mean
        (Array([-1.41,  0.  ], dtype=float32), Array([1., 0.], dtype=float32))

    Notes:
        The state holds the running covariance, from which the matrix is made again at evaluation;
        algorithm 1 averages the matrices themselves, which depend on T and epsilon.
    """
    root = functools.partial(_newton_root, iterations=iterations)
    return whiten(
        root,
        x,
        state,
        scale,
        bias,
        num_groups=num_groups,
        axis=axis,
        use_running_average=use_running_average,
        update_stats=update_stats,
        decay=decay,
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
    )


def _newton_root(cov: Array, epsilon: Array, *, iterations: int) -> Array:
    """Returns what Newton's steps make of each matrix, for an epsilon that is positive."""
    product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    identity = jnp.eye(cov.shape[-1], dtype=cov.dtype)
    ridged = cov + epsilon * identity
    trace = jnp.trace(ridged, axis1=-2, axis2=-1)[..., None, None]
    unit = power_of_two(jax.lax.stop_gradient(trace))
    ridged, trace = ridged / unit, trace / unit
    scaled, root = ridged / trace, identity + jnp.zeros_like(cov)
    for _ in range(iterations):
        cube = product(product(root, root), root)
        root = (3 * root - product(cube, scaled)) / 2
    return root / jnp.sqrt(trace) / jnp.sqrt(unit)
