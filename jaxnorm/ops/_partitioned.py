"""The primitives in a program that XLA partitions: each shard computes its part, if it can by kernel.

A kernel is a black box in front of which XLA would gather the whole array. Here each primitive says
how it is partitioned. Where samples lie within shards nothing is exchanged. Where the mesh cuts
through samples, moments of blocks are gathered, in one collective, and pooled (Chan, Golub, LeVeque:
Algorithms for computing the sample variance, The American Statistician, 1983). The backward pass
adds up two numbers for each statistic, in one more.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxnorm import _partitioning
from jaxnorm._partitioning import Spec
from jaxnorm.numerics import accumulation_dtype
from jaxnorm.ops import _formulas
from jaxnorm.ops._formulas import Problem
from jaxnorm.ops._primitives import cotangent_p, filled, outputs, present, standardize_p
from jaxnorm.ops._shards import (
    Cut,
    Names,
    blocks_of_groups,
    cut_axis,
    gathered_blocks,
    groups_of_blocks,
    sharding_rule,
)
from jaxnorm.stats import sample_size
from jaxnorm.stats.measuring import Measured, centered, measure, pool_measured
from jaxnorm.stats.sums import block_sum, spread
from jaxnorm.typing import Array, Shape


class Part(NamedTuple):
    """What a shard knows of the whole."""

    problem: Problem  # the shard's, with a statistic for each of its blocks
    cuts: tuple[Cut, ...]  # of the axes of x
    count: int  # members of a sample, those of other shards among them
    over: tuple[Names, Names] = ((), ())  # the mesh axes that scale and bias are shared along

    @property
    def through(self) -> Names:
        return tuple(name for cut in self.cuts for name in cut.through)


def standardize(ctx, *operands, problem: Problem, has):
    """Returns the results of `standardize_p` in a program that is being lowered.

    Args:
        ctx: the context of the lowering rule.
        *operands: as they are lowered.
        problem: a parameter of the primitive.
        has: the same.
    """
    given = [v.shape for v in ctx.avals_in]
    shape = given[0]
    results = [shape, *[None] * (4 if problem.center else 2)]

    def plan(spec: Spec, mesh: Mapping[str, int]):
        part = _part(shape, problem, spec, mesh)
        local = functools.partial(_standardize, part=part, has=has)
        return local, _specs(given, shape, spec, part), _specs(results, shape, spec, part)

    rule = sharding_rule(given, results, shape, problem.stats_shape, _primes_of(ctx))
    return _partitioning.partitioned(ctx, operands, rule, plan, 0)


def cotangent(ctx, *operands, problem: Problem, has, shapes):
    """Returns the results of `cotangent_p` in a program that is being lowered.

    Args:
        ctx: the context of the lowering rule.
        *operands: as they are lowered.
        problem: a parameter of the primitive.
        has: the same.
        shapes: the same.
    """
    _, _, _, x, scale, *_ = filled(has, ctx.avals_in)
    shape, affine = x.shape, None if scale is None else scale.shape
    places = (shape, None, None, shape, affine, None, None, None)
    given = [place for place, there in zip(places, has, strict=True) if there]
    results = present(shapes)

    def plan(spec: Spec, mesh: Mapping[str, int]):
        over = tuple(() if v is None else _shared_along(v, shape, spec) for v in shapes[1:])
        part = _part(shape, problem, spec, mesh)._replace(over=over)
        cut = [n // size for n, size in zip(shape, _counts(spec, mesh))]
        own = tuple(
            v and tuple(k if n == m else 1 for n, m, k in zip(v, shape, cut)) for v in shapes
        )
        local = functools.partial(_cotangent, part=part, has=has, shapes=own)
        return local, _specs(given, shape, spec, part), _specs(results, shape, spec, part)

    rule = sharding_rule(given, results, shape, problem.stats_shape, _primes_of(ctx))
    return _partitioning.partitioned(ctx, operands, rule, plan, sum(has[:3]))


def _primes_of(ctx) -> list[int]:
    return _partitioning.primes(_partitioning.devices_to_partition(ctx))


def _part(shape: Shape, problem: Problem, spec: Spec, mesh: Mapping[str, int]) -> Part:
    """Returns what each shard of an array that lies as `spec` says has to know."""
    stats_shape = problem.stats_shape
    axes = zip(shape, stats_shape, spec, strict=True)
    cuts = tuple(cut_axis(n, s, names, mesh) for n, s, names in axes)
    sampling = problem.sampling._replace(stats_shape=tuple(cut.blocks for cut in cuts))
    return Part(problem._replace(sampling=sampling), cuts, sample_size(shape, stats_shape))


def _counts(spec: Spec, mesh: Mapping[str, int]) -> list[int]:
    return [functools.reduce(lambda n, name: n * mesh[name], names, 1) for names in spec]


def _specs(shapes: Sequence[Shape | None], shape: Shape, spec: Spec, part: Part) -> list[Spec]:
    """Returns how arrays lie beside x; a shape that is None is that of the statistics."""
    of_statistics = tuple(cut.kept for cut in part.cuts)
    return [
        of_statistics
        if v is None
        else tuple(names if n == m else () for n, m, names in zip(v, shape, spec))
        for v in shapes
    ]


def _shared_along(affine: Shape, shape: Shape, spec: Spec) -> Names:
    """Returns the mesh axes along which all shards have the same scale."""
    return tuple(name for n, m, names in zip(affine, shape, spec) if n != m for name in names)


def _standardize(*operands, part: Part, has) -> list:
    """Returns this shard's part of the results."""
    if not part.through:
        return standardize_p.bind(*operands, problem=part.problem, has=has)
    problem, cuts = part.problem, part.cuts
    assert problem.epsilon is not None  # the primitives take numbers
    x, scale, bias = filled(has, operands)
    measured = _pooled(measure(problem.sampling, x, None, problem.epsilon), part)
    rstd = _formulas.reciprocal_std(measured, problem.epsilon, empty=False)
    location = (measured.mean, measured.tail) if problem.center else (None, None)
    mean, tail, gain = (_of_blocks(v, cuts) for v in (*location, rstd))
    y = _formulas.affine(centered(x, None, mean, tail), spread(gain, x.shape), scale, bias)
    return outputs(problem, y.astype(problem.dtype), measured, rstd)


