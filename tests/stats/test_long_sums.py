"""Sums over long columns, which XLA on CPU may add up in one chain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.stats import sums
from tests.stats.reference import relative_error

# A chain of 2^16 to 2^18 terms is off by some 4e-6, as XLA of jax 0.8.1 shows; stages are not.
BOUND = 1e-6
CASES = {
    "one axis": ((1 << 16, 16), (1, 16)),
    "an axis of odd length": ((45_927, 3), (1, 3)),
    "three axes": ((64, 64, 64, 8), (1, 1, 1, 8)),
    "per sample": ((2, 128, 128, 16), (2, 1, 1, 16)),
    "per group": ((2, 1 << 15, 6), (2, 1, 3)),
    "axes apart": ((1 << 8, 2, 1 << 8, 3), (1, 2, 1, 3)),
}


@pytest.mark.parametrize(("shape", "stats_shape"), CASES.values(), ids=CASES)
def test_a_long_sum_has_the_digits_of_float64(shape, stats_shape):
    values = np.random.default_rng(0).standard_normal(shape, np.float32)
    want = values.astype(np.float64) ** 2
    for axis, (n, s) in enumerate(zip(shape, stats_shape, strict=True)):
        if s == 1:
            want = want.sum(axis, keepdims=True)
        elif s != n:
            want = want.reshape(*want.shape[:-1], s, n // s).sum(-1)
    # Products within the sum are what XLA turns into a loop of its own.
    got = jax.jit(lambda x: sums.block_sum(x * x, stats_shape))(values)
    assert got.shape == stats_shape
    assert relative_error(got, want) < BOUND


def test_the_gradient_of_a_long_sum_is_one_everywhere():
    gradient = jax.grad(lambda x: jnp.sum(sums.block_sum(x, (1, 3))))(jnp.ones((2048, 3)))
    np.testing.assert_array_equal(gradient, np.ones((2048, 3)))


@pytest.mark.parametrize("n", [1, 2, 97, 96, 1024])
def test_stages_are_as_equal_as_divisors_allow(n):
    inner = sums._divisor_near_root(n)
    between = [d for d in range(inner + 1, n) if n % d == 0 and d * d <= n]
    assert n % inner == 0 and inner * inner <= n and not between
