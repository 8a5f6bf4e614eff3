"""The view that the kernels have of an array, by statistics shape."""

import numpy as np
import pytest

from jaxnorm.ops.kernels import _primitives
from jaxnorm.ops.kernels._layout import native_view
from jaxnorm.ops.kernels._plain import Standard
from tests.ops.kernels.cases import CASES, arrays, needs_native
from tests.stats.reference import blocks, reference_moments


@pytest.mark.parametrize(
    ("shape", "stats_shape", "affine_shape", "view"),
    [
        ((8, 5, 6), (8, 5, 1), (1, 1, 6), (40, 1, 6, 1, 1)),
        ((8, 5, 6), (8, 1, 1), (1, 5, 6), (8, 1, 30, 1, 1)),
        ((8, 5, 6), (8, 1, 1), (1, 1, 6), (8, 5, 6, 1, 1)),
        ((8, 5, 6), (1, 1, 6), (1, 1, 6), (1, 40, 6, 6, 1)),
        ((8, 5, 6), (8, 1, 6), (1, 1, 6), (8, 5, 6, 6, 1)),
        ((8, 5, 6), (8, 1, 3), (1, 1, 6), (8, 5, 6, 3, 1)),
        ((8, 5, 6), (2, 1, 6), (1, 1, 6), (2, 20, 6, 6, 1)),
        ((8, 5, 6), (8, 1, 1), (8, 1, 6), (8, 5, 6, 1, 8)),
        ((8, 5, 6), (8, 1, 1), None, (8, 1, 30, 1, 1)),
        ((8, 5, 6), (1, 5, 1), None, (1, 8, 30, 5, 1)),
        ((3, 8, 5, 6), (3, 8, 1, 6), (3, 1, 1, 6), (24, 5, 6, 6, 3)),
    ],
)
def test_runs_of_axes_become_samples_rows_channels_and_groups(
    shape, stats_shape, affine_shape, view
):
    assert native_view(shape, stats_shape, affine_shape)[:5] == view


@pytest.mark.parametrize(
    ("shape", "stats_shape", "affine_shape"),
    [
        ((8, 6, 5, 5), (8, 6, 1, 1), (1, 6, 1, 1)),  # channels first
        ((8, 5, 6), (8, 1, 6), (8, 5, 1)),  # a scale for each position
        ((8, 5, 6), (8, 5, 6), None),  # nothing is reduced
        ((8, 0, 6), (8, 1, 6), None),  # nothing is there
        ((), (), None),
        ((4, 5, 6, 7), (1, 5, 1, 7), None),  # rkrk
    ],
)
def test_other_layouts_have_no_view(shape, stats_shape, affine_shape):
    assert native_view(shape, stats_shape, affine_shape) is None


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_middle_member_is_the_one_that_the_statistics_take(case):
    view = native_view(*case)
    x = np.arange(np.prod(case.shape)).reshape(case.shape)
    members = x.reshape(view.n, view.r, view.g, -1)[:, view.row, :, view.member]
    middle = blocks(x, case.stats_shape)
    for axis in range(x.ndim):
        middle = np.take(middle, [middle.shape[2 * axis + 1] // 2], axis=2 * axis + 1)
    np.testing.assert_array_equal(members.ravel(), middle.ravel())


@needs_native
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_tail_is_what_rounding_the_mean_left_over(case):
    x = arrays(case, mean=1e3)[0]
    standard = Standard(case.stats_shape, True, 0.1, x.dtype)
    _, mean, tail, _, _ = _primitives.standardize(standard, x, *arrays(case)[1:3])
    want = reference_moments(x, case.stats_shape).mean
    np.testing.assert_array_equal(mean + tail, mean)
    np.testing.assert_allclose(np.float64(mean) + np.float64(tail), want, rtol=0, atol=1e-6)
