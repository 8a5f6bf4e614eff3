"""How the primitives are partitioned: each shard computes its part by a kernel.

A kernel is a black box in front of which XLA would gather the whole array. Here each primitive says
how its operands and results lie on the devices, and what each device computes. On a mesh with
explicit axes that is known as the program is lowered. On others XLA calls back when it has decided
how the operands lie.
"""

import functools
import math
from collections.abc import Mapping, Sequence

from jaxnorm import _explicit, _internals, _partitioning
from jaxnorm._partitioning import Plan, Spec
from jaxnorm.ops import _shard_part
from jaxnorm.ops._blocks import blocks_of, in_blocks
from jaxnorm.ops._formulas import Problem
from jaxnorm.ops._operands import filled, present
from jaxnorm.ops._shard_part import Part
from jaxnorm.ops._shards import Along, Place, sharding_rule
from jaxnorm.stats import measuring, sample_size
from jaxnorm.stats.cutting import Names, cuts_of
from jaxnorm.stats.sampling import Sampling
from jaxnorm.stats.whole import measure_p
from jaxnorm.typing import Shape


def says_itself(ctx, x) -> bool:
    """Returns whether a primitive of an array says itself how it is partitioned.

    Args:
        ctx: the context of the lowering rule.
        x: the aval of the array.
    """
    return _explicit.mesh_of(x) is not None or _partitioning.devices_to_partition(ctx) > 1


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
        part = _part(x, problem, spec, mesh)
        local = functools.partial(_shard_part.standardize, part=part, has=has)
        return local, _specs(given, shape, spec, part), _specs(results, shape, spec, part)

    return _divided(ctx, operands, 0, problem.stats_shape, given, results, plan)


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
        over = tuple(() if v is None else _shared_along(v, shape, spec, mesh) for v in shapes[2:])
        part = _part(x, problem, spec, mesh)._replace(over=over)
        cut = [n // size for n, size in zip(shape, _counts(spec, mesh))]
        own = tuple(
            v and tuple(k if n == m else 1 for n, m, k in zip(v, shape, cut)) for v in shapes
        )
        local = functools.partial(_shard_part.cotangent, part=part, has=has, shapes=own)
        return local, _specs(given, shape, spec, part), _specs(results, shape, spec, part)

    return _divided(ctx, operands, sum(has[:4]), problem.stats_shape, given, results, plan)


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
        part = _part(x, problem, spec, mesh)
        local = functools.partial(_shard_part.measured, part=part)
        return local, _specs(given, shape, spec, part), _specs(results, shape, spec, part)

    return _divided(ctx, operands, 0, sampling.stats_shape, given, results, plan)


def lower_measure(platform: str) -> None:
    """Lets `measure_p` be partitioned on a platform as `measure` says, or take it in blocks.

    Args:
        platform: for example "cpu".
    """

    def rule(ctx, *operands, **params):
        if says_itself(ctx, ctx.avals_in[0]):
            return measure(ctx, *operands, **params)
        blocks = blocks_of(ctx, ctx.avals_in[0], params["sampling"])
        return _internals.traced(_measured)(ctx, *operands, blocks=blocks, **params)

    _internals.lower(measure_p, platform, rule)


def _measured(x, w=None, *, sampling: Sampling, epsilon: float | None, blocks: int) -> list:
    own = functools.partial(measuring.measure, epsilon=epsilon)
    return list(in_blocks(own, sampling, x, w, blocks)[: 4 + (w is not None)])


def _divided(
    ctx,
    operands: Sequence,
    leader: int,
    stats_shape: Shape,
    given: Sequence[Place],
    results: Sequence[Place],
    plan: Plan,
):
    """Returns the results of a primitive whose shards do as `plan` says.

    Args:
        ctx: the context of the lowering rule.
        operands: as they are lowered.
        leader: which of them is x.
        stats_shape: of the statistics of x.
        given: what the operands are beside x.
        results: what the results are beside x.
        plan: called with how x lies.
    """
    x = ctx.avals_in[leader]
    mesh = _explicit.mesh_of(x)
    if mesh is None:
        sizes = _partitioning.primes(_partitioning.devices_to_partition(ctx))
        rule = sharding_rule(given, results, x.shape, stats_shape, sizes)
        return _partitioning.partitioned(ctx, operands, rule, plan, leader)
    local, own, out = plan(_explicit.spec_of(x), mesh.shape)

    def whole(*operands):
        return _explicit.on_shards(local, mesh, operands, own, out)

    return _internals.traced(whole)(ctx, *operands)


def _part(x, problem: Problem, spec: Spec, mesh: Mapping[str, int]) -> Part:
    """Returns what each shard of an array that lies as `spec` says has to know."""
    shape, stats_shape = x.shape, problem.stats_shape
    cuts = cuts_of(shape, stats_shape, spec, mesh, _explicit.mesh_of(x) is not None)
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


def _shared_along(affine: Shape, shape: Shape, spec: Spec, mesh: Mapping[str, int]) -> Names:
    """Returns the mesh axes along which all shards have the same scale."""
    axes = zip(affine, shape, spec)
    return tuple(name for n, m, names in axes if n != m for name in names if mesh[name] > 1)
