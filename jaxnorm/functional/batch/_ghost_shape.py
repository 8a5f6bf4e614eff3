"""How a batch is cut into ghost batches."""

from jaxnorm.functional._parameters import kept_shape
from jaxnorm.functional.batch._table import require_batch_axis
from jaxnorm.numerics import canonical_axes
from jaxnorm.typing import Axes, Shape


def ghost_stats_shape(shape: Shape, ghost_batch_size: int, axis: Axes = -1) -> Shape:
    """Returns the statistics shape of ghost batch normalization.

    Args:
        shape: the shape of `x`.
        ghost_batch_size: examples in a ghost batch; all where there are fewer.
        axis: the feature axes.

    Returns:
        The number of ghost batches at axis 0, the features kept, ones elsewhere.

    Raises:
        ValueError: see `ghost_batch_norm`.

    Examples:
        >>> ghost_stats_shape((8, 4, 4, 6), ghost_batch_size=2)
        (4, 1, 1, 6)
    """
    features = canonical_axes(axis, len(shape), "axis")
    require_batch_axis(features, shape)
    size = min(ghost_batch_size, shape[0])
    if ghost_batch_size < 1 or shape[0] % max(size, 1):
        raise ValueError(
            f"ghost_batch_size={ghost_batch_size} does not divide the {shape[0]} examples of x "
            f"{list(shape)}; use a divisor of {shape[0]}"
        )
    return (shape[0] // max(size, 1), *kept_shape(shape, features)[1:])
