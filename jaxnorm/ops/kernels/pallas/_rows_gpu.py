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

from jaxnorm.ops._activations import activated
from jaxnorm.ops._operands import filled, present, which
from jaxnorm.ops._quantization import step_of
from jaxnorm.ops.kernels.pallas import _sample
from jaxnorm.ops.kernels.pallas._around import Backward, Forward, behind_activation, finished
from jaxnorm.ops.kernels.pallas._blocks import PROGRAMS, Blocks, row_blocks
from jaxnorm.ops.kernels.pallas._call import call
from jaxnorm.ops.kernels.pallas._places import Places, program
from jaxnorm.ops.kernels.pallas._rows_gpu_sums import partial_sums
from jaxnorm.ops.kernels.pallas._targets import Target


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
    blocks: Blocks | None = None,
) -> list:
    """Returns what `_rows.Kernels.forward` does; `blocks` are those of `row_blocks` if None."""
    if blocks is None:
        blocks = row_blocks("rows forward", target, rows.a * rows.p, rows.m, x.dtype.itemsize)
    whole = blocks.length >= rows.m
    given = (around.residual, scale, bias, around.step)
    statistic = jax.ShapeDtypeStruct((rows.a, rows.p, rows.g), jnp.float32)
    kernel = functools.partial(
        _forward if whole else _forward_in_steps,
        rows,
        blocks,
        which(given),
        around.static,
        epsilon,
        center,
    )
    totals = [] if around.total is None else [jax.ShapeDtypeStruct(x.shape, around.total)]
    count = around.own_step + (4 if center else 2)
    out_shape = [jax.ShapeDtypeStruct(x.shape, dtype), *totals, *[statistic] * count]
    return call(
        kernel,
        target,
        grid=(pl.cdiv(rows.p, blocks.rows), rows.g, rows.a),
        in_specs=[pl.BlockSpec()] * (1 + len(present(given))),
        out_specs=[pl.BlockSpec()] * len(out_shape),
        out_shape=out_shape,
        warps=blocks.warps,
    )(x, *present(given))


def _forward(rows, blocks: Blocks, has, around: Forward, epsilon: float, center: bool, *refs):
    x_ref, residual_ref, *affine, step_ref, out = _taken((True, *has), refs)
    y_ref, total_ref, own_ref, kept = _outputs(around, out)
    me = program()
    at = Places(rows, blocks, me, me.index)
    x = _loaded(at, x_ref, residual_ref)
    if total_ref is not None:
        at.store(total_ref, x)
    pivot = _pivot(at, x_ref, residual_ref) if center else None
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
    z = _sample.placed(d, found, scale, bias)
    step = None if step_ref is None else at.statistic(step_ref)
    y, step = finished(around, y_ref.dtype, z, step, lambda v: _largest(at.inside(v)))
    at.store(y_ref, y)
    if own_ref is not None:
        at.store_statistic(own_ref, step)
    for ref, v in zip(kept, _kept(found), strict=True):
        at.store_statistic(ref, v)


def _forward_in_steps(
    rows, blocks: Blocks, has, around: Forward, epsilon: float, center: bool, *refs
):
    x_ref, residual_ref, *affine, step_ref, out = _taken((True, *has), refs)
    y_ref, total_ref, own_ref, kept = _outputs(around, out)
    n = pl.cdiv(rows.m, blocks.length)
    me = program()
    at = Places(rows, blocks, me, me.index)
    pivot = _pivot(at, x_ref, residual_ref) if center else None
    zero = jnp.zeros((1, blocks.length), jnp.float32)

    def largest_and_total(i, sums):
        here = at.step(i)
        x = _loaded(here, x_ref, residual_ref)
        if total_ref is not None:
            here.store(total_ref, x)
        largest, total = _about(pivot, here, x, rows.m)
        return jnp.maximum(sums[0], largest), sums[1] + total

    largest, total = lax.fori_loop(0, n, largest_and_total, (zero, zero))
    total = jnp.sum(total, axis=1, keepdims=True) if center else None
    known = _sample.first(_largest(largest), total, pivot, rows.m, epsilon)

    def total_and_squares(i, sums):
        here = at.step(i)
        d = here.inside(_sample.deviation(_loaded(here, x_ref, residual_ref), known))
        return sums[0] + d, sums[1] + d * d

    sums = lax.fori_loop(0, n, total_and_squares, (zero, zero))
    total, squares = (jnp.sum(v, axis=1, keepdims=True) for v in sums)
    found = _sample.second(total, squares, known, rows.m, epsilon)

    def placed(i):
        here = at.step(i)
        scale, bias = (None if ref is None else here.channels(ref) for ref in affine)
        d = _sample.deviation(_loaded(here, x_ref, residual_ref), known)
        return here, _sample.placed(d, found, scale, bias)

    def largest_output(i, largest):
        here, z = placed(i)
        y = activated(around.activation, z)
        return jnp.maximum(largest, here.inside(jnp.abs(y)))

    step = None if step_ref is None else at.statistic(step_ref)
    if own_ref is not None:
        largest = _largest(lax.fori_loop(0, n, largest_output, zero))
        step = step_of(largest, y_ref.dtype)
        at.store_statistic(own_ref, step)

    def place(i, carry):
        here, z = placed(i)
        here.store(y_ref, finished(around, y_ref.dtype, z, step, _largest)[0])
        return carry

    lax.fori_loop(0, n, place, 0)
    for ref, v in zip(kept, _kept(found), strict=True):
        at.store_statistic(ref, v)


