"""The kernels over rows for a TPU, in Mosaic.

A program holds whole rows in fast memory. Programs run one after another: those of one affine add
to the same sums of scale and bias.

A column of statistics would fill a 128th of each tile in memory. They are stored as rows instead,
[a, g, blocks, statistics, rows of a block], and turned around within the kernel.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jaxnorm.ops._operands import filled, present, which
from jaxnorm.ops.kernels.pallas import _sample
from jaxnorm.ops.kernels.pallas._around import Backward, Forward, behind_activation, finished
from jaxnorm.ops.kernels.pallas._blocks import VMEM, row_blocks
from jaxnorm.ops.kernels.pallas._call import call
from jaxnorm.ops.kernels.pallas._targets import Target

LANES = 128


def forward(
    rows,
    x,
    scale,
    bias,
    *,
    epsilon,
    center,
    dtype,
    target: Target,
    around: Forward = Forward(),
) -> list:
    """Returns what `_rows.Kernels.forward` does."""
    tall = tall_of("rows forward", rows, dtypes_of(x, dtype, around), target)
    wholes = [x, *present((around.residual,))]
    affine = [v.reshape(rows.a, 1, -1) for v in (scale, bias) if v is not None]
    steps = [] if around.step is None else [_packed([around.step], rows, tall)]
    count = around.own_step + (4 if center else 2)
    blocks = pl.cdiv(rows.p, tall)
    dtypes = present((dtype, around.total))
    *ys, statistics = call(
        functools.partial(_forward, rows, which((scale, bias)), around.static, epsilon, center),
        target,
        grid=(rows.a, rows.g, blocks),
        in_specs=[
            *[_entries(rows, tall)] * len(wholes),
            *[_channels(rows)] * len(affine),
            *[_small(1, tall)] * len(steps),
        ],
        out_specs=[*[_entries(rows, tall)] * len(dtypes), _small(count, tall)],
        out_shape=[
            *(jax.ShapeDtypeStruct(x.shape, d) for d in dtypes),
            jax.ShapeDtypeStruct((rows.a, rows.g, blocks, count, tall), jnp.float32),
        ],
        vmem=VMEM,
    )(*wholes, *affine, *steps)
    return [*ys, *_unpacked(statistics, rows)]


def dtypes_of(x, dtype, around: Forward) -> list:
    """Returns the dtypes of the blocks that the forward pass holds.

    Args:
        x: an array or its aval.
        dtype: of y.
        around: what is done before and behind.
    """
    residual = [] if around.total is None else [around.residual.dtype, around.total]
    return [x.dtype, dtype, *residual]


def tall_of(kernel: str, rows, dtypes, target: Target) -> int:
    """Returns how many rows a program takes; 0 where not even the fewest fit.

    Args:
        kernel: "rows forward" or "rows backward".
        rows: `_rows.Rows`.
        dtypes: of the arrays that it reads and writes.
        target: what the kernel is compiled for.
    """
    sizes = [jnp.dtype(d).itemsize for d in dtypes]
    blocks = row_blocks(kernel, target, rows.p, rows.m, max(sizes), len(sizes), min(sizes))
    return blocks.rows


def _entries(rows, tall: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, tall, rows.m), lambda a, g, i: (a, i, g))


def _channels(rows) -> pl.BlockSpec:
    return pl.BlockSpec((None, 1, rows.m), lambda a, g, i: (a, 0, g))


def _small(count: int, tall: int) -> pl.BlockSpec:
    return pl.BlockSpec((None, None, None, count, tall), lambda a, g, i: (a, g, i, 0, 0))


def _packed(statistics: list, rows, tall: int):
    """Returns statistics [a, p, g] as the kernels load them."""
    blocks = pl.cdiv(rows.p, tall)
    stacked = jnp.moveaxis(jnp.stack(statistics), -1, 0)  # [g, statistics, a, p]
    stacked = jnp.pad(stacked, ((0, 0),) * 3 + ((0, blocks * tall - rows.p),))
    cut = stacked.reshape(rows.g, len(statistics), rows.a, blocks, tall)
    return cut.transpose(2, 0, 3, 1, 4)


def _unpacked(stacked, rows) -> list:
    """Returns the statistics [a, p, g] that a kernel stored."""
    count = stacked.shape[-2]
    whole = stacked.transpose(3, 0, 2, 4, 1).reshape(count, rows.a, -1, rows.g)
    return [whole[i, :, : rows.p] for i in range(count)]


def _as_rows(columns: list):
    """Returns columns [rows, 1] as [columns, rows]."""
    lane = lax.broadcasted_iota(jnp.int32, (columns[0].shape[0], LANES), 1)
    wide = jnp.zeros(lane.shape, jnp.float32)
    for i, column in enumerate(columns):
        wide = jnp.where(lane == i, column, wide)
    return wide.T[: len(columns)]


def _as_columns(stacked) -> list:
    """Returns [statistics, rows] as columns [rows, 1]."""
    count = stacked.shape[0]
    columns = jnp.pad(stacked, ((0, LANES - count), (0, 0))).T
    return [columns[:, i : i + 1] for i in range(count)]


def _forward(rows, has, around: Forward, epsilon: float, center: bool, *refs):
    there = (True, around.residual is not None, *has, around.step is not None)
    x_ref, residual_ref, *affine_refs, step_ref = filled(there, refs)
    outputs = (True, around.total is not None, True)
    y_ref, total_ref, out_ref = filled(outputs, refs[sum(there) :])
    scale, bias = (None if ref is None else ref[...] for ref in affine_refs)
    x = _loaded(x_ref, residual_ref)
    if total_ref is not None:
        total_ref[...] = x.astype(total_ref.dtype)
    pivot = x[:, rows.member : rows.member + 1] if center else None
    d = x if pivot is None else x - pivot
    total = jnp.sum(d * _sample.share(rows.m)[0], axis=1, keepdims=True) if center else None
    known = _sample.first(_largest(jnp.abs(d)), total, pivot, rows.m, epsilon)
    d = _sample.deviation(x, known)
    total, squares = (jnp.sum(v, axis=1, keepdims=True) for v in (d, d * d))
    found = _sample.second(total, squares, known, rows.m, epsilon)
    z = _sample.placed(d, found, scale, bias)
    step = None if step_ref is None else _as_columns(step_ref[...])[0]
    y, step = finished(around, y_ref.dtype, z, step, _largest)
    y_ref[...] = y.astype(y_ref.dtype)
    own = [step] if around.own_step else []
    location = [] if found.mean is None else [found.mean, found.tail]
    out_ref[...] = _as_rows([*own, *location, found.var, found.rstd])


def _loaded(x_ref, residual_ref):
    """Returns what is normalized."""
    x = x_ref[...].astype(jnp.float32)
    return x if residual_ref is None else x + residual_ref[...].astype(jnp.float32)


def _largest(values):
    return jnp.max(values, axis=1, keepdims=True)


def backward(
    rows,
    ct,
    x,
    scale,
    mean,
    tail,
    rstd,
    ct_mean,
    ct_half,
    *,
    wanted,
    target: Target,
    around: Backward = Backward(),
) -> list:
    """Returns what `_rows.Kernels.backward` does."""
    wholes = [ct, x, *present((around.residual, around.ct_total))]
    dtypes = (around.dtypes or (x.dtype,)) if wanted[0] else ()
    held = [*(v.dtype for v in wholes), *(around.dtypes or (x.dtype,))]
    tall = tall_of("rows backward", rows, held, target)
    small = (mean, tail, rstd, ct_mean, ct_half)
    affine = [v.reshape(rows.a, 1, -1) for v in (scale, around.bias) if v is not None]
    sums = jax.ShapeDtypeStruct((rows.a, 1, rows.g * rows.m), jnp.float32)
    outputs = [(jax.ShapeDtypeStruct(x.shape, d), _entries(rows, tall)) for d in dtypes]
    outputs += [(sums, _channels(rows))] * sum(wanted[1:])
    has = (
        which((around.residual, around.ct_total)),
        which((scale, around.bias)),
        which(small),
    )
    *d_x, d_scale, d_bias = filled(
        (*(True for _ in dtypes), *wanted[1:]),
        call(
            functools.partial(
                _backward, rows, tall, has, len(dtypes), wanted[1:], around.activation
            ),
            target,
            grid=(rows.a, rows.g, pl.cdiv(rows.p, tall)),
            in_specs=[
                *[_entries(rows, tall)] * len(wholes),
                *[_channels(rows)] * len(affine),
                _small(len(present(small)), tall),
            ],
            out_specs=[spec for _, spec in outputs],
            out_shape=[shape for shape, _ in outputs],
            in_turn=(False, False, any(wanted[1:])),
            vmem=VMEM,
        )(*wholes, *affine, _packed(list(present(small)), rows, tall)),
    )
    return [d_x or None, d_scale, d_bias]


def _backward(rows, tall: int, has, copies: int, sums, activation, ct_ref, x_ref, *refs):
    of_sum, affine, statistics = has
    there = (*of_sum, *affine, True)
    residual_ref, total_ref, scale_ref, bias_ref, small_ref = filled(there, refs)
    outputs = refs[sum(there) :]
    mean, tail, rstd, *cts = filled(statistics, _as_columns(small_ref[...]))
    scale, bias = (None if ref is None else ref[...] for ref in (scale_ref, bias_ref))
    xhat = _sample.standardized(_loaded(x_ref, residual_ref), mean, tail, rstd)
    ct = behind_activation(activation, ct_ref[...].astype(jnp.float32), xhat, scale, bias)
    if copies:
        inner = ct if scale is None else ct * scale
        of_ct = None if mean is None else jnp.sum(inner, axis=1, keepdims=True)
        of_product = jnp.sum(inner * xhat, axis=1, keepdims=True)
        d_x = _sample.pulled_back(inner, xhat, (of_ct, of_product), rstd, cts, rows.m)
        d_x = d_x if total_ref is None else d_x + total_ref[...].astype(jnp.float32)
        for ref in outputs[:copies]:
            ref[...] = d_x.astype(ref.dtype)
    block = pl.program_id(2)
    # Past the last row lies whatever the memory held.
    index = lax.broadcasted_iota(jnp.int32, (tall, 1), 0) + block * tall
    terms = [of for of, asked in zip((lambda: ct * xhat, lambda: ct), sums) if asked]
    for ref, of in zip(outputs[copies:], terms, strict=True):
        term = jnp.where(index < rows.p, of(), 0.0)
        _add(ref, jnp.sum(term, axis=0, keepdims=True), block)


def _add(ref, values, block) -> None:
    """Adds the values of a block to what the blocks before it have stored."""

    @pl.when(block == 0)
    def _():
        ref[...] = values

    @pl.when(block > 0)
    def _():
        ref[...] += values
