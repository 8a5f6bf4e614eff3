"""What each shard computes of a normalization whose array lies on several devices.

Where samples lie within shards nothing is exchanged, but sums for scale and bias. Where the mesh
cuts through samples, moments of blocks are gathered, which is one collective, and pooled. The
backward pass adds up two numbers for each statistic, which is one more.

Chan, Golub, LeVeque: Algorithms for computing the sample variance, The American Statistician, 1983.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxnorm.numerics import accumulation_dtype
from jaxnorm.ops import _formulas, _fusing
from jaxnorm.ops._formulas import Problem
from jaxnorm.ops._operands import filled, present, which
from jaxnorm.ops._primitives import cotangent_p, outputs, standardize_p, wide_dtype
from jaxnorm.ops._quantization import counted, step_of
from jaxnorm.ops._shards import blocks_of_groups, gathered_blocks, groups_of_blocks
from jaxnorm.stats.cutting import Cut, Names
from jaxnorm.stats.measuring import Measured, centered, measure, pool_gathered
from jaxnorm.stats.sums import block_max, block_sum, spread
from jaxnorm.typing import Array


class Part(NamedTuple):
    """What a shard knows of the whole."""

    problem: Problem  # the shard's, with a statistic for each of its blocks
    cuts: tuple[Cut, ...]  # of the axes of x
    count: int  # members of a sample, those of other shards among them
    over: tuple[Names, Names] = ((), ())  # the mesh axes that scale and bias are shared along

    @property
    def through(self) -> Names:
        return tuple(name for cut in self.cuts for name in cut.through)


def standardize(*operands, part: Part, has) -> list:
    """Returns a shard's part of what `standardize_p` does.

    Args:
        *operands: its part of those of the primitive.
        part: what it knows of the whole.
        has: a parameter of the primitive.
    """
    if not part.through:
        return standardize_p.bind(*operands, problem=part.problem, has=has)
    if part.problem.quantized:
        return _quantized(part, *filled(has, operands))
    bare = functools.partial(_shared, part=part)
    return _fusing.standardize(bare, *operands, problem=part.problem, has=has)


def _quantized(part: Part, x, residual, scale, bias, step) -> list:
    """Returns this shard's part of the results where shards share samples, counted in steps.

    The largest entries of the blocks are gathered, in which a NaN is the largest.
    """
    problem, cuts = part.problem, part.cuts
    wide = problem._replace(quantized=False, dtype=wide_dtype(problem, x))
    given = (x, residual, scale, bias, None)
    own = part._replace(problem=wide)
    y, *rest = standardize(*present(given), part=own, has=which(given))
    steps = []
    if step is None:
        (largest,) = gathered_blocks([block_max(jnp.abs(y), problem.stats_shape)], cuts)
        step = step_of(block_max(largest, tuple(cut.groups for cut in cuts)), problem.dtype)
        steps = [step]
    counts = counted(y, spread(blocks_of_groups(step, cuts), y.shape), problem.dtype)
    totals, statistics = (rest[:1], rest[1:]) if problem.sum else ([], rest)
    return [counts, *totals, *steps, *statistics]


def measured(x: Array, w: Array | None = None, *, part: Part) -> list:
    """Returns a shard's part of what `measure_p` does.

    Args:
        x: its part of the array.
        w: its part of the weights, or None.
        part: what it knows of the whole.
    """
    block = measure(part.problem.sampling, x, w, part.problem.epsilon)
    if part.through:
        block = _pooled(block, part)
    return list(block[: 4 + (w is not None)])


def _shared(*operands, problem: Problem, part: Part, has) -> list:
    """Returns this shard's part of the results where shards share samples."""
    part, cuts = part._replace(problem=problem), part.cuts
    assert problem.epsilon is not None  # the primitives take numbers
    x, _, scale, bias, _ = filled(has, operands)
    measured = _pooled(measure(problem.sampling, x, None, problem.epsilon), part)
    rstd = _formulas.reciprocal_std(measured, problem.epsilon, empty=False)
    location = (measured.mean, measured.tail) if problem.center else (None, None)
    mean, tail, gain = (_of_blocks(v, cuts) for v in (*location, rstd))
    y = _formulas.affine(centered(x, None, mean, tail), spread(gain, x.shape), scale, bias)
    return outputs(problem, y.astype(problem.dtype), measured, rstd)


