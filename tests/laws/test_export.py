"""Every member may be exported, also with a batch of symbolic size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from tests.laws.members import ACTIVATIONS, array, expected_gradient, expected_output, output, over
from tests.stats.reference import relative_error, rounding


def trained(member):
    def both(x, cotangent):
        y, pullback = jax.vjp(functools.partial(output, member), x)
        return y, pullback(cotangent)[0]

    return jax.jit(both)


def assert_right(member, program, shape):
    x, cotangent = array(0, shape, 3.0), array(1, shape)
    y, dx = program.call(x, cotangent)
    bound = rounding(np.float32, x.size)
    assert relative_error(y, expected_output(member, x)) < bound
    assert relative_error(dx, expected_gradient(member, x, cotangent)) < bound


@over([m for m in ACTIVATIONS if "ghost_batch_size" not in m.options])
@pytest.mark.sampled(2)
def test_one_exported_program_serves_every_batch_size(member):
    symbolic = jax.ShapeDtypeStruct(export.symbolic_shape("n, 3, 4"), jnp.float32)
    program = export.export(trained(member))(symbolic, symbolic)
    for n in (2, 5):
        assert_right(member, program, (n, 3, 4))


@over([m for m in ACTIVATIONS if "ghost_batch_size" in m.options])
def test_a_batch_that_is_cut_into_parts_is_exported_with_its_size(member):
    fixed = jax.ShapeDtypeStruct((4, 3, 4), jnp.float32)
    assert_right(member, export.export(trained(member))(fixed, fixed), (4, 3, 4))
