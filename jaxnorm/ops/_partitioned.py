"""How XLA partitions the primitives: each shard computes its part by a kernel.

A kernel is a black box in front of which XLA would gather the whole array. Here each primitive says
how its operands and results lie on the devices, and what each device computes.
"""

import functools
import math
from collections.abc import Mapping, Sequence

from jaxnorm import _internals, _partitioning
from jaxnorm._partitioning import Spec
from jaxnorm.ops import _shard_part
from jaxnorm.ops._blocks import in_blocks
from jaxnorm.ops._formulas import Problem
from jaxnorm.ops._operands import filled, present
from jaxnorm.ops._shard_part import Part
from jaxnorm.ops._shards import Along, Names, Place, cut_axis, sharding_rule
from jaxnorm.stats import measuring, sample_size
from jaxnorm.stats.sampling import Sampling
from jaxnorm.stats.whole import measure_p, plain_measure
from jaxnorm.typing import Shape


def standardize(ctx, *operands, problem: Problem, has):
    """Returns the results of `standardize_p` in a program that is being lowered.

    Args:
        ctx: the context of the lowering rule.
        *operands: as they are lowered.
        problem: a parameter of the primitive.
        has: the same.
    """
    x, residual, *parameters, step = filled(has, ctx.avals_in)
    shape = x.shape
    inputs: list[Place] = ["whole"] if residual is None else ["whole"] * 2
    steps: list[Place] = [] if step is None else ["statistic"]
    given: list[Place] = [*inputs, *(v.shape for v in present(parameters)), *steps]
    small = len(ctx.avals_out) - len(inputs)  # the sum of two arrays is returned as well
    results: list[Place] = [*inputs, *["statistic"] * small]

    def plan(spec: Spec, mesh: Mapping[str, int]):
        part = _part(shape, problem, spec, mesh)
        local = functools.partial(_shard_part.standardize, part=part, has=has)
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
    x, _, scale, bias = filled(has, ctx.avals_in)[4:8]
    shape, affine = x.shape, [() if v is None else v.shape for v in (scale, bias)]
    wholes, statistics = ["whole"] * 2, ["statistic"] * 3
    places = (*wholes, *statistics[:2], *wholes, *affine, *statistics)
    given = [place for place, there in zip(places, has, strict=True) if there]
    results = [*["whole"] * len(present(shapes[:2])), *present(shapes[2:])]

    def plan(spec: Spec, mesh: Mapping[str, int]):
        over = tuple(() if v is None else _shared_along(v, shape, spec) for v in shapes[2:])
        part = _part(shape, problem, spec, mesh)._replace(over=over)
        cut = [n // size for n, size in zip(shape, _counts(spec, mesh))]
        own = tuple(
            v and tuple(k if n == m else 1 for n, m, k in zip(v, shape, cut)) for v in shapes
        )
        local = functools.partial(_shard_part.cotangent, part=part, has=has, shapes=own)
        return local, _specs(given, shape, spec, part), _specs(results, shape, spec, part)

    rule = sharding_rule(given, results, shape, problem.stats_shape, _primes_of(ctx))
    return _partitioning.partitioned(ctx, operands, rule, plan, sum(has[:4]))


def measure(ctx, *operands, sampling: Sampling, epsilon: float | None):
    """Returns the results of `measure_p` in a program that is being lowered.

    Args:
        ctx: the context of the lowering rule.
        *operands: as they are lowered.
        sampling: a parameter of the primitive.
        epsilon: the same.
    """
    x, *weights = ctx.avals_in
    shape, problem = x.shape, Problem(sampling, epsilon, x.dtype)
    given: list[Place] = ["whole", *(Along(w.shape) for w in weights)]
    results: list[Place] = ["statistic"] * len(ctx.avals_out)

    def plan(spec: Spec, mesh: Mapping[str, int]):
        part = _part(shape, problem, spec, mesh)
        local = functools.partial(_shard_part.measured, part=part)
        return local, _specs(given, shape, spec, part), _specs(results, shape, spec, part)

    rule = sharding_rule(given, results, shape, sampling.stats_shape, _primes_of(ctx))
    return _partitioning.partitioned(ctx, operands, rule, plan, 0)


def lower_measure(platform: str) -> None:
    """Lets XLA partition `measure_p` on a platform as `measure` says, or take it in blocks.

    Args:
        platform: for example "cpu".
    """

    def rule(ctx, *operands, **params):
        if _partitioning.devices_to_partition(ctx) > 1:
            return measure(ctx, *operands, **params)
        blocks = _blocks_of(ctx, params["sampling"])
        plain = (
            functools.partial(_measured_in_blocks, blocks=blocks) if blocks > 1 else plain_measure
        )
        return _internals.traced(plain)(ctx, *operands, **params)

    _internals.lower(measure_p, platform, rule)


def _blocks_of(ctx, sampling: Sampling) -> int:
    if not sampling.center:
        return 1
    return _partitioning.blocks_of_batch(ctx, ctx.avals_in[0].shape, sampling.stats_shape)


def _measured_in_blocks(
    x, w=None, *, sampling: Sampling, epsilon: float | None, blocks: int
) -> list:
    own = functools.partial(measuring.measure, epsilon=epsilon)
    return list(in_blocks(own, sampling, x, w, blocks)[: 4 + (w is not None)])


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
    return [math.prod(mesh[name] for name in names) for names in spec]


def _specs(places: Sequence[Place], shape: Shape, spec: Spec, part: Part) -> list[Spec]:
    """Returns how arrays lie beside x, which lies as `spec` says."""
    known = {"whole": spec, "statistic": tuple(cut.kept for cut in part.cuts)}

    def of_parameter(affine: Shape) -> Spec:
        return tuple(names if n == m else () for n, m, names in zip(affine, shape, spec))

    shapes = [v.shape if isinstance(v, Along) else v for v in places]
    return [known[v] if isinstance(v, str) else of_parameter(v) for v in shapes]


def _shared_along(affine: Shape, shape: Shape, spec: Spec) -> Names:
    """Returns the mesh axes along which all shards have the same scale."""
    return tuple(name for n, m, names in zip(affine, shape, spec) if n != m for name in names)
