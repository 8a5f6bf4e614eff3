"""A statistic once for each member of its group."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.stats.sums import ONE_CHAIN, hold, repeat, sum_alone, sum_of_either
from tests.stats.programs import OPTIMIZED

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64", "int32", "bool"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_entry_is_repeated_bit_by_bit(axis, dtype):
    values = jnp.asarray(RNG.normal(0, 1, (2, 3, 4)), dtype)
    got = jax.jit(lambda v: repeat(v, axis, 5))(values)
    assert got.dtype == values.dtype
    np.testing.assert_array_equal(got, np.repeat(np.asarray(values), 5, axis))


def test_what_is_not_finite_stays_in_its_group():
    values = jnp.array([jnp.nan, 1.0, jnp.inf, -0.0, -jnp.inf])
    got = np.asarray(repeat(values, 0, 2))
    np.testing.assert_array_equal(got, np.repeat(np.asarray(values), 2))
    assert np.signbit(got[6])


def test_it_is_linear_and_its_transpose_sums_each_group():
    values, cotangent = jnp.arange(6.0).reshape(2, 3), jnp.asarray(RNG.normal(0, 1, (2, 12)))
    out, moved = jax.jvp(lambda v: repeat(v, 1, 4), (values,), (-values,))
    np.testing.assert_array_equal(moved, -out)
    (pulled,) = jax.linear_transpose(lambda v: repeat(v, 1, 4), values)(cotangent)
    np.testing.assert_allclose(pulled, cotangent.reshape(2, 3, 4).sum(2), rtol=1e-6)
    twice = jax.grad(lambda v: jnp.sum(jax.grad(lambda u: jnp.sum(repeat(u, 1, 4) ** 3))(v)))
    np.testing.assert_allclose(twice(values), 24 * values, rtol=1e-6)


@pytest.mark.parametrize("mapped", [0, 1, 2])
def test_vmap_is_a_loop(mapped):
    values = jnp.asarray(RNG.normal(0, 1, (2, 3, 4)), jnp.float32)
    got = jax.vmap(lambda v: repeat(v, 1, 2), mapped)(values)
    rows = [np.repeat(jnp.take(values, i, mapped), 2, 1) for i in range(values.shape[mapped])]
    np.testing.assert_array_equal(got, np.stack(rows))


def test_it_is_exported_for_every_platform_with_a_symbolic_shape():
    (n,) = jax.export.symbolic_shape("n")
    function = jax.jit(lambda v: repeat(v, 1, 2))
    shape = jax.ShapeDtypeStruct((n, 3), jnp.float32)
    exported = jax.export.export(function, platforms=("cpu", "cuda", "tpu"))(shape)
    values = jnp.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(exported.call(values), np.repeat(values, 2, 1))


def test_on_cpu_the_repetition_stays_out_of_the_loop_over_the_array():
    def normalized(x, statistic):
        return x * repeat(statistic, 2, 8)

    arrays = jnp.ones((4, 64, 256)), jnp.ones((4, 1, 32))
    program = jax.jit(normalized).lower(*arrays).compile(OPTIMIZED).as_text()
    entry = program[program.index("ENTRY") :]
    assert entry.count("fusion(") == 2, entry


def entry(function, *arrays):
    """Returns the top level of the compiled program, and the bytes of its temporary arrays."""
    program = jax.jit(function).lower(*arrays).compile(OPTIMIZED)
    text = program.as_text()
    return text[text.index("ENTRY") :], program.memory_analysis().temp_size_in_bytes


def test_on_cpu_what_is_held_is_an_array_of_its_own():
    x, statistic = jnp.ones((64, 256)), jnp.ones((1, 256))
    held, _ = entry(lambda x, s: x * hold(jnp.sqrt(s)), x, statistic)
    free, _ = entry(lambda x, s: x * jnp.sqrt(s), x, statistic)
    assert held.count("fusion(") > free.count("fusion(")


def wide(x):
    return x.astype(jnp.float32)


def squared(x):
    return jnp.square(wide(x))


# Before jax 0.10.1 XLA writes the widened array all the same.
writes_no_array = pytest.mark.skipif(ONE_CHAIN, reason="the programs of jax 0.10.1 and newer")


@writes_no_array
def test_on_cpu_sums_that_stand_alone_write_no_array():
    x = jnp.ones((1024, 512), jnp.bfloat16)
    together = lambda x: (jnp.sum(wide(x), 1), jnp.sum(squared(x), 1))  # noqa: E731 - the rival
    assert entry(together, x)[1] >= 2 * x.nbytes
    alone = lambda x: [sum_alone(f, (1024, 1), x) for f in (wide, squared)]  # noqa: E731
    assert entry(alone, x)[1] < x.nbytes / 16


@writes_no_array
@pytest.mark.parametrize("near", [True, False])
def test_the_sums_of_either_are_those_of_the_chosen_function_alone(near):
    x = jnp.asarray(RNG.normal(0, 1, (1024, 512)), jnp.bfloat16)
    either = lambda x: sum_of_either(jnp.max(x) > (0 if near else 9), wide, squared, (1, 512), x)  # noqa: E731
    assert entry(either, x)[1] < x.nbytes / 16
    want = np.asarray(wide(x), np.float64)
    want = (want if near else want**2).sum(0, keepdims=True)
    np.testing.assert_allclose(jax.jit(either)(x), want, rtol=1e-5, atol=1e-3)
