"""Group normalization against float64 NumPy and Flax."""

import flax.linen as nn
import numpy as np
import pytest

import jaxnorm
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

group_norm = compiled(jaxnorm.group_norm)

X = np.random.default_rng(0).normal(3, 2, (4, 5, 3, 12)).astype(np.float32)
SCALE = np.random.default_rng(1).normal(1, 0.5, 12).astype(np.float32)
BIAS = np.random.default_rng(2).normal(0, 1, 12).astype(np.float32)


def expected(x, groups, epsilon=1e-6):
    """Returns the channels-last norm over all but the first axis."""
    view = x.astype(np.float64).reshape(*x.shape[:-1], groups, -1)
    axes = (*range(1, x.ndim - 1), x.ndim)
    mean, var = view.mean(axes, keepdims=True), view.var(axes, keepdims=True)
    return ((view - mean) / np.sqrt(var + epsilon)).reshape(x.shape)


def assert_right(y, want):
    assert relative_error(y, want) < rounding(np.float32, 180)


@pytest.mark.parametrize("groups", [1, 3, 12])
def test_contiguous_channels_of_an_example_form_a_group(groups):
    y = group_norm(X, SCALE, BIAS, num_groups=groups)
    assert_right(y, expected(X, groups) * SCALE + BIAS)


@pytest.mark.parametrize("size", [1, 4, 12])
def test_groups_may_be_given_by_their_size(size):
    assert_right(group_norm(X, group_size=size), expected(X, 12 // size))


@pytest.mark.parametrize("shape", [(12,), (4, 12), (4, 5, 12)])
def test_any_rank_will_do(shape):
    x = np.resize(X, shape)
    # A vector is one example.
    want = expected(x, 3) if len(shape) > 1 else expected(x[None], 3)[0]
    assert_right(group_norm(x, num_groups=3), want)


@pytest.mark.parametrize("axis", [1, -3])
def test_channels_may_stand_at_any_axis(axis):
    y = group_norm(np.moveaxis(X, -1, 1), SCALE, BIAS, num_groups=3, axis=axis)
    assert_right(np.moveaxis(np.asarray(y), 1, -1), expected(X, 3) * SCALE + BIAS)


@pytest.mark.parametrize("axes", [(-1,), (3, 1), (0, 1, 2, 3)])
def test_the_reduced_axes_may_be_chosen(axes):
    view = X.astype(np.float64).reshape(4, 5, 3, 3, 4)
    reduced = tuple(sorted(4 if axis in (-1, 3) else axis for axis in axes))
    mean, var = view.mean(reduced, keepdims=True), view.var(reduced, keepdims=True)
    want = ((view - mean) / np.sqrt(var + 1e-6)).reshape(X.shape)
    assert_right(group_norm(X, num_groups=3, reduction_axes=axes), want)


def test_the_numbers_are_those_of_flax():
    module = nn.GroupNorm(num_groups=3, use_fast_variance=False)
    y = module.apply({"params": {"scale": SCALE, "bias": BIAS}}, X)
    assert_right(group_norm(X, SCALE, BIAS, num_groups=3), np.asarray(y))


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ({"num_groups": 32}, r"num_groups=32 .* use num_groups=12 or group_size=1"),
        ({"num_groups": 5}, r"num_groups=5 .* use num_groups=4 or group_size=3"),
        ({"num_groups": 0}, r"num_groups=0 .* use num_groups=1 or group_size=12"),
        ({"num_groups": -3}, r"num_groups=-3 .* use num_groups=1 or group_size=12"),
        ({"group_size": 5}, r"group_size=5 .* use group_size=4 or num_groups=3"),
        ({"group_size": 99}, r"group_size=99 .* use group_size=12 or num_groups=1"),
    ],
)
def test_groups_that_do_not_divide_are_refused_with_some_that_do(given, advice):
    with pytest.raises(ValueError, match=advice):
        group_norm(X, **given)


@pytest.mark.parametrize("given", [{}, {"num_groups": 3, "group_size": 4}])
def test_the_groups_are_given_in_one_way(given):
    with pytest.raises(ValueError, match=r"needs num_groups or group_size, one of the two; got"):
        group_norm(X, **given)


def test_the_channel_axis_is_always_reduced():
    message = r"reduction_axes=\(1, 2\) of x \[4, 5, 3, 12\] must include the channel axis 3"
    with pytest.raises(ValueError, match=message):
        group_norm(X, num_groups=3, reduction_axes=(1, 2))
