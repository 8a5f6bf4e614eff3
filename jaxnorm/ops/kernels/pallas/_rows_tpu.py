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

from jaxnorm.ops._primitives import filled
from jaxnorm.ops.kernels.pallas import _sample
from jaxnorm.ops.kernels.pallas._blocks import VMEM, row_blocks
from jaxnorm.ops.kernels.pallas._call import call
from jaxnorm.ops.kernels.pallas._targets import Target

LANES = 128


def forward(rows, x, scale, bias, *, epsilon, center, dtype, target: Target) -> list:
    """Returns y and the statistics.

    Args:
        rows: `_rows.Rows`.
        x: [a, p, g m].
        scale: [a, g m] in float32, or None.
        bias: [a, g m] in float32, or None.
        epsilon: added to the variance.
        center: whether the mean is subtracted.
        dtype: of y.
        target: what the kernel is compiled for.

    Returns:
        y [a, p, g m], then mean, tail (where centred), var and rstd [a, p, g] in float32.
    """
    tall = _tall("rows forward", rows, max(x.dtype.itemsize, dtype.itemsize), target)
    given = [v.reshape(rows.a, 1, -1) for v in (scale, bias) if v is not None]
    has = (scale is not None, bias is not None)
    count = 4 if center else 2
    blocks = pl.cdiv(rows.p, tall)
    y, statistics = call(
        functools.partial(_forward, rows, has, epsilon, center),
        target,
        grid=(rows.a, rows.g, blocks),
        in_specs=[_entries(rows, tall), *[_channels(rows)] * len(given)],
        out_specs=[_entries(rows, tall), _small(count, tall)],
        out_shape=[
            jax.ShapeDtypeStruct(x.shape, dtype),
            jax.ShapeDtypeStruct((rows.a, rows.g, blocks, count, tall), jnp.float32),
        ],
        vmem=VMEM,
    )(x, *given)
    return [y, *_unpacked(statistics, rows)]


def _tall(kernel: str, rows, itemsize: int, target: Target) -> int:
    return row_blocks(kernel, target, rows.p, rows.m, itemsize).rows


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


def _forward(rows, has, epsilon: float, center: bool, x_ref, *refs):
    (scale, bias), (y_ref, out_ref) = _affine(has, refs)
    x = x_ref[...].astype(jnp.float32)
    pivot = x[:, rows.member : rows.member + 1] if center else None
    d = x if pivot is None else x - pivot
    total = jnp.sum(d * _sample.share(rows.m)[0], axis=1, keepdims=True) if center else None
    largest = jnp.max(jnp.abs(d), axis=1, keepdims=True)
    known = _sample.first(largest, total, pivot, rows.m, epsilon)
    d = _sample.deviation(x, known)
    total, squares = (jnp.sum(v, axis=1, keepdims=True) for v in (d, d * d))
    found = _sample.second(total, squares, known, rows.m, epsilon)
    y_ref[...] = _sample.placed(d, found, scale, bias).astype(y_ref.dtype)
    location = [] if found.mean is None else [found.mean, found.tail]
    out_ref[...] = _as_rows([*location, found.var, found.rstd])


def _affine(has: tuple[bool, ...], refs: tuple) -> tuple[list, tuple]:
    """Returns what references to what may be missing hold, None for what is, and the rest."""
    rest = iter(refs)
    return [next(rest)[...] if there else None for there in has], tuple(rest)


def backward(
    rows, ct, x, scale, mean, tail, rstd, ct_mean, ct_half, *, wanted, target: Target
) -> list:
    """Returns the cotangents of x, scale and bias.

    Args:
        rows: `_rows.Rows`.
        ct: [a, p, g m], the cotangent of y.
        x: [a, p, g m].
        scale: [a, g m] in float32, or None.
        mean: [a, p, g], as the others; None where nothing is centred.
        tail: the rest of the mean.
        rstd: the reciprocal deviation.
        ct_mean: the cotangent of the mean, or None.
        ct_half: the cotangent of half the variance's relative change, or None.
        wanted: which of the three are computed.
        target: what the kernel is compiled for.

    Returns:
        [a, p, g m] of the dtype of x, and two of [a, g m] in float32; None where not wanted.
    """
    tall = _tall("rows backward", rows, max(ct.dtype.itemsize, x.dtype.itemsize), target)
    small = (mean, tail, rstd, ct_mean, ct_half)
    given = [v for v in small if v is not None]
    affine = [] if scale is None else [scale.reshape(rows.a, 1, -1)]
    sums = jax.ShapeDtypeStruct((rows.a, 1, rows.g * rows.m), jnp.float32)
    outputs = [
        (jax.ShapeDtypeStruct(x.shape, x.dtype), _entries(rows, tall)),
        (sums, _channels(rows)),
        (sums, _channels(rows)),
    ]
    outputs = [out for out, asked in zip(outputs, wanted) if asked]
    has = tuple(v is not None for v in small)
    out = call(
        functools.partial(_backward, rows, tall, has, wanted, bool(affine)),
        target,
        grid=(rows.a, rows.g, pl.cdiv(rows.p, tall)),
        in_specs=[
            *[_entries(rows, tall)] * 2,
            _small(len(given), tall),
            *[_channels(rows)] * len(affine),
        ],
        out_specs=[spec for _, spec in outputs],
        out_shape=[shape for shape, _ in outputs],
        in_turn=(False, False, any(wanted[1:])),
        vmem=VMEM,
    )(ct, x, _packed(given, rows, tall), *affine)
    return filled(wanted, out)


def _backward(rows, tall: int, has, wanted, scaled: bool, ct_ref, x_ref, small_ref, *refs):
    (scale,), refs = _affine((scaled,), refs)
    mean, tail, rstd, *cts = filled(has, _as_columns(small_ref[...]))
    ct, x = (ref[...].astype(jnp.float32) for ref in (ct_ref, x_ref))
    xhat = _sample.standardized(x, mean, tail, rstd)
    outputs = iter(refs)
    if wanted[0]:
        inner = ct if scale is None else ct * scale
        of_ct = None if mean is None else jnp.sum(inner, axis=1, keepdims=True)
        of_product = jnp.sum(inner * xhat, axis=1, keepdims=True)
        d_x = _sample.pulled_back(inner, xhat, (of_ct, of_product), rstd, cts, rows.m)
        ref = next(outputs)
        ref[...] = d_x.astype(ref.dtype)
    block = pl.program_id(2)
    # Past the last row lies whatever the memory held.
    index = lax.broadcasted_iota(jnp.int32, (tall, 1), 0) + block * tall
    for asked, ref_of in zip(wanted[1:], (lambda: ct * xhat, lambda: ct)):
        if asked:
            term = jnp.where(index < rows.p, ref_of(), 0.0)
            _add(next(outputs), jnp.sum(term, axis=0, keepdims=True), block)


def _add(ref, values, block) -> None:
    """Adds the values of a block to what the blocks before it have stored."""

    @pl.when(block == 0)
    def _():
        ref[...] = values

    @pl.when(block > 0)
    def _():
        ref[...] += values
