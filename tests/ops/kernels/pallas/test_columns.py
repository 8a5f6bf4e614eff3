"""The column kernels against float64, interpreted as for GPU and as for TPU."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.ops.kernels.cases import arrays, expected
from tests.ops.kernels.pallas.columns import COLUMNS, compiled
from tests.ops.kernels.test_native import LAW, assert_close, one_rounding
from tests.ops.kernels.test_range import SIZES, check, drawn

EPSILON = 1e-5
# Layouts whose samples fit a block, and others: (name, target, whether they may).
QUICK = [
    ("batch, blocks and a remainder", "gpu_interpreted", False),
    ("group", "gpu_interpreted", True),
    ("group", "tpu_interpreted", False),
]
EVERY = [
    (name, target, w)
    for name in COLUMNS
    for target in ("gpu_interpreted", "tpu_interpreted")
    for w in (0, 1)
]
NIGHTLY = [pytest.param(*v, marks=pytest.mark.nightly) for v in EVERY if v not in QUICK]


@pytest.mark.parametrize(("name", "target", "whole"), [*QUICK, *NIGHTLY])
def test_output_moments_and_gradients_are_those_of_float64(name, target, whole):
    case, run = COLUMNS[name], compiled(COLUMNS[name], EPSILON, target=target, whole=whole)
    for mean in (2.0, 1e6):
        x, scale, bias, cotangents = arrays(case, mean=mean)
        got, gradients = run(x, scale, bias, *cotangents)
        want, wanted = expected(case, x, scale, bias, cotangents, epsilon=EPSILON)
        assert_close(got, want, [LAW] * 3)
        assert_close(gradients, wanted, [LAW] * len(wanted))


RANGES = [
    ("batch, several tasks", "gpu_interpreted", False),
    ("group", "gpu_interpreted", True),
    pytest.param("group", "gpu_interpreted", False, marks=pytest.mark.nightly),
    pytest.param(
        "batch, blocks and a remainder", "tpu_interpreted", False, marks=pytest.mark.nightly
    ),
    pytest.param("instance", "tpu_interpreted", True, marks=pytest.mark.nightly),
]


@pytest.mark.parametrize("epsilon", [0.0, pytest.param(1e-5, marks=pytest.mark.nightly)])
@pytest.mark.parametrize(("name", "target", "whole"), RANGES)
def test_every_size_is_right_at_every_offset(name, target, whole, epsilon):
    case = COLUMNS[name]

    def of(case, epsilon, center):
        return compiled(case, epsilon, center, target, whole=whole)

    # The interpreter of TPU kernels takes seconds for what the other takes milliseconds for.
    for size in SIZES if target == "gpu_interpreted" else (1e-30, 1e20):
        for offset in (0.0, 3.0, 1e6) if target == "gpu_interpreted" else (1e6,):
            x, scale, cotangent = drawn(case, size, offset)
            check(case, x.astype(np.float32), scale, cotangent, epsilon, of=of)
    x, scale, cotangent = drawn(case, 1.0, 5.0)
    sizes = 10.0 ** np.linspace(-30, 30, case.stats_shape[-1])
    x *= np.repeat(sizes, case.shape[-1] // len(sizes))  # side by side
    check(case, x.astype(np.float32), scale, cotangent, epsilon, of=of)
    x, scale, cotangent = drawn(case, 1.0, 3.0)
    x[:, len(x[0]) // 2] /= 1e30  # one row, which may be a pivot
    check(case, (x * 1e30).astype(np.float32), scale, cotangent, epsilon, of=of)
    x, scale, cotangent = drawn(case, 1.0)
    x[(0,) * x.ndim] = 1e4
    check(case, x.astype(np.float32), scale, cotangent, epsilon, of=of)


MANY = pytest.param("batch, several tasks", False, marks=pytest.mark.nightly)
BOTH = pytest.mark.parametrize(
    ("name", "whole"),
    [MANY, ("group", True)],
)


@BOTH
def test_without_centering_every_size_is_right(name, whole):
    def of(case, epsilon, center):
        return compiled(case, epsilon, center, whole=whole)

    for size in SIZES:
        x, scale, cotangent = drawn(COLUMNS[name], size, 1.0)
        check(COLUMNS[name], x.astype(np.float32), scale, cotangent, 0.0, center=False, of=of)


@BOTH
def test_a_constant_gives_exactly_the_bias(name, whole):
    case, run = COLUMNS[name], compiled(COLUMNS[name], EPSILON, whole=whole)
    _, scale, bias, (cotangent, *_) = arrays(case)
    for value in (0.0, 1e-37, 0.1, -1e30):
        x = np.full(case.shape, value, np.float32)
        (y, mean, var), gradients = run(x, scale, bias, cotangent)
        np.testing.assert_array_equal(y, np.broadcast_to(bias, case.shape))
        np.testing.assert_array_equal(mean, np.full_like(mean, value))
        np.testing.assert_array_equal(var, np.zeros_like(var))
        np.testing.assert_array_equal(gradients[1], np.zeros_like(scale))


PAIRS = [(d, d) for d in (jnp.bfloat16, jnp.float16)]
NARROW = [*PAIRS, *((d, jnp.float32) for d, _ in PAIRS), *((jnp.float32, d) for d, _ in PAIRS)]
STORED = [*NARROW[:1], *(pytest.param(*v, marks=pytest.mark.nightly) for v in NARROW[1:])]


@pytest.mark.parametrize(("stored", "out"), STORED)
@BOTH
def test_storage_is_rounded_once(name, whole, stored, out):
    case = COLUMNS[name]
    x, scale, bias, cotangents = arrays(case, stored, mean=0.5)
    inputs = (x, scale, bias, (cotangents[0].astype(out), *cotangents[1:]))
    run = compiled(case, EPSILON, dtype=out, whole=whole)
    got, gradients = run(*inputs[:3], *inputs[3])
    want, wanted = expected(case, *inputs, epsilon=EPSILON)
    assert got[0].dtype == out and gradients[0].dtype == stored
    assert_close(got, want, [one_rounding(out), LAW, LAW])
    assert_close(gradients, wanted, [one_rounding(stored), LAW, LAW])


@pytest.mark.parametrize(("name", "whole"), [("instance", True), MANY])
def test_what_is_not_finite_shows_in_its_own_statistic_only(name, whole):
    case = COLUMNS[name]
    x, scale, bias, (cotangent, *_) = arrays(case)
    x = np.asarray(x).copy()
    x[0, 1, ..., 1], x[1, 2, ..., 3] = np.nan, np.inf
    (y, _, var), (d_x, *_) = compiled(case, 0.0, whole=whole)(x, scale, bias, cotangent)
    own = np.zeros(case.stats_shape, bool)
    own[0, ..., 1] = own[1 if own.shape[0] > 1 else 0, ..., 3] = True
    np.testing.assert_array_equal(~np.isfinite(var), own)
    beside = np.broadcast_to(~own, x.shape)
    assert np.isfinite(y[beside]).all() and np.isfinite(d_x[beside]).all()
    assert np.isnan(y[0, ..., 1]).all() and np.isnan(y[1, ..., 3]).any()
