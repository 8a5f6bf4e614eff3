"""The kernels over rows in Pallas' interpreters, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.ops.kernels.pallas import _rows_tpu
from jaxnorm.ops.kernels.pallas._call import call
from tests.ops.kernels.cases import CASES, Case, arrays, expected
from tests.ops.kernels.pallas.programs import program, races_found
from tests.ops.reference import reference_gradient, reference_standardize
from tests.stats.reference import reference_moments, relative_error

LAW = 4e-6
nightly = pytest.mark.nightly

# Blocks hold a power of two of entries and, of short rows, of rows: both have a tail here.
ROWS = {
    "rows and a tail": CASES["layer, panels and a tail"],
    "no scale": CASES["layer without scale"],
    "a scale for each block of rows": CASES["layer, a scale for each block"],
    "groups of a row": CASES["group of 1 row"],
    "longer than a block of the backward pass": CASES["layer, long rows"],
    "longer than any block": Case((2, 20_000), (2, 1), (1, 20_000)),
    "one row": CASES["layer of 1 row"],
    "three entries": CASES["layer of 3 channels"],
    "one scale for all": CASES["layer with one scale for all"],
    "few long samples without scale": CASES["layer of few long rows"],
}
GPU = [
    ("rows and a tail", np.float32, True),
    ("groups of a row", jnp.bfloat16, True),
    ("a scale for each block of rows", jnp.float16, True),
    ("longer than a block of the backward pass", np.float32, True),
    ("no scale", np.float32, False),
    *(
        pytest.param(name, dtype, center, marks=nightly)
        for name in ROWS
        for dtype in (np.float32, jnp.bfloat16)
        for center in (True, False)
    ),
]
# Each block holds 256 rows at most, and the groups of a row are whole lanes.
TALL = {
    "several blocks of rows and a tail": Case((600, 160), (600, 1), (1, 160)),
    "groups of whole lanes": Case((20, 256), (20, 2), (1, 256)),
    "a scale for each block of rows": ROWS["a scale for each block of rows"],
    "no scale": ROWS["no scale"],
    "one row": ROWS["one row"],
}
TPU = [
    ("several blocks of rows and a tail", np.float32, True),
    pytest.param("groups of whole lanes", jnp.bfloat16, False, marks=nightly),
    *(
        pytest.param(name, np.float32, center, marks=nightly)
        for name in TALL
        for center in (True, False)
    ),
]


def check(target, case, dtype, center):
    x, scale, bias, cotangents = arrays(case, dtype)
    run = program(target, case, dtype, center)
    got = run(x, scale, bias, cotangents)
    want = expected(case, x, scale, bias, cotangents, epsilon=1e-3, center=center)
    for have, value in zip((*got[0], *got[1]), (*want[0], *want[1]), strict=True):
        rounded = 0 if have.dtype == np.float32 else float(jnp.finfo(have.dtype).eps)
        assert relative_error(have, value, 1.0) < LAW + rounded
    assert got[0][0].dtype == got[1][0].dtype == x.dtype


@pytest.mark.parametrize(("name", "dtype", "center"), GPU)
@pytest.mark.sampled(4)
def test_a_gpus_kernels_are_float64s_values_and_gradients(name, dtype, center):
    check("gpu_interpreted", ROWS[name], dtype, center)


@pytest.mark.parametrize(("name", "dtype", "center"), TPU)
def test_a_tpus_kernels_are_float64s_values_and_gradients_without_a_race(name, dtype, center):
    check("tpu_interpreted", TALL[name], dtype, center)
    assert not races_found()


@nightly
def test_a_race_would_be_found(monkeypatch):
    monkeypatch.setattr(_rows_tpu, "call", lambda *a, in_turn=None, **k: call(*a, **k))
    case = TALL["several blocks of rows and a tail"]
    x, scale, bias, cotangents = arrays(case)
    jax.block_until_ready(
        program("tpu_interpreted", case, jnp.bfloat16)(
            x.astype(jnp.bfloat16), scale, bias, cotangents
        )
    )
    assert races_found()


def test_gradients_of_scale_and_bias_alone_are_those_beside_that_of_x():
    case, alone = ROWS["rows and a tail"], (False, True, True)
    x, scale, bias, cotangents = arrays(case)
    run = program("gpu_interpreted", case, np.float32, wanted=alone)
    _, got = run(x, scale, bias, cotangents)
    _, (_, *want) = expected(case, x, scale, bias, cotangents, epsilon=1e-3)
    for have, value in zip(got, want, strict=True):
        assert relative_error(have, value, 1.0) < LAW


CASE = Case((24, 40), (24, 1), (1, 40))
TARGETS = pytest.mark.parametrize(
    "target", ["gpu_interpreted", pytest.param("tpu_interpreted", marks=nightly)]
)


def rows_of_every_kind():
    """Returns rows far from zero, tiny, huge, constant but for one, and with an outlier."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=CASE.shape)
    offsets = [0.0, 1e2, 1e4, 1e6, -1e6, 0.0]
    sizes = [1e-30, 1e-20, 1.0, 1e18, 1e30, 1e36]
    x = (x + np.repeat(offsets, 4)[:, None]) * np.tile(sizes, 4)[:, None]
    x = np.where(np.abs(x) > 1e36, x / np.abs(x).max(1, keepdims=True) * 1e36, x)
    x[2, 20] = 1e6  # the pivot itself
    x[8, 1:] = 3.0
    return x.astype(np.float32)


@TARGETS
@pytest.mark.parametrize("center", [True, pytest.param(False, marks=nightly)])
def test_every_row_is_right_at_any_offset_and_of_any_size(target, center):
    x = rows_of_every_kind()
    _, scale, bias, cotangents = arrays(CASE)
    run = program(target, CASE, np.float32, center, 0.0)
    zero = [np.zeros_like(v) for v in cotangents[1:]]
    (y, *_), (dx, *_) = run(x, scale, bias, (cotangents[0], *zero))
    want = reference_standardize(x, (24, 1), 0.0, center=center, scale=scale, bias=bias)
    pulled = reference_gradient(x, cotangents[0], (24, 1), 0.0, center=center, scale=scale)
    rstd = 1 / np.sqrt(reference_moments(x, (24, 1), center=center).var)
    for i in range(24):
        assert relative_error(y[i], want[i]) < LAW, i
        if rstd[i] > 1e-34:  # a smaller gradient is below the normal numbers
            assert relative_error(np.float64(dx[i]) / rstd[i], pulled[i] / rstd[i], 1.0) < LAW, i


def test_a_constant_row_becomes_the_bias_exactly():
    x = np.full(CASE.shape, 1e6 + 0.1, np.float32)
    _, scale, bias, cotangents = arrays(CASE)
    (y, _, var), _ = program("gpu_interpreted", CASE, np.float32)(x, scale, bias, cotangents)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, CASE.shape))
    assert not np.any(var)
