"""Standardize survives export: the program gives the same numbers and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxnorm import standardize
from tests.ops.reference import reference_gradient, reference_standardize
from tests.stats.reference import relative_error, rounding

SHAPE = (4, 3, 6)
STATS_SHAPE = (4, 1, 2)
EPSILON = 1e-3
BOUND = rounding(np.float32, 9)


def run(x, mask):
    return standardize(x, STATS_SHAPE, mask=mask, epsilon=EPSILON)[0]


def arrays():
    rng = np.random.default_rng(0)
    return rng.normal(3, 1, SHAPE).astype(np.float32), rng.random(SHAPE) < 0.8


def through_bytes(program):
    pytest.importorskip("flatbuffers", reason="jax serializes programs with it")
    return export.deserialize(program.serialize(vjp_order=1))


@pytest.mark.parametrize("trip", [lambda program: program, through_bytes], ids=["kept", "bytes"])
def test_an_exported_program_gives_the_output_and_the_gradient_of_float64(trip):
    x, mask = arrays()
    program = trip(export.export(jax.jit(run))(x, mask))
    y = reference_standardize(x, STATS_SHAPE, EPSILON, weights=mask)
    assert relative_error(program.call(x, mask), y) < BOUND
    gradient = jax.grad(lambda x: jnp.sum(program.call(x, mask) ** 3))(x)
    expected = reference_gradient(x, 3 * y**2, STATS_SHAPE, EPSILON, weights=mask)
    assert relative_error(gradient, expected) < BOUND


def test_a_program_exported_for_every_platform_needs_no_custom_call():
    x, mask = arrays()
    program = export.export(jax.jit(run), platforms=["cpu", "cuda", "tpu"])(x, mask)
    assert "stablehlo.custom_call" not in program.mlir_module()
