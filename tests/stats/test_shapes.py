"""Statistics shapes: their checks, and the three things that happen along an axis."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.stats import moments, reduced_stats_shape
from tests.stats.reference import reference_moments, relative_error, rounding

SHAPE = (4, 3, 2, 6)
# One entry of each kind along each axis: reduced, kept, grouped.
STATS_SHAPES = list(itertools.product((1, 2, 4), (1, 3), (1,), (1, 3, 6)))


def test_the_reduced_axes_become_ones():
    for kept in itertools.product((False, True), repeat=4):
        reduced = [axis for axis in range(4) if not kept[axis]]
        expected = tuple(n if keep else 1 for n, keep in zip(SHAPE, kept))
        assert reduced_stats_shape(SHAPE, reduced) == expected


def test_a_reduced_axis_out_of_range_is_an_error_that_names_the_argument():
    with pytest.raises(ValueError, match=r"reduction_axes=\(0, 4\) names axis 4"):
        reduced_stats_shape(SHAPE, (0, 4))


@pytest.mark.parametrize("entry", [0, -1, 4, 5, 7, 12])
def test_an_entry_that_does_not_divide_its_axis_is_named_with_what_would(entry):
    message = rf"asks for {entry} groups along axis 3 of x \[4, 3, 2, 6\]; use 1 .* divisor of 6"
    with pytest.raises(ValueError, match=message):
        moments(np.ones(SHAPE, np.float32), (1, 1, 1, entry))


@pytest.mark.parametrize("stats_shape", [(), (1, 1, 6), (1, 1, 1, 1, 6)])
def test_a_statistics_shape_of_another_rank_is_an_error_with_both_ranks(stats_shape):
    message = rf"has {len(stats_shape)} entries, but x \[4, 3, 2, 6\] has 4 axes"
    with pytest.raises(ValueError, match=message):
        moments(np.ones(SHAPE, np.float32), stats_shape)


def test_every_way_to_reduce_keep_and_group_the_axes_gives_the_moments_of_numpy():
    x = np.random.default_rng(0).normal(5, 1, SHAPE).astype(np.float32)
    run = jax.jit(lambda x: [moments(x, s) for s in STATS_SHAPES])
    for s, (mean, var, count, _) in zip(STATS_SHAPES, run(x)):
        expected = reference_moments(x, s)
        assert relative_error(mean, expected.mean) < rounding(np.float32, expected.count.max())
        assert relative_error(var, expected.var, 1.0) < rounding(np.float32, expected.count.max())
        np.testing.assert_array_equal(jnp.broadcast_to(count, s), expected.count)
