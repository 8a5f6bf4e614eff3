"""Sums over the columns of rows that are too long for sums beside them, on a GPU."""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl

from jaxnorm.ops._operands import filled, present, which
from jaxnorm.ops.kernels.pallas import _sample
from jaxnorm.ops.kernels.pallas._around import behind_activation
from jaxnorm.ops.kernels.pallas._blocks import PROGRAMS, Blocks, power_above
from jaxnorm.ops.kernels.pallas._call import call
from jaxnorm.ops.kernels.pallas._places import Places, program
from jaxnorm.ops.kernels.pallas._targets import Target

COLUMNS = 64  # entries of a row, and
TALL = 32  # rows, that a program takes at a time


def partial_sums(
    rows, ct, x, given, wanted: tuple[bool, bool], target: Target, activation: str | None
) -> list:
    """Returns sums of what scale and bias are multiplied with and added to, each over some rows.

    Args:
        rows: `_rows.Rows`.
        ct: [a, p, g m], the cotangent of y.
        x: [a, p, g m].
        given: the residual like x, scale and bias [a, g m], mean, tail and rstd [a, p, g]; each
            may be None.
        wanted: which of the two.
        target: what the kernel is compiled for.
        activation: behind scale and bias.

    Returns:
        [a, parts, g m] in float32 for each that is wanted.
    """
    if activation is None:
        given = (given[0], None, None, *given[3:])
    width = min(COLUMNS, power_above(rows.m))
    blocks = Blocks(min(TALL, power_above(rows.p)), width, 4)
    across = pl.cdiv(rows.m, width)
    taken = pl.cdiv(rows.p, blocks.rows)
    turns = pl.cdiv(taken, max(1, PROGRAMS // (across * rows.g * rows.a)))
    programs = pl.cdiv(taken, turns)
    partial = jax.ShapeDtypeStruct((rows.a, programs, rows.g * rows.m), jnp.float32)
    return call(
        functools.partial(_sums, rows, blocks, turns, which(given), wanted, activation),
        target,
        grid=(programs, rows.g * across, rows.a),
        in_specs=[pl.BlockSpec()] * (2 + len(present(given))),
        out_specs=[pl.BlockSpec()] * sum(wanted),
        out_shape=[partial] * sum(wanted),
        warps=blocks.warps,
    )(ct, x, *present(given))


def _sums(rows, blocks: Blocks, turns: int, has, wanted, activation, ct_ref, x_ref, *refs):
    residual_ref, scale_ref, bias_ref, *small = filled(has, refs)
    out = refs[sum(has) :]
    across = pl.cdiv(rows.m, blocks.length)
    me = program()
    me, step = me._replace(group=me.group // across), me.group % across
    zero = jnp.zeros((blocks.rows, blocks.length), jnp.float32)

    def turn(i, added):
        at = Places(rows, blocks, me, me.index * turns + i, step)
        mean, tail, rstd = (None if r is None else at.statistic(r) for r in small)
        scale, bias = (None if r is None else at.channels(r) for r in (scale_ref, bias_ref))
        x = at.load(x_ref)
        x = x if residual_ref is None else x + at.load(residual_ref)
        xhat = at.inside(_sample.standardized(x, mean, tail, rstd))
        ct = behind_activation(activation, at.load(ct_ref), xhat, scale, bias)
        terms = [v for v, asked in zip((ct * xhat, ct), wanted) if asked]
        return tuple(total + term for total, term in zip(added, terms, strict=True))

    added = lax.fori_loop(0, turns, turn, (zero,) * sum(wanted))
    at = Places(rows, blocks, me, 0, step)
    for ref, v in zip(out, added, strict=True):
        at.store_partial(ref, jnp.sum(v, axis=0, keepdims=True))
