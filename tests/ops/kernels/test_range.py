"""The native kernels at the ends of float32's range, against float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from jaxnorm.ops.kernels import _library, _native
from tests.ops.kernels.cases import Case, needs_native
from tests.ops.reference import reference_gradient, reference_standardize
from tests.stats.reference import reference_moments, sample_sum, spread, wide

pytestmark = needs_native

LAW = 4e-6
SIZES = [1e-32, 1e-30, 1e-20, 1e-18, 1e-10, 1.0, 1e10, 1e18, 1e20, 1e30]
LARGEST = 8.5e37  # a quarter of the largest float
SMALLEST = float(np.finfo(np.float32).tiny)  # what is smaller counts as zero in XLA's threads
LAYOUTS = {
    "rows": Case((6, 133), (6, 1), (1, 133)),
    "long rows": Case((2, 9001), (2, 1), (1, 9001)),
    "columns": Case((70, 40), (1, 40), (1, 40)),
    "columns in blocks": Case((9000, 48), (1, 48), (1, 48)),
    "instance": Case((6, 30, 10), (6, 1, 10), (1, 1, 10)),
    "group": Case((3, 35, 24), (3, 1, 6), (1, 1, 24)),
    "group of 1 row": Case((5, 96), (5, 4), (1, 96)),
}


@pytest.fixture(params=["avx512", "avx2", pytest.param("portable", marks=pytest.mark.nightly)])
def instructions(request):
    """Computes with an instruction set."""
    chosen = _native.instruction_set()
    if not _library.load().handle.jaxnorm_use_instruction_set(request.param.encode()):
        pytest.skip(f"this processor has no {request.param}")
    yield
    _library.load().handle.jaxnorm_use_instruction_set(chosen.encode())


@functools.cache
def compiled(case, epsilon, center):
    """Returns the compiled function to y, mean and var, and to the gradients."""

    @jax.jit
    def run(x, scale, bias, cotangent):
        def output(x, scale, bias):
            y, moments = jaxnorm.standardize(
                x,
                case.stats_shape,
                scale=scale,
                bias=bias,
                epsilon=epsilon,
                center=center,
                implementation="native",
            )
            return y, (moments.mean, moments.var)

        y, pull, moments = jax.vjp(output, x, scale, bias, has_aux=True)
        return (y, *moments), pull(cotangent)

    return run


def drawn(case, size, offset=0.0, seed=0):
    """Returns x in float64, and scale, bias of the size that y has without them, and dy."""
    rng = np.random.default_rng(seed)
    x = size * (offset + rng.normal(0, 1, case.shape))
    scale = rng.normal(1, 0.5, case.affine_shape).astype(np.float32)
    return x, scale, rng.normal(0, 1, case.shape).astype(np.float32)


def check(case, x, scale, cotangent, epsilon, center=True, *, of=compiled):
    """Compares with float64, every statistic by itself."""
    bias = np.zeros_like(scale)
    (y, mean, var), gradients = of(case, epsilon, center)(x, scale, bias, cotangent)
    assert y.dtype == gradients[0].dtype == x.dtype
    stored = LAW + (0 if x.dtype == jnp.float32 else float(jnp.finfo(x.dtype).eps) / 2)
    want_mean, want_var, _ = reference_moments(x, case.stats_shape, None, center)
    want_y = reference_standardize(x, case.stats_shape, epsilon, center=center, scale=scale)
    want_dx = reference_gradient(
        x, cotangent, case.stats_shape, epsilon, center=center, scale=scale
    )
    rstd = 1 / np.sqrt(want_var + epsilon)
    xhat = (wide(x) - spread(want_mean, x.shape)) * spread(rstd, x.shape)
    gain = max(1, np.abs(scale).max())
    std = np.sqrt(want_var)
    each = np.broadcast_to(std * rstd, case.stats_shape)  # the size of xhat
    # What is a subnormal number on the way counts as zero, and is here measured in stds.
    lost = SMALLEST / std
    assert_near(y, want_y, case, gain * each * 4 * (stored + lost))
    # The mean itself is rounded once.
    half = float(jnp.finfo(jnp.float32).eps) / 2
    assert np.all(np.abs(wide(mean) - want_mean) <= half * np.abs(want_mean) + LAW * std + SMALLEST)
    representable = (want_var > SMALLEST) & (want_var < 4 * LARGEST)
    np.testing.assert_allclose(np.asarray(var)[representable], want_var[representable], 2 * LAW)
    assert not np.isnan(var).any()
    assert_near(gradients[0], want_dx, case, gain * (rstd * 4 * (stored + lost) + 4 * SMALLEST))
    entries = x.size / scale.size
    terms = wide(cotangent) * xhat, wide(cotangent)
    sizes = spread(each, x.shape) * wide(cotangent), wide(cotangent)
    for have, term, size in zip(gradients[1:], terms, sizes, strict=True):
        want = sample_sum(term, case.affine_shape)
        size = np.sqrt(sample_sum(size**2, case.affine_shape))
        assert np.all(np.abs(have - want) <= (LAW + lost.max()) * 4 * size + SMALLEST * entries)


def assert_near(have, want, case, granted):
    assert np.all(np.abs(wide(have) - want) <= spread(granted, case.shape))


@pytest.mark.parametrize("epsilon", [0.0, 1e-5])
@pytest.mark.parametrize("case", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.sampled(4)
def test_every_size_is_right_at_every_offset(instructions, case, epsilon):
    for size in SIZES:
        for offset in (0.0, 3.0, 1e3, 1e6):
            x, scale, cotangent = drawn(case, size, offset)
            check(case, x.astype(np.float32), scale, cotangent, epsilon)
        x, scale, cotangent = drawn(case, size, 2.0)
        check(case, jnp.asarray(x, jnp.bfloat16), scale, jnp.bfloat16(cotangent), epsilon)


@pytest.mark.parametrize("case", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.sampled(6)
def test_without_centering_every_size_is_right(instructions, case):
    for size in SIZES:
        for epsilon in (0.0, 1e-5):
            x, scale, cotangent = drawn(case, size, 1.0)
            check(case, x.astype(np.float32), scale, cotangent, epsilon, center=False)


@pytest.mark.parametrize("case", LAYOUTS.values(), ids=LAYOUTS)
def test_numbers_up_to_a_quarter_of_the_largest_are_right(instructions, case):
    x, scale, cotangent = drawn(case, 1.0)
    x = (x / np.abs(x).max() * LARGEST).astype(np.float32)
    scale = np.maximum(np.abs(scale), 1)  # scale * rstd is a normal number then
    check(case, x, scale, cotangent, 1e-5)
    check(case, np.abs(x), scale, cotangent, 0.0, center=False)


@pytest.mark.parametrize("name", ["rows", "columns", "columns in blocks"])
@pytest.mark.parametrize("size", [1e20, 1e30])
def test_a_pivot_of_another_size_costs_nothing(instructions, name, size):
    case = LAYOUTS[name]
    x, scale, cotangent = drawn(case, 1.0, 3.0)
    x = np.moveaxis(x, -1, 0) if name == "rows" else x
    x[[0, len(x) // 2, -1]] /= size
    x = np.moveaxis(x, 0, -1) if name == "rows" else x
    check(case, (x * size).astype(np.float32), scale, cotangent, 0.0)
    check(case, x.astype(np.float32), scale, cotangent, 1e-5)


@pytest.mark.parametrize("name", ["columns", "columns in blocks", "instance"])
def test_statistics_of_every_size_stand_side_by_side(instructions, name):
    case = LAYOUTS[name]
    x, scale, cotangent = drawn(case, 1.0, 5.0)
    x *= 10.0 ** np.linspace(-30, 30, case.shape[-1])
    check(case, x.astype(np.float32), scale, cotangent, 0.0)


@pytest.mark.parametrize("name", ["rows", "columns", "group"])
def test_a_statistic_does_not_depend_on_those_beside_it(instructions, name):
    case = LAYOUTS[name]
    x, scale, cotangent = drawn(case, 1.0)
    x = x.astype(np.float32)
    run = compiled(case, 1e-5, True)
    (y, *_), _ = run(x, scale, scale, cotangent)
    index = (0, slice(None)) if name == "rows" else (..., slice(0, 4))
    x[index] *= np.float32(1e25)
    (other, *_), _ = run(x, scale, scale, cotangent)
    rest = (slice(1, None), slice(None)) if name == "rows" else (..., slice(4, None))
    np.testing.assert_array_equal(other[rest], y[rest])


@pytest.mark.parametrize("case", LAYOUTS.values(), ids=LAYOUTS)
def test_a_constant_gives_exactly_the_bias(instructions, case):
    _, scale, cotangent = drawn(case, 1.0)
    bias = np.random.default_rng(1).normal(0, 1, scale.shape).astype(np.float32)
    for value in (0.0, 1e-37, -1e-30, 0.1, -1e30, LARGEST):
        for epsilon in (1e-5, 1e-35):
            x = np.full(case.shape, value, np.float32)
            (y, mean, var), gradients = compiled(case, epsilon, True)(x, scale, bias, cotangent)
            np.testing.assert_array_equal(y, np.broadcast_to(bias, case.shape))
            np.testing.assert_array_equal(mean, np.full_like(mean, value))
            np.testing.assert_array_equal(var, np.zeros_like(var))
            np.testing.assert_array_equal(gradients[1], np.zeros_like(scale))


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("name", ["rows", "columns", "instance"])
def test_what_is_not_finite_ends_in_nan(instructions, name, center):
    case = LAYOUTS[name]
    x, scale, cotangent = drawn(case, 1e25)
    for value in (np.nan, np.inf, -np.inf):
        x = x.astype(np.float32)
        x[..., 0] = value
        (y, _, _), (dx, *_) = compiled(case, 1e-5, center)(x, scale, scale, cotangent)
        assert np.isnan(np.asarray(y)[..., 0]).all() and np.isnan(np.asarray(dx)[..., 0]).all()


def test_the_gradient_of_the_variance_is_right_where_squares_are_no_floats():
    case = LAYOUTS["rows"]
    for size in (1e18, 1e25):
        x = drawn(case, size)[0].astype(np.float32)

        def variance(x):
            return jaxnorm.standardize(x, case.stats_shape, epsilon=0.0, implementation="native")[
                1
            ].var.sum()

        want = 2 * (wide(x) - wide(x).mean(-1, keepdims=True)) / x.shape[-1]
        got = jax.grad(variance)(jnp.asarray(x))
        assert np.abs(got - want).max() < LAW * np.abs(want).max()
