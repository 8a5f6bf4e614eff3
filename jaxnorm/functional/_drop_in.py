"""What the drop-in modules for Flax decide before they call a normalizer.

Pure, and in one place, so that `jaxnorm.linen` and `jaxnorm.nnx` cannot drift apart.
"""

import contextlib
import warnings
from collections.abc import Iterator
from typing import TypeVar

import jax
import jax.numpy as jnp

from jaxnorm.functional._batch import has_single_value
from jaxnorm.numerics import accumulation_dtype
from jaxnorm.stats import Variance
from jaxnorm.typing import Array, ArrayLike, AxisIndexGroups, AxisName, DTypeLike, Shape

Tree = TypeVar("Tree")


def variance_of(use_fast_variance: bool) -> Variance:
    """Returns which variance Flax's `use_fast_variance` stands for.

    Flax's fast variance is `E[x^2] - E[x]^2` about zero, without a correct digit where mean / std
    exceeds about 1e3 in float32. Here both choices are about a member of the sample.

    Args:
        use_fast_variance: Flax's argument.

    Returns:
        "one_pass" if true, else "two_pass".

    Examples:
        >>> variance_of(True), variance_of(False)
        ('one_pass', 'two_pass')
    """
    return "one_pass" if use_fast_variance else "two_pass"


def sample_of(mask: ArrayLike | None) -> tuple[Array | None, Array | None]:
    """Returns what Flax's `mask` says about the sample, as `mask` and `weights` of a normalizer.

    Args:
        mask: None, or broadcastable to the input: boolean, integer (an entry that is not zero is
            valid) or floating (the weight of an entry).

    Returns:
        A boolean mask or None, and weights or None, of the shape of `mask`.

    Examples:
        >>> sample_of(jnp.array([2, 0])), sample_of(jnp.array([0.5, 0.0]))
        ((Array([ True, False], dtype=bool), None), (None, Array([0.5, 0. ], dtype=float32)))
    """
    if mask is None:
        return None, None
    mask = jnp.asarray(mask)
    if jnp.issubdtype(mask.dtype, jnp.inexact):
        return None, mask
    return mask.astype(jnp.bool_), None


def result_dtype(*arrays: ArrayLike | None, dtype: DTypeLike | None = None) -> jnp.dtype:
    """Returns the dtype of a module's output: what the user asked for, or Flax's promotion.

    Args:
        *arrays: input and parameters; None where there is no such parameter.
        dtype: what the user asked for, or None.

    Returns:
        `dtype`, or the dtype that all arrays promote to, at least a float32 for integers: a
        bfloat16 input with float32 parameters gives float32.

    Raises:
        TypeError: `dtype` is neither floating nor complex.

    Examples:
        >>> result_dtype(jnp.ones(2, jnp.bfloat16), jnp.ones(2, jnp.float32))
        dtype('float32')
    """
    if dtype is None:
        promoted = jnp.result_type(*(array for array in arrays if array is not None))
        inexact = jnp.issubdtype(promoted, jnp.inexact)
        return jnp.dtype(promoted if inexact else jnp.promote_types(promoted, jnp.float32))
    if not jnp.issubdtype(dtype, jnp.inexact):
        raise TypeError(
            f"dtype={jnp.dtype(dtype)} must be floating or complex, for example jnp.float32"
        )
    return jnp.dtype(dtype)


def normalizable(x: ArrayLike, dtype: DTypeLike | None = None) -> Array:
    """Returns `x` in a dtype that its statistics can be taken in, never a narrower one.

    Args:
        x: [*shape], of any real or complex dtype.
        dtype: the output's dtype that the user asked for, or None.

    Returns:
        [*shape]: `x` itself if it is floating or complex, float32 or wider if it holds integers,
        and of the precision of `dtype` where that exceeds the precision of sums over `x`.

    Examples:
        >>> normalizable(jnp.ones(2, jnp.bfloat16), jnp.float32).dtype
        dtype(bfloat16)
        >>> normalizable(jnp.ones(2, jnp.float32), jnp.complex64).dtype
        dtype('complex64')
    """
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.inexact):
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    sums = accumulation_dtype(x.dtype)
    if dtype is not None and jnp.promote_types(sums, dtype) != sums:
        x = x.astype(jnp.promote_types(x.dtype, dtype))
    return x


def mean_dtype(x_dtype: DTypeLike | None, stats_dtype: DTypeLike) -> jnp.dtype:
    """Returns the dtype in which the running mean of `x` is kept.

    Args:
        x_dtype: the dtype of the array that is normalized, None where it is not known.
        stats_dtype: the dtype of the running variance, real.

    Returns:
        `stats_dtype`, or the complex dtype of its precision where `x` is complex.

    Examples:
        >>> mean_dtype(jnp.complex64, jnp.float32), mean_dtype(jnp.float64, jnp.float32)
        (dtype('complex64'), dtype('float32'))
    """
    if x_dtype is not None and jnp.issubdtype(x_dtype, jnp.complexfloating):
        return jnp.promote_types(stats_dtype, jnp.complex64)
    return jnp.dtype(stats_dtype)


def warn_of_single_values(
    shape: Shape,
    features: tuple[int, ...],
    axis_name: AxisName | None,
    axis_index_groups: AxisIndexGroups,
) -> None:
    """Warns where a batch holds one value per feature, so that its variance is zero.

    Flax then gives the bias whatever the input is and pulls the running variance to zero. Its own
    tests train on such batches, so that the drop-in modules do not raise, but use the running
    statistics and leave them alone.

    Args:
        shape: of `x`.
        features: the feature axes.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: groups of shards.

    Returns:
        Nothing.

    Examples:
        >>> warn_of_single_values((2, 3), (1,), None, None)
    """
    stats_shape = tuple(n if axis in features else 1 for axis, n in enumerate(shape))
    if has_single_value(shape, stats_shape, axis_name, axis_index_groups):
        warnings.warn(
            f"batch norm in training mode got one value per feature, x {list(shape)}; it uses the "
            "running statistics and leaves them as they are; use a larger batch",
            stacklevel=3,
        )


def constant(tree: Tree) -> Tree:
    """Returns `tree` as a constant for derivatives.

    Args:
        tree: arrays in any structure.

    Returns:
        The same values.

    Examples:
        >>> jax.grad(lambda x: x * constant(x))(3.0)
        Array(3., dtype=float32, weak_type=True)
    """
    return jax.lax.stop_gradient(tree)


@contextlib.contextmanager
def errors_naming(layer: str) -> Iterator[None]:
    """Puts the layer's name before the message of every error about values, shapes and dtypes.

    Args:
        layer: the name.

    Yields:
        Nothing.

    Raises:
        ValueError: what was raised inside, with the name.
        TypeError: likewise.

    Examples:
        >>> with errors_naming("encoder/norm"):
        ...     raise ValueError("no samples")
        Traceback (most recent call last):
        ValueError: encoder/norm: no samples
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        # JAX's own subclasses, such as those for leaked tracers, take other arguments.
        if type(error) not in (ValueError, TypeError):
            raise
        raise type(error)(f"{layer}: {error}") from error
