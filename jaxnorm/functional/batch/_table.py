"""Tables of statistics, a row for each kind of example, and the batch axis that they need."""

import operator
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm import _explicit
from jaxnorm.functional._parameters import kept_shape, placed
from jaxnorm.typing import Array, ArrayLike, Shape


def rows(table: Any, index: Any, x: Array, features: tuple[int, ...], name: str, count: int) -> Any:
    """Returns rows of arrays [count, *features], as they stand against `x`.

    Args:
        table: arrays of [count, *features] in any structure; None for none.
        index: which row each example takes, [N] or [] for all examples alike.
        x: [N, *spatial, *features] (or features elsewhere).
        features: the feature axes, canonical and not the first.
        name: the argument's name, for the error.
        count: the number of rows.

    Returns:
        [N or 1, 1, ..., *features] each, of the rank of `x`, on its mesh where that is explicit.

    Raises:
        ValueError: the number of rows or of features differs.

    Examples:
        >>> rows(jnp.arange(4.0).reshape(2, 2), 1, jnp.ones((8, 3, 2)), (2,), "scale", 2)
        Array([[[2., 3.]]], dtype=float32)
    """
    size = (count, *(x.shape[axis] for axis in features))
    index = jnp.asarray(index)

    def taken(part: ArrayLike) -> Array:
        part = jnp.asarray(part)
        if part.shape != size:
            raise ValueError(
                f"{name} {list(part.shape)} must have a row of features for each of the {count}, "
                f"against x {list(x.shape)}; give it shape {list(size)}"
            )
        # The transpose of the choice adds what lies on a mesh to the table.
        part = _explicit.brought_to(x, part)
        if any(_explicit.explicit_axes(index)):
            part = _explicit.replicated(part, range(part.ndim))
        spec = (*_explicit.explicit_axes(index), *_explicit.explicit_axes(part)[1:])
        chosen = _explicit.left_to_xla(operator.getitem, spec, part, index)
        return chosen.reshape((index.size, *kept_shape(x.shape, features)[1:]))

    return jax.tree.map(taken, table)


def placed_rows(
    scale: ArrayLike | None,
    bias: ArrayLike | None,
    chosen: tuple[Any, int] | None,
    x: Array,
    features: tuple[int, ...],
) -> dict[str, Any]:
    """Returns a scale and a bias that have a row for each kind of example, or one for all.

    Args:
        scale: [count, *features], or, if shared, as `place` takes it; None stays None.
        bias: like `scale`.
        chosen: the index of `rows` and the number of rows; None if all examples share one.
        x: what is normalized.
        features: the feature axes, canonical and not the first.

    Returns:
        The arguments `scale` and `bias` of an operation.

    Raises:
        ValueError: a shape does not fit.

    Examples:
        >>> table, index = jnp.array([[2.0], [5.0]]), jnp.array([1])
        >>> placed_rows(table, None, (index, 2), jnp.ones((1, 1)), (1,))
        {'scale': Array([[5.]], dtype=float32), 'bias': None}
    """
    if chosen is None:
        return placed(scale, bias, x.shape, features)
    index, count = chosen
    names = {"scale": scale, "bias": bias}
    return {name: rows(part, index, x, features, name, count) for name, part in names.items()}


def require_batch_axis(features: tuple[int, ...], shape: Shape, name: str = "axis") -> None:
    """Raises where the first axis, which is the batch, is a feature axis.

    Args:
        features: the feature axes, canonical.
        shape: the shape of `x`.
        name: the argument's name, for the error.

    Returns:
        Nothing.

    Raises:
        ValueError: it is.

    Examples:
        >>> require_batch_axis((1,), (8, 3))
    """
    if 0 in features:
        given = 0 if len(features) == 1 else features
        raise ValueError(
            f"{name}={given} of x {list(shape)} names axis 0, which is the batch; move the "
            "features to another axis"
        )
