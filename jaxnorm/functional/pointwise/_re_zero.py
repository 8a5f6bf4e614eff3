"""ReZero: a residual block whose branch starts at nothing, behind one learned number.

Bachlechner et al.: ReZero is All You Need: Fast Convergence at Large Depth, arXiv:2003.04887, 2020.
"""

import jax.numpy as jnp

from jaxnorm.functional.pointwise._parts import widened
from jaxnorm.numerics import as_array, require_inexact
from jaxnorm.typing import Array, ArrayLike, DTypeLike


def re_zero(
    x: ArrayLike, branch: ArrayLike, alpha: ArrayLike, *, dtype: DTypeLike | None = None
) -> Array:
    """Returns the input of a residual block plus its branch behind a learned gate.

    `y = x + alpha * branch` (Bachlechner et al., arXiv:2003.04887, 2020, equation 1), in float32 or
    wider and rounded once.

    Args:
        x: [*shape], the block's input, floating or complex.
        branch: [*shape], what the block's layers make of `x`.
        alpha: []; it starts at 0, so that the block starts as the identity.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*shape], of `dtype`.

    Raises:
        ValueError: `branch` has another shape than `x`.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> re_zero(jnp.array([1.0, 2.0]), jnp.array([10.0, 10.0]), 0.5)
        Array([6., 7.], dtype=float32)
    """
    x, branch = as_array(x), as_array(branch)
    require_inexact(x)
    if branch.shape != x.shape:
        raise ValueError(
            f"re_zero adds branch {list(branch.shape)} to x {list(x.shape)}: the shapes must be "
            "equal; use a projection of x where the block changes its shape"
        )
    wide = widened(x)
    y = wide + jnp.asarray(alpha, wide.dtype) * widened(branch)
    return y.astype(dtype or x.dtype)
