"""SkipInit: a learned factor at the end of each residual branch, which starts at zero.

De, Smith: Batch Normalization Biases Residual Blocks Towards the Identity Function in Deep
Networks, arXiv:2002.10444, 2020.
"""

import jax.numpy as jnp

from jaxnorm.functional.pointwise._widened import widened
from jaxnorm.numerics import as_array
from jaxnorm.typing import Array, ArrayLike, DTypeLike


def skip_init(
    x: ArrayLike, alpha: ArrayLike | None = None, *, dtype: DTypeLike | None = None
) -> Array:
    """Returns the output of a residual branch times one learned factor.

    `y = alpha * x`, to be added to what the branch was computed of; in float32 or wider and rounded
    once (De, Smith, arXiv:2002.10444, 2020). With an alpha that starts at zero a
    residual network without norms starts as the identity and trains at large depth.

    Args:
        x: [*shape], the output of the branch, floating or complex.
        alpha: [], or broadcastable to `x`; None for one. The authors start it at zero, or at a
            value of at most the inverse root of the number of residual blocks.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*shape], of `dtype`.

    Raises:
        TypeError: `x` is not floating or complex.

    Examples:
        >>> skip_init(jnp.array([10.0, 20.0]), 0.5)
        Array([ 5., 10.], dtype=float32)
    """
    x = as_array(x)
    wide = widened(x)
    y = wide if alpha is None else jnp.asarray(alpha, wide.dtype) * wide
    return y.astype(dtype or x.dtype)