def _loaded(at: Places, x_ref, residual_ref):
    """Returns what is normalized, of some rows."""
    x = at.load(x_ref)
    return x if residual_ref is None else x + at.load(residual_ref)


def _pivot(at: Places, x_ref, residual_ref):
    """Returns one member of each row of what is normalized."""
    x = at.pivot(x_ref)
    return x if residual_ref is None else x + at.pivot(residual_ref)


def _largest(values):
    return jnp.max(values, axis=1, keepdims=True)


def _outputs(around: Forward, refs: tuple) -> list:
    """Returns the references to y, the sum, the step and the statistics."""
    *out, statistics = _taken((True, around.total is not None, around.own_step), refs)
    return [*out, statistics]


def _about(pivot, at: Places, x, count: int):
    """Returns the size of each `x - pivot`, and `x - pivot` as `_sample.first` wants it summed."""
    d = x if pivot is None else at.inside(x - pivot)
    return jnp.abs(d), d * _sample.share(count)[0]


def _kept(found: _sample.Statistics) -> list:
    location = [] if found.mean is None else [found.mean, found.tail]
    return [*location, found.var, found.rstd]


def _taken(has: tuple[bool, ...], refs: tuple) -> list:
    """Returns the references to what may be missing, None for what is, and last the others."""
    return [*filled(has, refs), refs[sum(has) :]]


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
    blocks: Blocks | None = None,
) -> list:
    """Returns what `_rows.Kernels.backward` does; `blocks` are those of `row_blocks` if None."""
    statistics = (mean, tail, rstd)
    if blocks is None:
        blocks = row_blocks("rows backward", target, rows.a * rows.p, rows.m, x.dtype.itemsize)
    whole = blocks.length >= rows.m
    d_x, sums = None, [None, None]
    if wanted[0]:
        with_sums = wanted[1:] if whole else (False, False)
        given = (around.residual, around.ct_total, scale, around.bias, *statistics)
        given = (*given, ct_mean, ct_half)
        d_x, found = _input(rows, blocks, ct, x, given, with_sums, target, around)
        sums = filled(with_sums, [v.sum(axis=1) for v in found])
    missing = (wanted[1] and sums[0] is None, wanted[2] and sums[1] is None)
    if any(missing):
        given = (around.residual, scale, around.bias, *statistics)
        found = partial_sums(rows, ct, x, given, missing, target, around.activation)
        sums = filled(missing, [v.sum(axis=1) for v in found])
    return [d_x, *sums]


