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


def traced(case, epsilon, center=True, target="gpu_interpreted", dtype=None):
    """Returns the function to y, mean and var and to the gradients of x, scale and bias."""
    view = native_view(case.shape, case.stats_shape, case.affine_shape)

    def run(x, scale, bias, ct, ct_mean=None, ct_var=None):
        flat = x.reshape(view.n, view.r, view.c)
        given = [None if v is None else v.reshape(view.a, view.c) for v in (scale, bias)]
        y, mean, tail, var, rstd = _columns.standardize(
            view, flat, *given,
            epsilon=epsilon, center=center, dtype=dtype or x.dtype, target=target,
        )  # fmt: skip
        cts = [v if v is None else v.reshape(rstd.shape) for v in (ct_mean, ct_var)]
        cts = (cts[0] if center else None, None if cts[1] is None else 2 * cts[1] / rstd)
        (d_x,), d_scale, d_bias = _columns.cotangent(
            view, ct.reshape(flat.shape), flat, given[0], mean, tail, rstd, *cts,
            wanted=(True, scale is not None, bias is not None), target=target,
        )  # fmt: skip
        mean = jnp.zeros_like(var) if mean is None else mean
        statistics = (v.reshape(case.stats_shape) for v in (mean, var))
        pairs = ((d_x, x), (d_scale, scale), (d_bias, bias))
        gradients = tuple(v.reshape(like.shape) for v, like in pairs if like is not None)
        return (y.reshape(x.shape), *statistics), gradients

    return run


def shapes_of(case, dtype, sharding=None):
    """Returns x, scale, bias and the cotangent of y, without values."""
    shapes = [case.shape, case.affine_shape, case.affine_shape, case.shape]
    dtypes = [dtype, jnp.float32, jnp.float32, dtype]
    return [
        None if shape is None else jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]


@functools.cache
def compiled(case, epsilon, center=True, target="gpu_interpreted", dtype=None, whole=True):
    """Returns `traced` as one program, whose samples may be in one block or not."""
    run = jax.jit(traced(case, epsilon, center, target, dtype))

    def call(*arrays):
        with in_one_block(whole):
            out = jax.block_until_ready(run(*arrays))
        if target == "tpu_interpreted":
            races = interpret_pallas_call.races
            assert races is not None and not races.races_found
        return out

    return call


@contextlib.contextmanager
def in_one_block(whole):
    """Lets samples be in one block, or in a few blocks of several tiles."""
    given = {} if whole else {"WHOLE": dict.fromkeys(_column_blocks.WHOLE, 0), "PROGRAMS": 8}
    before = {name: getattr(_column_blocks, name) for name in given}
    vars(_column_blocks).update(given)
    try:
        yield
    finally:
        vars(_column_blocks).update(before)
