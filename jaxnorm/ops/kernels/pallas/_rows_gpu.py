"""The kernels over rows for a GPU, in Triton.

Triton wants every block's size to be a power of two, so blocks reach past a row and past the last
row, and what is loaded and stored is masked. Programs run in any order: partial sums of scale and
bias are outputs of their own, which XLA adds up.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jaxnorm.ops._primitives import filled
from jaxnorm.ops.kernels.pallas import _sample
from jaxnorm.ops.kernels.pallas._blocks import PROGRAMS, Blocks, power_above, row_blocks
from jaxnorm.ops.kernels.pallas._call import call
from jaxnorm.ops.kernels.pallas._places import Places, program
from jaxnorm.ops.kernels.pallas._targets import Target

COLUMNS = 64  # entries of a row, and
TALL = 32  # rows, that a program takes at a time where it adds up over rows


def forward(
    rows, x, scale, bias, *, epsilon, center, dtype, target: Target, blocks: Blocks | None = None
) -> list:
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
        blocks: the size of the blocks; that of `row_blocks` if None.

    Returns:
        y [a, p, g m], then mean, tail (where centred), var and rstd [a, p, g] in float32.
    """
    if blocks is None:
        blocks = row_blocks("rows forward", target, rows.a * rows.p, rows.m, x.dtype.itemsize)
    whole = blocks.length >= rows.m
    given = [v for v in (scale, bias) if v is not None]
    statistic = jax.ShapeDtypeStruct((rows.a, rows.p, rows.g), jnp.float32)
    kernel = functools.partial(
        _forward if whole else _forward_in_steps,
        rows,
        blocks,
        (scale is not None, bias is not None),
        epsilon,
        center,
    )
    count = 4 if center else 2
    return call(
        kernel,
        target,
        grid=(pl.cdiv(rows.p, blocks.rows), rows.g, rows.a),
        in_specs=[pl.BlockSpec()] * (1 + len(given)),
        out_specs=[pl.BlockSpec()] * (1 + count),
        out_shape=[jax.ShapeDtypeStruct(x.shape, dtype), *[statistic] * count],
        warps=blocks.warps,
    )(x, *given)


def _forward(rows, blocks: Blocks, has, epsilon: float, center: bool, x_ref, *refs):
    affine, (y_ref, *out) = _affine(has, refs)
    me = program()
    at = Places(rows, blocks, me, me.index)
    x = at.load(x_ref)
    pivot = at.pivot(x_ref) if center else None
    largest, total = _about(pivot, at, x, rows.m)
    known = _sample.first(
        jnp.max(largest, axis=1, keepdims=True),
        jnp.sum(total, axis=1, keepdims=True) if center else None,
        pivot,
        rows.m,
        epsilon,
    )
    d = at.inside(_sample.deviation(x, known))
    total, squares = (jnp.sum(v, axis=1, keepdims=True) for v in (d, d * d))
    found = _sample.second(total, squares, known, rows.m, epsilon)
    scale, bias = (None if ref is None else at.channels(ref) for ref in affine)
    at.store(y_ref, _sample.placed(d, found, scale, bias))
    for ref, v in zip(out, _kept(found), strict=True):
        at.store_statistic(ref, v)


def _forward_in_steps(rows, blocks: Blocks, has, epsilon: float, center: bool, x_ref, *refs):
    affine, (y_ref, *out) = _affine(has, refs)
    n = pl.cdiv(rows.m, blocks.length)
    me = program()
    at = Places(rows, blocks, me, me.index)
    pivot = at.pivot(x_ref) if center else None
    zero = jnp.zeros((1, blocks.length), jnp.float32)

    def largest_and_total(i, sums):
        here = at.step(i)
        largest, total = _about(pivot, here, here.load(x_ref), rows.m)
        return jnp.maximum(sums[0], largest), sums[1] + total

    largest, total = lax.fori_loop(0, n, largest_and_total, (zero, zero))
    total = jnp.sum(total, axis=1, keepdims=True) if center else None
    largest = jnp.max(largest, axis=1, keepdims=True)
    known = _sample.first(largest, total, pivot, rows.m, epsilon)

    def total_and_squares(i, sums):
        here = at.step(i)
        d = here.inside(_sample.deviation(here.load(x_ref), known))
        return sums[0] + d, sums[1] + d * d

    sums = lax.fori_loop(0, n, total_and_squares, (zero, zero))
    total, squares = (jnp.sum(v, axis=1, keepdims=True) for v in sums)
    found = _sample.second(total, squares, known, rows.m, epsilon)

    def place(i, carry):
        here = at.step(i)
        scale, bias = (None if ref is None else here.channels(ref) for ref in affine)
        d = _sample.deviation(here.load(x_ref), known)
        here.store(y_ref, _sample.placed(d, found, scale, bias))
        return carry

    lax.fori_loop(0, n, place, 0)
    for ref, v in zip(out, _kept(found), strict=True):
        at.store_statistic(ref, v)


