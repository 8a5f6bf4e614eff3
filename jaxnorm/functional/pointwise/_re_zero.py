"""ReZero: a residual connection whose branch has a learned weight that starts at zero.

Bachlechner, Majumder, Mao, Cottrell, McAuley: ReZero is All You Need: Fast Convergence at Large
Depth, arXiv:2003.04887, 2020.
"""

import jax.numpy as jnp

from jaxnorm.functional.pointwise._widened import widened
from jaxnorm.numerics import as_array
from jaxnorm.typing import Array, ArrayLike, DTypeLike


def re_zero(
    x: ArrayLike,
    branch: ArrayLike,
    alpha: ArrayLike | None = None,
    *,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns `x` plus the weighted output of a residual branch.

    `y = x + alpha * branch`, in float32 or wider and rounded once (Bachlechner et al.,
    arXiv:2003.04887, 2020). The network starts as the identity where alpha starts at
    zero, and takes the place of a norm.

    Args:
        x: [*shape], what the branch was computed of, floating or complex.
        branch: [*shape], the output of the branch.
        alpha: [], or broadcastable to `x`; None for one. The authors start it at zero.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*shape], of `dtype`.

    Raises:
        ValueError: `branch` is of another shape than `x`.
        TypeError: `x` or `branch` is not floating or complex.

    Examples:
        >>> re_zero(jnp.array([1.0, 2.0]), jnp.array([10.0, 20.0]), 0.5)
        Array([ 6., 12.], dtype=float32)
    """
    x, branch = as_array(x), as_array(branch)
    if branch.shape != x.shape:
        raise ValueError(
            f"branch {list(branch.shape)} must have the shape of x {list(x.shape)}; project x to "
            "the shape of the branch first"
        )
    kept, added = widened(x), widened(branch)
    weighted = added if alpha is None else jnp.asarray(alpha, kept.dtype) * added
    return (kept + weighted).astype(dtype or x.dtype)
