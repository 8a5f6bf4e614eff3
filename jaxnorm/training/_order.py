"""The order in which the epochs of a run visit the data, one place at a time.

Sorting random numbers, as `jax.random.permutation` does, costs an epoch's work for every piece of
an epoch (26 ms for 60 000 rows on a CPU, as much as 40 steps of a small network). A Feistel network
gives any place of a permutation by itself: Black and Rogaway, Ciphers with Arbitrary Finite
Domains, CT-RSA 2002, section 5, with tables of random numbers as its round functions.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnorm.training._keys import order_key
from jaxnorm.typing import Array

ROUNDS = 4


class Orders(NamedTuple):
    """The round functions of the permutations of several epochs."""

    to_left: Array  # [epochs, ROUNDS, b], int32 in range(a)
    to_right: Array  # [epochs, ROUNDS, a], int32 in range(b)


def batch_rows(rng: Array, step: Array, size: int, batch_size: int, steps: int) -> Array:
    """Returns which rows the batches of consecutive steps hold.

    Args:
        rng: [], the run's key.
        step: [], int32, the number of the first of the steps.
        size: rows of the data, N.
        batch_size: rows of a batch, B.
        steps: how many steps.

    Returns:
        [steps, B], int32 in `range(N)`; within an epoch of `N // B` steps no row comes twice.

    Examples:
        >>> rows = batch_rows(jax.random.key(0), 0, size=6, batch_size=2, steps=3)
        >>> sorted(rows.ravel().tolist())
        [0, 1, 2, 3, 4, 5]
    """
    per_epoch = size // batch_size
    epoch, place = jnp.divmod(step + jnp.arange(steps), per_epoch)
    # The steps may start anywhere in their first epoch, and so touch one more than they fill.
    touched = epoch[0] + jnp.arange(math.ceil((steps - 1) / per_epoch) + 1)
    orders = jax.vmap(lambda epoch: random_order(order_key(rng, epoch), size))(touched)
    places = place[:, None] * batch_size + jnp.arange(batch_size)
    return shuffled(orders, (epoch - epoch[0])[:, None], places, size)


def random_order(key: Array, size: int) -> Orders:
    """Returns a random permutation of `range(size)`, as tables of about its square root.

    Args:
        key: [], of the order.
        size: the number of rows.

    Returns:
        The round functions of one epoch, without the leading axis.

    Examples:
        >>> random_order(jax.random.key(0), 60_000).to_left.shape
        (4, 245)
    """
    a, b = _sides(size)
    # A remainder of 32 bits is uneven by a / 2^32 at most, and a is about the root of `size`.
    bits = jax.random.bits(key, (ROUNDS, a + b), jnp.uint32)
    to_left, to_right = bits[:, :b] % a, bits[:, b:] % b
    return Orders(to_left.astype(jnp.int32), to_right.astype(jnp.int32))


def shuffled(orders: Orders, epoch: Array, places: Array, size: int) -> Array:
    """Returns the rows at some places of the orders.

    Args:
        orders: of several epochs.
        epoch: int32, broadcasts against `places`: which of the orders each place belongs to.
        places: [...], int32 in `range(size)`.
        size: the number of rows.

    Returns:
        [...], int32: all places of one epoch together give each row once.

    Examples:
        >>> orders = jax.tree.map(lambda table: table[None], random_order(jax.random.key(0), 5))
        >>> sorted(shuffled(orders, 0, jnp.arange(5), size=5).tolist())
        [0, 1, 2, 3, 4]
    """
    # The network permutes the pairs (left, right) of a x b, hardly more than `size` of them.
    a, b = _sides(size)

    def round_of(i: Array, place: tuple[Array, Array]) -> tuple[Array, Array]:
        left, right = place
        left = (left + orders.to_left[epoch, i, right]) % a
        return left, (right + orders.to_right[epoch, i, left]) % b

    def walk(state: tuple[Array, Array]) -> tuple[Array, Array]:
        row, settled = state
        left, right = lax.fori_loop(0, ROUNDS, round_of, (row // b, row % b))
        row = jnp.where(settled, row, left * b + right)
        return row, row < size

    # What falls outside is permuted until it falls inside, which keeps the map one to one.
    places = jnp.broadcast_to(places, jnp.broadcast_shapes(places.shape, jnp.shape(epoch)))
    start = (places, jnp.zeros(places.shape, bool))
    return lax.while_loop(lambda state: ~jnp.all(state[1]), walk, start)[0]


def _sides(size: int) -> tuple[int, int]:
    a = math.isqrt(size - 1) + 1
    return a, -(-size // a)
