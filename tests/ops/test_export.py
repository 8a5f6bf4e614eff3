"""Standardize survives export: the serialized program gives the same numbers and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxnorm import standardize
from tests.ops.reference import reference_gradient, reference_standardize
from tests.stats.reference import relative_error, rounding

SHAPE = (4, 3, 6)
STATS_SHAPE = (4, 1, 2)
BOUND = rounding(np.float32, 9)


def run(x, mask):
    return standardize(x, STATS_SHAPE, mask=mask, epsilon=1e-3)[0]


def exported(function, *shapes, vjp_order=0):
    """Returns `function` after a trip through bytes."""
    program = export.export(jax.jit(function))(*shapes)
    return export.deserialize(program.serialize(vjp_order=vjp_order))


def test_an_exported_program_gives_the_output_and_the_gradient_of_float64():
    rng = np.random.default_rng(0)
    x, mask = rng.normal(3, 1, SHAPE).astype(np.float32), rng.random(SHAPE) < 0.8
    program = exported(run, x, mask, vjp_order=1)
    sample = {"weights": mask}
    expected = reference_standardize(x, STATS_SHAPE, 1e-3, **sample)
    assert relative_error(program.call(x, mask), expected) < BOUND
    gradient = jax.grad(lambda x: jnp.sum(program.call(x, mask) ** 3))(x)
    cotangent = 3 * expected**2
    expected = reference_gradient(x, cotangent, STATS_SHAPE, 1e-3, **sample)
    assert relative_error(gradient, expected) < BOUND


def test_a_program_may_be_exported_with_a_batch_size_of_its_own_choice():
    batch = export.symbolic_shape("batch, 3, 6")
    program = exported(
        lambda x: standardize(x, (x.shape[0], 3, 1), epsilon=1e-3)[0],
        jax.ShapeDtypeStruct(batch, jnp.float32),
    )
    for n in (2, 5):
        x = np.random.default_rng(n).normal(3, 1, (n, 3, 6)).astype(np.float32)
        assert relative_error(program.call(x), reference_standardize(x, (n, 3, 1), 1e-3)) < BOUND


def test_a_program_exported_for_tpu_and_cuda_needs_no_custom_call():
    x = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    platforms = ["cpu", "cuda", "tpu"]
    program = export.export(jax.jit(lambda x: run(x, None)), platforms=platforms)(x)
    assert "custom_call" not in program.mlir_module()
