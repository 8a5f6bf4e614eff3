"""Layouts that the native kernels know, and what their results are compared with."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.ops import standardize
from jaxnorm.ops.kernels import _native
from tests.ops.reference import reference_gradient, reference_standardize
from tests.stats.reference import reference_moments, sample_sum, spread, wide

needs_native = pytest.mark.skipif(_native.why_not() is not None, reason=str(_native.why_not()))


class Case(NamedTuple):
    """A layout: the shapes of x, of its statistics and of scale and bias."""

    shape: tuple[int, ...]
    stats_shape: tuple[int, ...]
    affine_shape: tuple[int, ...] | None = None


# Sizes around the width of a register (4, 8 or 16 floats) and of a panel of four, rows longer than
# what is summed at once (4096), blocks of 64 rows and their remainders, and ones wherever they fit.
CASES = {
    "layer of 1 row": Case((1, 7), (1, 1), (1, 7)),
    "layer of 3 channels": Case((7, 3), (7, 1), (1, 3)),
    "layer, one register and a tail": Case((3, 5, 17), (3, 5, 1), (1, 1, 17)),
    "layer, panels and a tail": Case((70, 133), (70, 1), (1, 133)),
    "layer, long rows": Case((3, 9001), (3, 1), (1, 9001)),
    "layer without scale": Case((6, 40), (6, 1)),
    "layer of few long rows": Case((2, 64, 1024), (2, 1, 1)),
    "layer of a whole image": Case((3, 5, 7, 6), (3, 1, 1, 1), (1, 1, 1, 6)),
    "layer with one scale for all": Case((4, 33), (4, 1), (1, 1)),
    "layer, a scale for each block": Case((3, 4, 20), (3, 4, 1), (3, 1, 20)),
    "batch of 1 channel": Case((9, 5, 1), (1, 1, 1), (1, 1, 1)),
    "batch of 3 channels": Case((11, 3), (1, 3), (1, 3)),
    "batch of 2 rows": Case((2, 65), (1, 65), (1, 65)),
    "batch, blocks and a remainder": Case((5, 29, 16), (1, 1, 16), (1, 1, 16)),
    "batch, wide": Case((70, 1030), (1, 1030), (1, 1030)),
    "batch, several tasks": Case((40, 33, 96), (1, 1, 96), (1, 1, 96)),
    "batch without scale": Case((13, 24), (1, 24)),
    "batch, a scale for each of several": Case((3, 40, 12), (3, 1, 12), (3, 1, 12)),
    "batch per time step": Case((6, 4, 5), (1, 4, 5), (1, 4, 5)),
    "instance": Case((4, 6, 5, 10), (4, 1, 1, 10), (1, 1, 1, 10)),
    "instance, many small": Case((70, 3, 8), (70, 1, 8), (1, 1, 8)),
    "group of 1 row": Case((9, 24), (9, 4), (1, 24)),
    "group": Case((3, 5, 7, 24), (3, 1, 1, 6), (1, 1, 1, 24)),
    "group of large samples": Case((2, 70, 640), (2, 1, 32), (1, 1, 640)),
    "batch and group": Case((5, 6, 20), (1, 1, 5), (1, 1, 20)),
    "ghost batch": Case((12, 7, 8), (3, 1, 8), (1, 1, 8)),
    "weight standardization": Case((3, 3, 6, 20), (1, 1, 1, 20)),
}
FEW = [
    CASES[name] for name in ("layer, panels and a tail", "batch, blocks and a remainder", "group")
]


def arrays(case: Case, dtype=np.float32, mean: float = 0.0, seed: int = 0):
    """Returns x, scale, bias and the cotangents of y, mean and var."""
    rng = np.random.default_rng(seed)

    def draw(shape, center=0.0):
        return rng.normal(center, 1, shape).astype(np.float32)

    x, ct_y = (jnp.asarray(draw(case.shape, center), dtype) for center in (mean, 0.0))
    affine = [None, None]
    if case.affine_shape is not None:
        affine = [jnp.asarray(draw(case.affine_shape, center)) for center in (1.0, 0.0)]
    return x, *affine, (ct_y, draw(case.stats_shape), draw(case.stats_shape))


def standardized(x, stats_shape, scale=None, bias=None, *, native: bool | None = True, **options):
    """Returns y, mean and var by the kernels, by plain JAX, or (None) by what serves first."""
    name = {True: "native", False: "xla", None: None}[native]
    y, moments = standardize(x, stats_shape, scale=scale, bias=bias, implementation=name, **options)
    return y, moments.mean, moments.var


def native_serves(x, stats_shape, scale=None, bias=None, **options):
    """Tells whether the kernels can be asked for."""
    try:
        standardized(x, stats_shape, scale, bias, **options)
    except ValueError as error:
        assert "implementation='native' does not serve" in str(error)
        return False
    return True


def computed(case: Case, x, scale, bias, cotangents, *, epsilon, **options):
    """Returns `(y, mean, var)` and the gradients of x and, where they are there, scale and bias."""
    given = [v for v in (scale, bias) if v is not None]

    def run(x, *affine):
        affine = affine or (None, None)
        return standardized(x, case.stats_shape, *affine, epsilon=epsilon, **options)

    out, pull = jax.vjp(run, x, *given)
    return out, pull(cotangents)


def expected(case: Case, x, scale, bias, cotangents, *, epsilon, center=True):
    """Returns what `computed` returns, in float64."""
    s, ct_y, ct_mean, ct_var = case.stats_shape, *map(wide, cotangents)
    gain, offset = (1.0, 0.0) if scale is None else (scale, bias)
    y = reference_standardize(x, s, epsilon, center=center, scale=gain, bias=offset)
    mean, var, count = reference_moments(x, s, center=center)
    deviation = wide(x) - spread(mean, x.shape)
    dx = reference_gradient(x, ct_y, s, epsilon, center=center, scale=gain)
    dx += 2 * deviation * spread(ct_var / count, x.shape)
    dx += spread(ct_mean / count, x.shape) if center else 0
    gradients = [dx]
    if scale is not None:
        xhat = deviation / np.sqrt(spread(var, x.shape) + epsilon)
        gradients += [sample_sum(v, case.affine_shape) for v in (ct_y * xhat, ct_y)]
    return (y, mean, var), gradients
