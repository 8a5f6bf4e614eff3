"""The accumulation dtype and canonical axes."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.numerics import accumulation_dtype, canonical_axes, real_dtype, require_inexact


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (jnp.float16, np.float32),
        (jnp.bfloat16, np.float32),
        (jnp.float32, np.float32),
        (jnp.complex64, np.complex64),
    ],
)
def test_sums_are_taken_in_float32_or_wider(dtype, expected):
    assert accumulation_dtype(dtype) == expected


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_double_precision_is_summed_in_double_precision(dtype, x64):
    assert accumulation_dtype(dtype) == dtype


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(jnp.bfloat16, jnp.bfloat16), (np.float32, np.float32), (np.complex64, np.float32)],
)
def test_the_real_part_has_the_dtype_of_the_components(dtype, expected):
    assert real_dtype(dtype) == expected


def test_a_bfloat16_sum_stops_growing_which_is_why_sums_are_float32():
    ones = jnp.ones(1024, jnp.bfloat16)
    total = jnp.zeros((), jnp.bfloat16)
    for one in np.asarray(ones):
        total = np.add(total, one, dtype=jnp.bfloat16)
    assert float(total) == 256
    assert float(jnp.sum(ones.astype(accumulation_dtype(ones.dtype)))) == 1024


@pytest.mark.parametrize("ndim", range(1, 11))
def test_axes_are_sorted_whatever_their_order_and_sign(ndim):
    for size in (1, 2, 3):
        for axes in itertools.permutations(range(ndim), size):
            signed = [axis - ndim if i % 2 else axis for i, axis in enumerate(axes)]
            assert canonical_axes(signed, ndim) == tuple(sorted(axes))


def test_one_axis_may_stand_without_a_tuple():
    assert canonical_axes(-2, 5) == (3,)


def test_an_axis_may_be_a_numpy_integer():
    assert canonical_axes(np.int64(-1), 3) == (2,)


@pytest.mark.parametrize("axis", [-4, 3, 17])
def test_an_axis_out_of_range_is_named_with_the_range(axis):
    with pytest.raises(ValueError, match=rf"names axis {axis}, but the array has 3 .* -3 to 2"):
        canonical_axes((0, axis), 3, "reduction_axes")


@pytest.mark.parametrize("axes", [(1, 1), (0, -3), (2, -1)])
def test_an_axis_named_twice_is_an_error_that_shows_the_axes(axes):
    with pytest.raises(ValueError, match="names an axis of the rank-3 array twice"):
        canonical_axes(axes, 3)


def test_an_axis_that_is_no_integer_is_a_type_error():
    with pytest.raises(TypeError):
        canonical_axes(0.5, 3)


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.bool_])
def test_an_integer_array_is_refused_with_its_dtype_shape_and_a_remedy(dtype):
    with pytest.raises(TypeError, match=rf"kernel .* got {np.dtype(dtype)} \[2, 3\]; .*astype"):
        require_inexact(jnp.ones((2, 3), dtype), "kernel")


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, np.float32, np.complex64])
def test_floating_and_complex_arrays_are_accepted(dtype):
    assert require_inexact(jnp.ones(2, dtype)) is None