def _about(pivot, at: Places, x, count: int):
    """Returns the size of each `x - pivot`, and `x - pivot` as `_sample.first` wants it summed."""
    d = x if pivot is None else at.inside(x - pivot)
    return jnp.abs(d), d * _sample.share(count)[0]


def _kept(found: _sample.Statistics) -> list:
    location = [] if found.mean is None else [found.mean, found.tail]
    return [*location, found.var, found.rstd]


def _affine(has: tuple[bool, ...], refs: tuple) -> tuple[list, tuple]:
    """Returns the references to what may be missing, None for what is, and the rest."""
    rest = iter(refs)
    return [next(rest) if there else None for there in has], tuple(rest)


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
    blocks: Blocks | None = None,
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
        target: what the kernels are compiled for.
        blocks: the size of the blocks; that of `row_blocks` if None.

    Returns:
        [a, p, g m] of the dtype of x, and two of [a, g m] in float32; None where not wanted.
    """
    small = (scale, mean, tail, rstd, ct_mean, ct_half)
    if blocks is None:
        blocks = row_blocks("rows backward", target, rows.a * rows.p, rows.m, x.dtype.itemsize)
    whole = blocks.length >= rows.m
    d_x, sums = None, [None, None]
    if wanted[0]:
        with_sums = wanted[1:] if whole else (False, False)
        d_x, *found = _input(rows, blocks, ct, x, small, with_sums, target)
        sums = filled(with_sums, [v.sum(axis=1) for v in found])
    missing = (wanted[1] and sums[0] is None, wanted[2] and sums[1] is None)
    if any(missing):
        found = _parameters(rows, ct, x, small[1:4], missing, target)
        sums = filled(missing, [v.sum(axis=1) for v in found])
    return [d_x, *sums]


def _input(rows, blocks: Blocks, ct, x, small, sums: tuple[bool, bool], target: Target) -> list:
    """Returns the cotangent of x, and the partial sums of scale and bias that are asked for."""
    whole = blocks.length >= rows.m
    taken = pl.cdiv(rows.p, blocks.rows)
    # Each program adds up over several blocks: what it writes is then little beside what it reads.
    turns = pl.cdiv(taken, max(1, PROGRAMS // (rows.g * rows.a))) if any(sums) else 1
    programs = pl.cdiv(taken, turns)
    given = [v for v in small if v is not None]
    partial = jax.ShapeDtypeStruct((rows.a, programs, rows.g * rows.m), jnp.float32)
    kernel = functools.partial(
        _backward if whole else _backward_in_steps,
        rows,
        blocks,
        turns,
        tuple(v is not None for v in small),
        sums,
    )
    out_shape = [jax.ShapeDtypeStruct(x.shape, x.dtype), *[partial] * sum(sums)]
    return call(
        kernel,
        target,
        grid=(programs, rows.g, rows.a),
        in_specs=[pl.BlockSpec()] * (2 + len(given)),
        out_specs=[pl.BlockSpec()] * len(out_shape),
        out_shape=out_shape,
        warps=blocks.warps,
    )(ct, x, *given)


def _backward(rows, blocks: Blocks, turns: int, has, sums, ct_ref, x_ref, *refs):
    (scale_ref, *small), (dx_ref, *out) = _affine(has, refs)
    me = program()
    zero = jnp.zeros((blocks.rows, blocks.length), jnp.float32)

    def turn(i, added):
        at = Places(rows, blocks, me, me.index * turns + i)
        mean, tail, rstd, *cts = (None if r is None else at.statistic(r) for r in small)
        scale = None if scale_ref is None else at.channels(scale_ref)
        ct = at.load(ct_ref)
        xhat = at.inside(_sample.standardized(at.load(x_ref), mean, tail, rstd))
        inner = ct if scale is None else ct * scale
        of_ct = None if mean is None else jnp.sum(inner, axis=1, keepdims=True)
        of_product = jnp.sum(inner * xhat, axis=1, keepdims=True)
        d_x = _sample.pulled_back(inner, xhat, (of_ct, of_product), rstd, cts, rows.m)
        at.store(dx_ref, d_x)
        terms = [v for v, asked in zip((ct * xhat, ct), sums) if asked]
        return tuple(total + term for total, term in zip(added, terms, strict=True))

    added = lax.fori_loop(0, turns, turn, (zero,) * sum(sums))
    at = Places(rows, blocks, me, 0)
    for ref, v in zip(out, added, strict=True):
        at.store_partial(ref, jnp.sum(v, axis=0, keepdims=True))


def _backward_in_steps(rows, blocks: Blocks, turns: int, has, sums, ct_ref, x_ref, *refs):
    (scale_ref, *small), (dx_ref,) = _affine(has, refs)
    n = pl.cdiv(rows.m, blocks.length)
    me = program()
    at = Places(rows, blocks, me, me.index)
    mean, tail, rstd, *cts = (None if r is None else at.statistic(r) for r in small)
    zero = jnp.zeros((1, blocks.length), jnp.float32)

    def parts(i):
        here = at.step(i)
        xhat = here.inside(_sample.standardized(here.load(x_ref), mean, tail, rstd))
        ct = here.load(ct_ref)
        return here, xhat, ct if scale_ref is None else ct * here.channels(scale_ref)

    def add(i, totals):
        _, xhat, inner = parts(i)
        return totals[0] + inner, totals[1] + inner * xhat

    totals = lax.fori_loop(0, n, add, (zero, zero))
    of_ct, of_product = (jnp.sum(v, axis=1, keepdims=True) for v in totals)
    of_ct = None if mean is None else of_ct

    def place(i, carry):
        here, xhat, inner = parts(i)
        d_x = _sample.pulled_back(inner, xhat, (of_ct, of_product), rstd, cts, rows.m)
        here.store(dx_ref, d_x)
        return carry

    lax.fori_loop(0, n, place, 0)


def _parameters(rows, ct, x, statistics, wanted: tuple[bool, bool], target: Target) -> list:
    """Returns partial sums of scale and bias, [a, parts, g m], each over some of the rows."""
    width = min(COLUMNS, power_above(rows.m))
    blocks = Blocks(min(TALL, power_above(rows.p)), width, 4)
    across = pl.cdiv(rows.m, width)
    taken = pl.cdiv(rows.p, blocks.rows)
    turns = pl.cdiv(taken, max(1, PROGRAMS // (across * rows.g * rows.a)))
    programs = pl.cdiv(taken, turns)
    given = [v for v in statistics if v is not None]
    has = tuple(v is not None for v in statistics)
    partial = jax.ShapeDtypeStruct((rows.a, programs, rows.g * rows.m), jnp.float32)
    return call(
        functools.partial(_sums, rows, blocks, turns, has, wanted),
        target,
        grid=(programs, rows.g * across, rows.a),
        in_specs=[pl.BlockSpec()] * (2 + len(given)),
        out_specs=[pl.BlockSpec()] * sum(wanted),
        out_shape=[partial] * sum(wanted),
        warps=blocks.warps,
    )(ct, x, *given)


def _sums(rows, blocks: Blocks, turns: int, has, wanted, ct_ref, x_ref, *refs):
    small, out = _affine(has, refs)
    across = pl.cdiv(rows.m, blocks.length)
    me = program()
    me, step = me._replace(group=me.group // across), me.group % across
    zero = jnp.zeros((blocks.rows, blocks.length), jnp.float32)

    def turn(i, added):
        at = Places(rows, blocks, me, me.index * turns + i, step)
        mean, tail, rstd = (None if r is None else at.statistic(r) for r in small)
        ct = at.load(ct_ref)
        xhat = at.inside(_sample.standardized(at.load(x_ref), mean, tail, rstd))
        terms = [v for v, asked in zip((ct * xhat, ct), wanted) if asked]
        return tuple(total + term for total, term in zip(added, terms, strict=True))

    added = lax.fori_loop(0, turns, turn, (zero,) * sum(wanted))
    at = Places(rows, blocks, me, 0, step)
    for ref, v in zip(out, added, strict=True):
        at.store_partial(ref, jnp.sum(v, axis=0, keepdims=True))
