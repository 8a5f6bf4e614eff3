"""SkipInit: one learned number at the end of a residual branch, which starts at zero.

De, Smith: Batch Normalization Biases Residual Blocks Towards the Identity, arXiv:2002.10444, 2020.
"""

import jax.numpy as jnp

from jaxnorm.functional.pointwise._parts import widened
from jaxnorm.numerics import as_array, require_inexact
from jaxnorm.typing import Array, ArrayLike, DTypeLike


def skip_init(x: ArrayLike, alpha: ArrayLike, *, dtype: DTypeLike | None = None) -> Array:
    """Returns the branch of a residual block times one learned number.

    `y = alpha * x`, to be added to the block's input (De, Smith, arXiv:2002.10444, 2020, section
    4). `re_zero` takes the sum as well.

    Args:
        x: [*shape], the branch, floating or complex.
        alpha: []; it starts at 0.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*shape], of `dtype`.

    Raises:
        TypeError: `x` is not floating or complex.

    Examples:
        >>> skip_init(jnp.array([1.0, 2.0]), 0.5)
        Array([0.5, 1. ], dtype=float32)
    """
    x = as_array(x)
    require_inexact(x)
    wide = widened(x)
    return (jnp.asarray(alpha, wide.dtype) * wide).astype(dtype or x.dtype)
