"""The formulas for one CPU against float64 and the general formulas, for arrays of any size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxnorm.ops.kernels import _xla_cpu
from tests.ops.kernels.cases import CASES, FEW, arrays, computed, expected, standardized
from tests.stats.reference import relative_error

EPSILON = 1e-5
LAW = 4e-6
# Means in standard deviations: sums about zero, at the edge of that, beyond it, and far away.
MEANS = [0.0, 2.5, 3.5, 1e4]
BATCH = CASES["batch, blocks and a remainder"]


@pytest.fixture(autouse=True)
def also_for_small_arrays(monkeypatch):
    monkeypatch.setattr(_xla_cpu, "SMALL", 0)


def compiled(case, **options):
    """Returns the compiled function to `(y, mean, var)` and the gradients."""
    run = functools.partial(computed, case, epsilon=EPSILON, native=False, **options)
    return jax.jit(run)


def assert_law(got, want, bound=LAW):
    for have, value in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert relative_error(have, value, at_least=1.0) < bound


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.sampled(4)
def test_output_moments_and_gradients_are_those_of_float64(case):
    run = compiled(case)
    for mean in MEANS:
        inputs = arrays(case, mean=mean)
        assert_law(run(*inputs), expected(case, *inputs, epsilon=EPSILON))


@pytest.mark.parametrize("case", FEW)
def test_without_centering_the_variance_is_the_mean_square(case):
    inputs = arrays(case, mean=1.0)
    want = expected(case, *inputs, epsilon=EPSILON, center=False)
    assert_law(compiled(case, center=False)(*inputs), want)


def test_one_statistic_far_from_zero_costs_no_digits_of_any():
    x, *rest = arrays(BATCH)
    x = x.at[..., 3].add(1e5)
    got, gradients = compiled(BATCH)(x, *rest)
    want, wanted = expected(BATCH, x, *rest, epsilon=EPSILON)
    for channel in (slice(None, 3), slice(3, 4), slice(4, None)):
        for have, value in zip((*got, *gradients), (*want, *wanted), strict=True):
            assert relative_error(have[..., channel], value[..., channel], at_least=1.0) < LAW


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("case", FEW)
@pytest.mark.sampled(2)
def test_storage_is_rounded_once(case, dtype):
    half = float(jnp.finfo(dtype).eps) / 2
    run = compiled(case)
    for mean in (0.5, 20.0):
        inputs = arrays(case, dtype, mean=mean)
        (y, mean, var), gradients = run(*inputs)
        want, wanted = expected(case, *inputs, epsilon=EPSILON)
        assert y.dtype == gradients[0].dtype == dtype
        assert_law((mean, var, *gradients[1:]), (*want[1:], *wanted[1:]))
        assert_law((y, gradients[0]), (want[0], wanted[0]), LAW + half)


@pytest.mark.parametrize("value", [0.0, 3.7, -1e6, 1e30])
def test_a_constant_input_gives_exactly_the_bias(value):
    _, scale, bias, cotangents = arrays(BATCH)
    x = jnp.full(BATCH.shape, value, jnp.float32)
    (y, mean, var), _ = compiled(BATCH)(x, scale, bias, cotangents)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, BATCH.shape))
    np.testing.assert_array_equal(mean, np.full(BATCH.stats_shape, value, np.float32))
    np.testing.assert_array_equal(var, np.zeros(BATCH.stats_shape, np.float32))


@pytest.mark.parametrize("name", ["layer, panels and a tail", "instance"])
def test_nan_and_infinity_show_in_their_own_statistic_only(name):
    case = CASES[name]
    x, *rest = arrays(case)
    x = x.at[1, 2].set(jnp.nan).at[3, 1].set(jnp.inf)
    (y, mean, var), (d_x, *_) = compiled(case)(x, *rest)
    for values in (y, mean, var, d_x):
        others = np.delete(values, [1, 3], axis=0)
        assert np.isfinite(others).all() and not np.isfinite(values[1]).all()


@pytest.mark.parametrize("case", FEW)
@pytest.mark.sampled(2)
def test_a_mapped_axis_is_one_more_kept_axis(case):
    many = [arrays(case, mean=mean, seed=i)[:3] for i, mean in enumerate((0.0, 1e3))]
    cotangents = arrays(case)[3]
    run = functools.partial(computed, case, epsilon=EPSILON, native=False)
    got = jax.jit(jax.vmap(run, (0, 0, 0, None)))(*map(jnp.stack, zip(*many)), cotangents)
    rows = [compiled(case)(*inputs, cotangents) for inputs in many]
    assert_law(got, jax.tree.map(lambda *v: jnp.stack(v), *rows))


def test_a_second_derivative_is_that_of_the_formula_for_any_platform(monkeypatch):
    x, scale, bias, cotangents = arrays(BATCH, mean=1.0)

    def loss(x, scale):
        _, gradients = computed(BATCH, x, scale, bias, cotangents, epsilon=EPSILON, native=False)
        return sum(jnp.sum(jnp.sin(v)) for v in gradients)

    got = jax.jit(jax.grad(loss, (0, 1)))(x, scale)
    monkeypatch.setattr(_xla_cpu, "SMALL", 1 << 30)
    assert_law(got, jax.jit(lambda *a: jax.grad(loss, (0, 1))(*a))(x, scale), 3e-5)


def test_it_runs_within_shard_map():
    case = BATCH._replace(shape=(8, *BATCH.shape[1:]))
    x, scale, bias, _ = arrays(case)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def loss(x, scale, bias):
        y = standardized(x, case.stats_shape, scale, bias, epsilon=EPSILON, native=False)[0]
        return jnp.sum(jnp.sin(y))

    def shard(x, scale, bias):
        return jax.lax.psum(loss(x, scale, bias), "data")

    whole = jax.shard_map(shard, mesh=mesh, in_specs=(P("data"), P(), P()), out_specs=P())
    got = jax.jit(jax.grad(whole, (0, 1, 2)))(x, scale, bias)
    each = [jax.grad(loss, (0, 1, 2))(x[i : i + 1], scale, bias) for i in range(8)]
    want = jnp.concatenate([g[0] for g in each]), *(sum(v) for v in list(zip(*each))[1:])
    assert_law(got, want, 1e-5)
