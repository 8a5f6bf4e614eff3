"""A statistic once for each member of its group, kept out of the loop over the whole array.

XLA on CPU pulls a repetition, which is a broadcast and a reshape, into the loop over the array that
it meets. There it costs an integer division per entry and all vector instructions. A reduction it
leaves outside, and a product, unlike a sum, it does not take for the seed of a library call. On CPU
the repetition is therefore a product with ones. That product is linear, which JAX cannot know of
products in general: hence a primitive.
"""

import functools

import jax.numpy as jnp
from jax import jit, lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxnorm.typing import AnyArray, Array

repeat_p = Primitive("jaxnorm_repeat")


def repeat(statistic: AnyArray, axis: int, members: int) -> Array:
    """Returns each entry of `statistic` `members` times in a row along `axis`.

    Args:
        statistic: [*stats_shape].
        axis: the axis that grows, not negative.
        members: how often each entry is repeated.

    Returns:
        The same with `members` times the size along `axis`; linear, of any derivative.

    Examples:
        >>> repeat(jnp.array([1.0, jnp.nan]), 0, 2)
        Array([ 1.,  1., nan, nan], dtype=float32)
    """
    return repeat_p.bind(statistic, axis=axis, members=members)


def hold(statistic: AnyArray) -> Array:
    """Returns `statistic`, on CPU as an array of its own wherever it is used.

    Args:
        statistic: [*stats_shape], what was computed of few numbers for a loop over many.

    Returns:
        The same; linear, of any derivative.

    Examples:
        >>> hold(jnp.array([1.0, jnp.nan]))
        Array([ 1., nan], dtype=float32)
    """
    return repeat_p.bind(statistic, axis=0, members=1)


def _plain(statistic, *, axis: int, members: int):
    before, n, after = statistic.shape[:axis], statistic.shape[axis], statistic.shape[axis + 1 :]
    wide = jnp.broadcast_to(jnp.expand_dims(statistic, axis + 1), (*before, n, members, *after))
    return wide.reshape(*before, n * members, *after)


def _outside(statistic, *, axis: int, members: int):
    wide = jnp.expand_dims(_plain(statistic, axis=axis, members=members), -1)
    if not jnp.issubdtype(wide.dtype, jnp.inexact):
        return wide.squeeze(-1)
    first = lax.broadcasted_iota(jnp.int32, (1,) * (wide.ndim - 1) + (2,), wide.ndim - 1) == 0
    return jnp.prod(jnp.where(first, wide, jnp.ones((), wide.dtype)), axis=-1)


def _shape(statistic, *, axis: int, members: int):
    n = statistic.shape[axis]
    shape = (*statistic.shape[:axis], n * members, *statistic.shape[axis + 1 :])
    return statistic.update(shape=shape, weak_type=False)


def _transpose(cotangent, statistic, *, axis: int, members: int):
    n = cotangent.shape[axis] // members
    split = (*cotangent.shape[:axis], n, members, *cotangent.shape[axis + 1 :])
    return [jnp.sum(cotangent.reshape(split), axis=axis + 1)]


def _batch(operands, dims, *, axis: int, members: int):
    statistic = jnp.moveaxis(operands[0], dims[0], 0)
    return repeat_p.bind(statistic, axis=axis + 1, members=members), 0


@functools.cache
def _compiled(axis: int, members: int):
    return jit(functools.partial(repeat_p.bind, axis=axis, members=members))


repeat_p.def_impl(lambda statistic, **params: _compiled(**params)(statistic))
repeat_p.def_abstract_eval(_shape)
ad.deflinear2(repeat_p, _transpose)
batching.primitive_batchers[repeat_p] = _batch
mlir.register_lowering(repeat_p, mlir.lower_fun(_plain, multiple_results=False))
mlir.register_lowering(repeat_p, mlir.lower_fun(_outside, multiple_results=False), platform="cpu")
