"""The order of the data: one to one, and as even as random permutations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.training import _order

batch_rows = jax.jit(_order.batch_rows, static_argnames=("size", "batch_size", "steps"))


@functools.partial(jax.jit, static_argnums=(1, 2))
def orders_of(key: jax.Array, size: int, count: int) -> jax.Array:
    """Returns many orders of a small data set, [count, size]."""
    keys = jax.random.split(key, count)
    orders = jax.vmap(lambda key: _order.random_order(key, size))(keys)
    return _order.shuffled(orders, jnp.arange(count)[:, None], jnp.arange(size), size)


@pytest.mark.parametrize("size", [1, 2, 3, 17, 1797])
@pytest.mark.sampled(2)
def test_places_and_rows_are_one_to_one(size):
    for rows in orders_of(jax.random.key(0), size, 2):
        np.testing.assert_array_equal(np.sort(rows), np.arange(size))


def chi_square(counts: np.ndarray) -> float:
    """Returns the statistic of equal frequencies in standard deviations from its mean."""
    expected = counts.sum() / counts.size
    freedom = counts.size - 1
    return (np.sum((counts - expected) ** 2) / expected - freedom) / np.sqrt(2 * freedom)


def test_every_row_is_as_often_at_every_place():
    size = 30
    orders = np.asarray(orders_of(jax.random.key(1), size, 20_000))
    counts = np.stack([np.bincount(column, minlength=size) for column in orders.T])
    assert abs(chi_square(counts)) < 5


def test_every_pair_of_rows_is_as_often_side_by_side():
    size = 30
    orders = np.asarray(orders_of(jax.random.key(1), size, 20_000))
    for place in (0, 13, 28):
        pairs = orders[:, place] * size + orders[:, place + 1]
        counts = np.bincount(pairs, minlength=size**2).reshape(size, size)
        assert abs(chi_square(counts[~np.eye(size, dtype=bool)])) < 5


def test_batches_of_sorted_data_hold_as_many_of_each_class_as_random_ones():
    rows = np.asarray(batch_rows(jax.random.key(2), 0, size=10_000, batch_size=50, steps=200))
    counts = np.stack([np.bincount(batch // 1000, minlength=10) for batch in rows])
    # Drawn without replacement, the count of a class has this variance in a batch (hypergeometric).
    variance = 50 * 0.1 * 0.9 * (10_000 - 50) / (10_000 - 1)
    # A variance estimated from n values is within 5 sqrt(2 / n) of the true one, five sigma.
    np.testing.assert_allclose(counts.var(), variance, rtol=5 * np.sqrt(2 / counts.size))


@pytest.mark.parametrize("first", [0, 2, 11])
def test_no_row_comes_twice_within_an_epoch_wherever_a_call_starts(first):
    all_rows = np.asarray(batch_rows(jax.random.key(1), 0, size=50, batch_size=8, steps=24))
    for epoch in np.split(all_rows, 4):
        assert len(np.unique(epoch)) == 48
    window = batch_rows(jax.random.key(1), first, size=50, batch_size=8, steps=13)
    np.testing.assert_array_equal(window, all_rows[first : first + 13])


def test_order_differs_between_epochs_and_between_seeds():
    first, second = np.split(batch_rows(jax.random.key(1), 0, size=64, batch_size=8, steps=16), 2)
    other = batch_rows(jax.random.key(2), 0, size=64, batch_size=8, steps=8)
    assert (first != second).any()
    assert (first != other).any()
