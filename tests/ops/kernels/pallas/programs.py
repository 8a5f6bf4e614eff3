"""The Pallas kernels called as their entry calls them, for any target."""

import functools

import jax
import jax.numpy as jnp
from jax._src.pallas.mosaic.interpret import interpret_pallas_call as tpu_interpreter

from jaxnorm.ops._formulas import Problem
from jaxnorm.ops.kernels.pallas import _entry
from jaxnorm.stats.sampling import Sampling


def races_found():
    """Returns whether the last kernel in the TPU interpreter had a race."""
    return tpu_interpreter.races.races_found


def problem_of(case, dtype, center=True, epsilon=1e-3):
    return Problem(Sampling(case.stats_shape, center), epsilon, jnp.dtype(dtype))


@functools.cache
def program(target, case, dtype, center=True, epsilon=1e-3, wanted=(True, True, True)):
    """Returns the compiled function of x, scale, bias and cotangents to what `cases.expected` is.

    The cotangents are those of y, mean and var; gradients that are not wanted are left out.
    """
    problem = problem_of(case, dtype, center, epsilon)

    @jax.jit
    def run(x, scale, bias, cotangents):
        given = [v for v in (scale, bias) if v is not None]
        assert _entry.serves(target, problem, x, tuple(given), ()) is None
        has = (True, False, scale is not None, bias is not None, False)
        y, *statistics = _entry.standardize(target, x, *given, problem=problem, has=has)
        *location, var, rstd = statistics
        mean, tail = location or (None, None)
        ct_y, ct_mean, ct_var = cotangents
        ct_mean = ct_mean if center else None
        kept = (x, None, scale, None, mean, tail, rstd)
        operands = (ct_y, None, ct_mean, 2 * ct_var / rstd, *kept)
        shapes = [None if v is None else v.shape for v in (x, None, scale, bias)]
        asked = (wanted[0], False, *wanted[1:])
        gradients = _entry.cotangent(
            target,
            *(v for v in operands if v is not None),
            problem=problem,
            has=tuple(v is not None for v in operands),
            shapes=tuple(s if there else None for s, there in zip(shapes, asked)),
        )
        return (y, jnp.zeros_like(var) if mean is None else mean, var), gradients

    return run
