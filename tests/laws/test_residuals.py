"""Laws 19 and 26: the backward pass keeps x, the scale and three float32 numbers per statistic.

They are the two parts of the mean and the reciprocal deviation; without a mean just the last.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import layer_norm
from tests.laws.members import ACTIVATIONS, claiming, output, over

SHAPE = (64, 8, 8, 32)


def residuals(function, *arguments):
    """Returns the shapes and dtypes of what the backward pass of `function` keeps."""

    def leaves(*arguments):
        return jax.tree.leaves(jax.vjp(function, *arguments)[1])

    return jax.eval_shape(leaves, *arguments)


def kept(function, *arguments):
    """Returns the bytes that the backward pass of `function` keeps."""
    leaves = residuals(function, *arguments)
    return sum(math.prod(v.shape) * jnp.dtype(v.dtype).itemsize for v in leaves)


def granted(x, statistics, parameters=0, center=True):
    """Returns the bytes of x, of each statistic, of the scale, and of epsilon and the count."""
    numbers = 3 if center else 1
    room = 16
    return math.prod(x.shape) * x.dtype.itemsize + 4 * (numbers * statistics + parameters) + room


@over(ACTIVATIONS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("affine", [False, True])
def test_the_backward_pass_keeps_x_three_numbers_per_statistic_and_the_scale(
    member, dtype, affine, implementation
):
    x = jax.ShapeDtypeStruct(SHAPE, dtype)
    parameters = [jax.ShapeDtypeStruct(SHAPE[-1:], jnp.float32)] * 2 if affine else []
    statistics = math.prod(member.stats_shape(SHAPE))
    found = kept(functools.partial(output, member), x, *parameters)
    assert found <= granted(x, statistics, SHAPE[-1] * affine, member.center)


@over(ACTIVATIONS)
def test_the_statistics_that_are_kept_are_float32_whatever_the_input(member, implementation):
    # Law 26: kept in the dtype of the input they would spoil the gradient.
    x = jax.ShapeDtypeStruct(SHAPE, jnp.bfloat16)
    statistics = [v for v in residuals(functools.partial(output, member), x) if v.shape != SHAPE]
    assert {v.dtype for v in statistics} == {np.dtype(np.float32)}


def test_a_bfloat16_layer_norm_of_4096_rows_keeps_x_and_three_float32_per_row(implementation):
    x = jax.ShapeDtypeStruct((4096, 1024), jnp.bfloat16)
    parameters = [jax.ShapeDtypeStruct((1024,), jnp.float32)] * 2
    found = kept(layer_norm, x, *parameters)
    assert 2 * 4096 * 1024 < found <= granted(x, 4096, 1024)


def test_flaxs_layer_norm_keeps_five_times_as_much():
    x = jax.ShapeDtypeStruct((4096, 1024), jnp.bfloat16)
    norm = nn.LayerNorm(dtype=jnp.bfloat16)
    variables = jax.eval_shape(norm.init, jax.random.key(0), x)
    assert kept(norm.apply, variables, x) > 5 * granted(x, 4096, 1024)


@over(claiming("mask"))
def test_a_mask_adds_no_more_than_itself_and_the_counts_in_float32(member):
    x = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    mask = np.ones((64, 1, 1, 1), bool)
    found = kept(functools.partial(output, member, mask=mask), x)
    statistics = math.prod(member.stats_shape(SHAPE))
    kept_of_x = granted(x, statistics, center=member.center)
    assert found <= kept_of_x + 4 * statistics + 4 * mask.size
