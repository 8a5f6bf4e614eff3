"""The arithmetic that the pointwise functions share: in float32 or wider."""

from jaxnorm.numerics import accumulation_dtype, as_array, require_inexact
from jaxnorm.typing import Array, ArrayLike


def widened(x: ArrayLike, *, ordered_for: str | None = None) -> Array:
    """Returns `x` in float32 or wider.

    Args:
        x: [*shape], floating or complex.
        ordered_for: the function that needs real numbers, for the error; None where none does.

    Returns:
        [*shape].

    Raises:
        TypeError: `x` is not floating or complex, or is complex where real numbers are needed.

    Examples:
        >>> import jax.numpy as jnp
        >>> widened(jnp.ones(2, jnp.bfloat16)).dtype
        dtype('float32')
    """
    x = as_array(x)
    require_inexact(x)
    if ordered_for is not None and x.dtype.kind == "c":
        raise TypeError(
            f"{ordered_for} needs a real x, got {x.dtype} {list(x.shape)}; pass its real and "
            "imaginary part one by one"
        )
    return x.astype(accumulation_dtype(x.dtype))
