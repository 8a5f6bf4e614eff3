"""How the tests call the column kernels: without the table of implementations."""

import contextlib
import functools

import jax
import jax.numpy as jnp
from jax._src.pallas.mosaic.interpret import interpret_pallas_call

from jaxnorm.ops.kernels._layout import native_view
from jaxnorm.ops.kernels.pallas import _column_blocks, _columns
from tests.ops.kernels.cases import CASES

COLUMNS = {
    name: case
    for name, case in CASES.items()
    if name.startswith(("batch", "instance", "group", "ghost", "weight"))
}


@functools.cache
def compiled(case, epsilon, center=True, target="gpu_interpreted", dtype=None, whole=True):
    """Returns the function to y, mean and var and to the gradients of x, scale and bias."""
    view = native_view(case.shape, case.stats_shape, case.affine_shape)

    @jax.jit
    def run(x, scale, bias, ct, ct_mean=None, ct_var=None):
        flat = x.reshape(view.n, view.r, view.c)
        y, mean, tail, var, rstd = _columns.standardize(
            view, flat, scale, bias,
            epsilon=epsilon, center=center, dtype=dtype or x.dtype, target=target,
        )  # fmt: skip
        given = [v if v is None else v.reshape(rstd.shape) for v in (ct_mean, ct_var)]
        given = (given[0] if center else None, None if given[1] is None else 2 * given[1] / rstd)
        wanted = (True, scale is not None, bias is not None)
        d_x, d_scale, d_bias = _columns.cotangent(
            view, ct.reshape(flat.shape), flat, scale, mean, tail, rstd, *given,
            wanted=wanted, target=target,
        )  # fmt: skip
        mean = jnp.zeros_like(var) if mean is None else mean
        statistics = (v.reshape(case.stats_shape) for v in (mean, var))
        pairs = ((d_x, x), (d_scale, scale), (d_bias, bias))
        gradients = tuple(v.reshape(like.shape) for v, like in pairs if like is not None)
        return (y.reshape(x.shape), *statistics), gradients

    def call(*arrays):
        with _whole(whole):
            out = jax.block_until_ready(run(*arrays))
        if target == "tpu_interpreted":
            races = interpret_pallas_call.races
            assert races is not None and not races.races_found
        return out

    return call


@contextlib.contextmanager
def _whole(whole):
    """Lets samples be in one block, or in a few blocks of several tiles."""
    given = {} if whole else {"WHOLE": dict.fromkeys(_column_blocks.WHOLE, 0), "PROGRAMS": 8}
    before = {name: getattr(_column_blocks, name) for name in given}
    vars(_column_blocks).update(given)
    try:
        yield
    finally:
        vars(_column_blocks).update(before)
