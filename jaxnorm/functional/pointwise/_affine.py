"""What the pointwise functions share: their arithmetic in float32 or wider, scale and bias."""

from jaxnorm.functional._parameters import place
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


def scaled_and_shifted(
    y: Array, scale: ArrayLike | None, bias: ArrayLike | None, features: tuple[int, ...]
) -> Array:
    """Returns `y * scale + bias`.

    Args:
        y: [*shape], float32 or wider.
        scale: [*features], or of the rank of `y` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        features: the axes that scale and bias belong to, canonical.

    Returns:
        [*shape].

    Raises:
        ValueError: a shape does not fit.

    Examples:
        >>> import jax.numpy as jnp
        >>> scaled_and_shifted(jnp.ones((1, 2)), jnp.array([3.0, 4.0]), None, (1,))
        Array([[3., 4.]], dtype=float32)
    """
    factor = place(scale, y.shape, features, "scale")
    shift = place(bias, y.shape, features, "bias")
    y = y if factor is None else y * factor
    return y if shift is None else y + shift
