"""The native kernels against float64, for every layout, dtype and offset."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.ops.kernels import _native
from tests.ops.kernels.cases import (
    CASES,
    FEW,
    Case,
    arrays,
    computed,
    expected,
    native_serves,
    needs_native,
    standardized,
)
from tests.stats.programs import OPTIMIZED
from tests.stats.reference import relative_error

pytestmark = needs_native

EPSILON = 1e-5
# The law of the core: output, gradient and variance in float32, relative to the largest entry.
LAW = 4e-6
DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]


def assert_close(got, want, bounds):
    # Terms of size one are summed: a sum that comes near zero is not measured by itself.
    for have, value, bound in zip(got, want, bounds, strict=True):
        assert relative_error(have, value, at_least=1.0) < bound


def one_rounding(dtype):
    """Returns the bound of a result that is computed in float32 and then rounded to `dtype`."""
    return LAW if dtype == jnp.float32 else LAW + float(jnp.finfo(dtype).eps) / 2


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_layout_has_the_native_path(case):
    x, scale, bias, _ = arrays(case)
    assert native_serves(x, case.stats_shape, scale, bias, epsilon=EPSILON)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.sampled(6)
def test_output_moments_and_gradients_are_those_of_float64(case):
    inputs = arrays(case, mean=2.0)
    got, gradients = computed(case, *inputs, epsilon=EPSILON)
    want, wanted = expected(case, *inputs, epsilon=EPSILON)
    assert_close(got, want, [LAW] * 3)
    assert_close(gradients, wanted, [LAW] * len(wanted))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.sampled(6)
def test_what_is_past_the_cache_is_normalized_outside_the_kernel(case, monkeypatch):
    monkeypatch.setattr(_native, "IN_CACHE", 0)
    for dtype, mean in ((jnp.float32, 1e4), (jnp.bfloat16, 2.0)):
        inputs = arrays(case, dtype, mean=mean)

        def run(*inputs):
            return computed(case, *inputs, epsilon=EPSILON)

        (y, *moments), gradients = jax.jit(run)(*inputs)
        (want, *wanted_moments), wanted = expected(case, *inputs, epsilon=EPSILON)
        assert y.dtype == dtype
        assert_close([y, *moments], [want, *wanted_moments], [one_rounding(dtype), LAW, LAW])
        bounds = [one_rounding(dtype), LAW, LAW][: len(wanted)]
        assert_close(gradients, wanted, bounds)


def test_a_relu_is_fused_with_what_the_kernel_leaves():
    x = jnp.ones((64, 64, 64))

    def run(x):
        return jax.nn.relu(standardized(x, (1, 1, 64), epsilon=EPSILON)[0])

    entry = jax.jit(run).lower(x).compile(OPTIMIZED).as_text().split("ENTRY")[1]
    assert entry.count("fusion(") == 1, entry


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.sampled(8)
def test_without_centering_the_variance_is_the_mean_square(case):
    inputs = arrays(case)
    got, gradients = computed(case, *inputs, epsilon=EPSILON, center=False)
    want, wanted = expected(case, *inputs, epsilon=EPSILON, center=False)
    assert_close(got, want, [LAW] * 3)
    assert_close(gradients, wanted, [LAW] * len(wanted))


@pytest.mark.parametrize("mean", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("case", FEW)
def test_a_large_mean_costs_no_digits(case, mean):
    inputs = arrays(case, mean=mean)
    got, gradients = computed(case, *inputs, epsilon=EPSILON)
    want, wanted = expected(case, *inputs, epsilon=EPSILON)
    assert_close(got, want, [LAW] * 3)
    assert_close(gradients, wanted, [LAW] * len(wanted))


@pytest.mark.parametrize("name", ["layer, long rows", "batch, several tasks", "group"])
def test_one_extreme_outlier_costs_no_digits_of_the_variance(name):
    case = CASES[name]
    x, scale, bias, cotangents = arrays(case)
    x = x.at[(0,) * x.ndim].set(1e4)
    (_, _, var), _ = computed(case, x, scale, bias, cotangents, epsilon=EPSILON)
    want = expected(case, x, scale, bias, cotangents, epsilon=EPSILON)[0][2]
    np.testing.assert_allclose(var, want, rtol=LAW)


@pytest.mark.parametrize("value", [0.0, 3.7, -1e6, 1e30])
@pytest.mark.parametrize("case", FEW)
def test_a_constant_input_gives_exactly_the_bias(case, value):
    _, scale, bias, _ = arrays(case)
    x = jnp.full(case.shape, value, jnp.float32)
    y, mean, var = standardized(x, case.stats_shape, scale, bias, epsilon=EPSILON)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, case.shape))
    np.testing.assert_array_equal(mean, np.full(case.stats_shape, value, np.float32))
    np.testing.assert_array_equal(var, np.zeros(case.stats_shape, np.float32))


@pytest.mark.parametrize("out", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["layer, panels and a tail", "batch of 3 channels", "group"])
@pytest.mark.sampled(8)
def test_storage_is_rounded_once(name, dtype, out):
    case = CASES[name]
    x, scale, bias, cotangents = arrays(case, dtype, mean=0.5)
    if not native_serves(x, case.stats_shape, scale, bias, epsilon=EPSILON, dtype=out):
        assert {dtype, out} == {jnp.bfloat16, jnp.float16}
        return
    inputs = (x, scale, bias, (cotangents[0].astype(out), *cotangents[1:]))
    got, gradients = computed(case, *inputs, epsilon=EPSILON, dtype=out)
    want, wanted = expected(case, *inputs, epsilon=EPSILON)
    assert got[0].dtype == out
    assert gradients[0].dtype == dtype
    assert_close(got, want, [one_rounding(out), LAW, LAW])
    assert_close(gradients, wanted, [one_rounding(dtype), LAW, LAW])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_every_value_of_a_narrow_float_survives_both_conversions(dtype):
    x = np.arange(1 << 16).astype(np.uint16).view(dtype).reshape(-1, 1)
    with np.errstate(invalid="ignore"):
        x = x[np.isfinite(x)].reshape(-1, 1)
    pairs = jnp.asarray(np.repeat(x, 2, axis=1))
    _, mean, _ = standardized(pairs, (len(x), 1), epsilon=1.0)
    normal = np.abs(x.astype(np.float64)) >= np.finfo(np.float32).tiny
    np.testing.assert_array_equal(np.asarray(mean)[normal], x.astype(np.float32)[normal])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_rounding_to_a_narrow_float_is_to_nearest_even(dtype):
    rng = np.random.default_rng(0)
    bias = rng.normal(0, 1, (1, 4096)).astype(np.float32)
    bias[0, :6] = [65519.0, 65520.0, 1e6, -1e6, 6e-8, 3e-8]
    ties = jnp.asarray(rng.normal(0, 1, 2048), dtype).astype(np.float32)
    bias[0, 2048:] = ties * (1 + float(jnp.finfo(dtype).eps) / 2)
    y, _, _ = standardized(
        jnp.ones((2, 4096), dtype), (2, 1), None, jnp.asarray(bias), epsilon=1.0, dtype=dtype
    )
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(y[0], bias[0].astype(dtype))


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("stats_shape", [(6, 1, 1), (6, 1, 40)], ids=["rows", "columns"])
def test_nan_and_infinity_show_in_their_own_statistic_only(stats_shape, center):
    x = np.random.default_rng(0).normal(0, 1, (6, 3, 40)).astype(np.float32)
    x[1, 2], x[4, 1] = np.nan, np.inf
    y, mean, var = standardized(jnp.asarray(x), stats_shape, epsilon=1.0, center=center)
    assert np.isnan(y[1]).all() and np.isnan(var[1]).all() and not np.isfinite(var[4]).any()
    assert np.isnan(y[4]).any()
    others = [np.delete(v, [1, 4], axis=0) for v in (y, mean, var)]
    assert all(np.isfinite(v).all() for v in others)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_nan_is_stored_as_nan(dtype):
    x = jnp.full((2, 33), jnp.nan, dtype)
    assert jnp.isnan(standardized(x, (2, 1), epsilon=EPSILON)[0]).all()


def test_large_outputs_are_right_past_the_caches():
    # At 16 MiB the kernels begin to write around the caches.
    case = Case((1 << 14, 256), (1 << 14, 1), (1, 256))
    inputs = arrays(case)
    got, gradients = computed(case, *inputs, epsilon=EPSILON)
    want, wanted = expected(case, *inputs, epsilon=EPSILON)
    assert_close((got[0], gradients[0]), (want[0], wanted[0]), [LAW, LAW])