def _input(
    rows, blocks: Blocks, ct, x, given, sums: tuple[bool, bool], target: Target, around: Backward
) -> tuple[list, list]:
    """Returns the cotangent of x in each dtype, and the partial sums that are asked for.

    `given` are the residual, the cotangent of the sum, scale, bias and the statistics.
    """
    whole = blocks.length >= rows.m
    taken = pl.cdiv(rows.p, blocks.rows)
    # Each program adds up over several blocks: what it writes is then little beside what it reads.
    turns = pl.cdiv(taken, max(1, PROGRAMS // (rows.g * rows.a))) if any(sums) else 1
    programs = pl.cdiv(taken, turns)
    partial = jax.ShapeDtypeStruct((rows.a, programs, rows.g * rows.m), jnp.float32)
    dtypes = around.dtypes or (x.dtype,)
    kernel = functools.partial(
        _backward if whole else _backward_in_steps,
        rows,
        blocks,
        turns,
        which(given),
        around.activation,
        (len(dtypes), sums),
    )
    out_shape = [jax.ShapeDtypeStruct(x.shape, d) for d in dtypes] + [partial] * sum(sums)
    out = call(
        kernel,
        target,
        grid=(programs, rows.g, rows.a),
        in_specs=[pl.BlockSpec()] * (2 + len(present(given))),
        out_specs=[pl.BlockSpec()] * len(out_shape),
        out_shape=out_shape,
        warps=blocks.warps,
    )(ct, x, *present(given))
    return out[: len(dtypes)], out[len(dtypes) :]


def _backward(rows, blocks: Blocks, turns: int, has, activation, asked, ct_ref, x_ref, *refs):
    (residual_ref, total_ref, scale_ref, bias_ref, *small, out) = _taken(has, refs)
    (copies, sums), me = asked, program()
    zero = jnp.zeros((blocks.rows, blocks.length), jnp.float32)

    def turn(i, added):
        at = Places(rows, blocks, me, me.index * turns + i)
        mean, tail, rstd, *cts = (None if r is None else at.statistic(r) for r in small)
        scale, bias = (None if r is None else at.channels(r) for r in (scale_ref, bias_ref))
        x = _loaded(at, x_ref, residual_ref)
        xhat = at.inside(_sample.standardized(x, mean, tail, rstd))
        ct = behind_activation(activation, at.load(ct_ref), xhat, scale, bias)
        inner = ct if scale is None else ct * scale
        of_ct = None if mean is None else jnp.sum(inner, axis=1, keepdims=True)
        of_product = jnp.sum(inner * xhat, axis=1, keepdims=True)
        d_x = _sample.pulled_back(inner, xhat, (of_ct, of_product), rstd, cts, rows.m)
        _store(at, out[:copies], d_x, total_ref)
        terms = [v for v, asked in zip((ct * xhat, ct), sums) if asked]
        return tuple(total + term for total, term in zip(added, terms, strict=True))

    added = lax.fori_loop(0, turns, turn, (zero,) * sum(sums))
    at = Places(rows, blocks, me, 0)
    for ref, v in zip(out[copies:], added, strict=True):
        at.store_partial(ref, jnp.sum(v, axis=0, keepdims=True))


def _store(at: Places, refs, d_x, total_ref) -> None:
    """Stores the cotangent of what was normalized, with that of the sum itself."""
    d_x = d_x if total_ref is None else d_x + at.load(total_ref)
    for ref in refs:
        at.store(ref, d_x)


def _backward_in_steps(
    rows, blocks: Blocks, turns: int, has, activation, asked, ct_ref, x_ref, *refs
):
    (residual_ref, total_ref, scale_ref, bias_ref, *small, out) = _taken(has, refs)
    n = pl.cdiv(rows.m, blocks.length)
    me = program()
    at = Places(rows, blocks, me, me.index)
    mean, tail, rstd, *cts = (None if r is None else at.statistic(r) for r in small)
    zero = jnp.zeros((1, blocks.length), jnp.float32)

    def parts(i):
        here = at.step(i)
        x = _loaded(here, x_ref, residual_ref)
        xhat = here.inside(_sample.standardized(x, mean, tail, rstd))
        scale, bias = (None if r is None else here.channels(r) for r in (scale_ref, bias_ref))
        ct = behind_activation(activation, here.load(ct_ref), xhat, scale, bias)
        return here, xhat, ct if scale is None else ct * scale

    def add(i, totals):
        _, xhat, inner = parts(i)
        return totals[0] + inner, totals[1] + inner * xhat

    totals = lax.fori_loop(0, n, add, (zero, zero))
    of_ct, of_product = (jnp.sum(v, axis=1, keepdims=True) for v in totals)
    of_ct = None if mean is None else of_ct

    def place(i, carry):
        here, xhat, inner = parts(i)
        d_x = _sample.pulled_back(inner, xhat, (of_ct, of_product), rstd, cts, rows.m)
        _store(here, out, d_x, total_ref)
        return carry

    lax.fori_loop(0, n, place, 0)