def _pooled(block: Measured, part: Part) -> Measured:
    """Returns the moments of whole samples, from those of this shard's blocks."""
    groups = tuple(cut.groups for cut in part.cuts)
    gather = functools.partial(gathered_blocks, cuts=part.cuts)
    return pool_gathered(block, part.problem.center, groups, gather)


def _of_blocks(statistic: Array | None, cuts: Sequence[Cut]) -> Any:
    return None if statistic is None else blocks_of_groups(statistic, cuts)


def cotangent(*operands, part: Part, has, shapes) -> list:
    """Returns a shard's part of what `cotangent_p` does.

    Args:
        *operands: its part of those of the primitive.
        part: what it knows of the whole.
        has: a parameter of the primitive.
        shapes: the same, of its part.
    """
    values = filled(has, operands)
    *rest, rstd = values
    rest[8:] = [_of_blocks(v, part.cuts) for v in rest[8:]]
    own = (*rest, _of_blocks(rstd, part.cuts))
    if not part.through or (shapes[0] is None and shapes[1] is None):
        out = cotangent_p.bind(*present(own), problem=part.problem, has=has, shapes=shapes)
        *inputs, d_scale, d_bias = filled(which(shapes), out)
        return list(present((*inputs, *_added_up(zip((d_scale, d_bias), part.over, strict=True)))))
    bare = functools.partial(_coupled, part, rstd)
    return _fusing.cotangent(bare, *present(own), problem=part.problem, has=has, shapes=shapes)


def _coupled(part: Part, rstd, *operands, problem: Problem, has, shapes) -> list:
    """Returns this shard's part of the results where shards share samples.

    The closed form of `_xla_cpu.cotangent`; all sums over one set of mesh axes are one collective.

    Args:
        part: what it knows of the whole.
        rstd: [*groups], beside that of blocks.
        *operands: of a bare problem, statistics those of blocks.
        problem: the bare problem.
        has: which operands are there.
        shapes: of x, no residual, scale and bias, None where a cotangent is not wanted.
    """
    ct, _, ct_mean, ct_half, x, _, scale, _, mean, tail, gain = filled(has, operands)
    cuts, blocks, through = part.cuts, problem.stats_shape, part.through
    gain = spread(gain, x.shape)
    xhat = centered(x, None, mean, tail) * gain
    ct = ct.astype(accumulation_dtype(x.dtype))
    wanted = [(shape, over) for shape, over in zip(shapes[2:], part.over) if shape is not None]
    alike = all(shape == blocks and set(over) == set(through) for shape, over in wanted)
    alike &= all(cut.shards == 1 or cut.groups == 1 for cut in cuts)
    weight = 1.0 if scale is None else scale
    terms = (ct * xhat, ct)
    if wanted and alike and (scale is None or scale.shape == blocks):
        # Scale and bias belong to one statistic each: its sums are those of scale and bias.
        sums = _added_up((block_sum(v, blocks), through) for v in terms)
        pull, push = (weight * v for v in sums)
    else:
        samples = [groups_of_blocks(block_sum(v * weight, blocks), cuts) for v in terms]
        own = [None if s is None else block_sum(v, s) for v, s in zip(terms, shapes[2:])]
        axes = (through, through, *part.over)
        pull, push, *sums = _added_up(zip((*samples, *own), axes, strict=True))
    slope = ((0.0 if ct_half is None else ct_half) - rstd * pull) / part.count
    d_x = ct * weight * gain + xhat * spread(blocks_of_groups(slope, cuts), x.shape)
    if problem.center:
        d_mean = ((0.0 if ct_mean is None else ct_mean) - rstd * push) / part.count
        d_x = d_x + spread(blocks_of_groups(d_mean, cuts), x.shape)
    wanted = [v for v, shape in zip(sums, shapes[2:], strict=True) if shape is not None]
    return [d_x.astype(x.dtype), *wanted]


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