def _pooled(block: Measured, part: Part) -> Measured:
    """Returns the moments of whole samples, from those of this shard's blocks."""
    rows = list(block[:4] if part.problem.center else block[2:4])
    *location, var, unit = gathered_blocks(rows, part.cuts)
    mean, tail = location or (jnp.zeros_like(var), jnp.zeros_like(var))
    every = Measured(mean, tail, var, unit, block.count)
    return pool_measured(every, tuple(cut.groups for cut in part.cuts))


def _of_blocks(statistic: Array | None, cuts: Sequence[Cut]) -> Any:
    return None if statistic is None else blocks_of_groups(statistic, cuts)


def _cotangent(*operands, part: Part, has, shapes) -> list:
    """Returns this shard's part of the results; `shapes` are those of its part."""
    values = filled(has, operands)
    if part.through and shapes[0] is not None:
        d_x, d_affine = _coupled(*values, part=part, shapes=shapes)
        return [d_x, *present(d_affine)]
    ct_y, ct_mean, ct_half, x, scale, *statistics = values
    statistics = [_of_blocks(v, part.cuts) for v in statistics]
    own = present((ct_y, ct_mean, ct_half, x, scale, *statistics))
    out = cotangent_p.bind(*own, problem=part.problem, has=has, shapes=shapes)
    d_x, *d_affine = filled(tuple(v is not None for v in shapes), out)
    d_affine = _added_up(zip(d_affine, part.over, strict=True))
    return list(present((d_x, *d_affine)))


def _coupled(ct, ct_mean, ct_half, x, scale, mean, tail, rstd, *, part: Part, shapes):
    """Returns the cotangents of x, and of scale and bias, where shards share samples.

    The closed form of `_xla_cpu.cotangent`; all sums over one set of mesh axes are one collective.
    """
    cuts, blocks, through = part.cuts, part.problem.stats_shape, part.through
    mean, tail, gain = (_of_blocks(v, cuts) for v in (mean, tail, rstd))
    gain = spread(gain, x.shape)
    xhat = centered(x, None, mean, tail) * gain
    ct = ct.astype(accumulation_dtype(x.dtype))
    wanted = [(shape, over) for shape, over in zip(shapes[1:], part.over) if shape is not None]
    alike = all(shape == blocks and set(over) == set(through) for shape, over in wanted)
    weight = 1.0 if scale is None else scale
    if wanted and alike and (scale is None or scale.shape == blocks):
        # Scale and bias belong to one statistic each: its sums are those of scale and bias.
        sums = _added_up((block_sum(v, blocks), through) for v in (ct * xhat, ct))
        pull, push = (weight * v for v in sums)
    else:
        weighted = ct * weight
        products = [groups_of_blocks(block_sum(v, blocks), cuts) for v in (weighted * xhat, weighted)]
        own = [v if shape is None else block_sum(v, shape) for v, shape in zip((ct * xhat, ct), shapes[1:])]
        pull, push, *sums = _added_up(zip((*products, *own), (through, through, *part.over)))
    slope = ((0.0 if ct_half is None else ct_half) - rstd * pull) / part.count
    d_x = ct * weight * gain + xhat * spread(blocks_of_groups(slope, cuts), x.shape)
    if part.problem.center:
        d_mean = ((0.0 if ct_mean is None else ct_mean) - rstd * push) / part.count
        d_x = d_x + spread(blocks_of_groups(d_mean, cuts), x.shape)
    d_affine = [None if shape is None else v for v, shape in zip(sums, shapes[1:])]
    return d_x.astype(x.dtype), d_affine


def _added_up(pairs) -> list:
    """Returns each array's sum over its mesh axes, with one collective for each set of axes."""
    values, axes = map(list, zip(*pairs, strict=True))
    for names in dict.fromkeys(frozenset(a) for a, v in zip(axes, values) if v is not None and a):
        chosen = [i for i, v in enumerate(values) if v is not None and frozenset(axes[i]) == names]
        flat = jnp.concatenate([values[i].reshape(-1) for i in chosen])
        total = lax.psum(flat, tuple(sorted(names)))
        for i in chosen:
            size = values[i].size
            values[i], total = total[:size].reshape(values[i].shape), total[size:]
    return values
