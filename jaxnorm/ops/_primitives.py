"""The primitives behind `standardize`, which an implementation may lower to kernels.

Primitives rather than a `custom_vjp`, because a kernel for the backward pass then costs nothing
else: `standardize_p` has a tangent, `tangent_p`, which is linear and so has a transpose,
`cotangent_p`, and that is the kernel. Forward mode is the tangent, reverse mode its transpose, and
a second derivative differentiates the formulas. The backward pass keeps the tangent's inputs: x,
scale and three numbers per statistic.

Before the normalization x may have a residual added, and behind it y may be activated or counted in
steps. The backward pass then also keeps the residual, or the sum alone where that was returned as
it was normalized; and the bias, from which the slope of an activation follows.

Operands that may be missing are passed without gaps; `has` says which are there:

    standardize_p  x, residual, scale, bias, step
                   -> y, the sum, the step if none is given, mean, tail, var, rstd
    tangent_p      x', residual', scale', bias', and what is kept: x, residual, scale, bias, mean,
                   tail, rstd
                   -> y', the sum's, mean', rstd / 2 var', the last three where an input moves
    cotangent_p    the cotangents of the latter, and what is kept -> those of the former
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive

from jaxnorm import _explicit, _internals
from jaxnorm.numerics import accumulation_dtype
from jaxnorm.ops import _formulas
from jaxnorm.ops._formulas import Linear, Problem, Residuals, summed
from jaxnorm.ops._operands import filled, present, which
from jaxnorm.ops._quantization import NO_DERIVATIVE, quantized
from jaxnorm.stats import reported, sample_size
from jaxnorm.stats.cutting import statistic
from jaxnorm.stats.measuring import Measured

standardize_p = Primitive("jaxnorm_standardize")
tangent_p = Primitive("jaxnorm_standardize_tangent")
cotangent_p = Primitive("jaxnorm_standardize_cotangent")


def standardize(problem: Problem, x, scale, bias, residual=None, step=None) -> list:
    """Returns the results of `standardize_p`; see the top of this file."""
    wide = wide_dtype(problem, x)
    parameters = _in_one_shape(wide, scale, bias)
    if step is not None:
        step = jnp.broadcast_to(step.astype(wide), problem.stats_shape)
    operands = _internals.varying_alike(x, residual, *parameters, step)
    return standardize_p.bind(*present(operands), problem=problem, has=which(operands))


def affine_tangent(problem: Problem, residuals: Residuals, d_scale, d_bias):
    """Returns how the normalized array moves with scale and bias, the statistics standing still.

    A linear map, whose transpose is the kernels' sums over the cotangent.
    """
    x, scale, mean, tail, rstd, *_ = residuals
    parameters = _in_one_shape(accumulation_dtype(x.dtype), d_scale, d_bias, scale)
    d_scale, d_bias, scale, *rest = _internals.varying_alike(*parameters, x, mean, tail, rstd)
    operands = (None, None, d_scale, d_bias, rest[0], None, scale, None, *rest[1:])
    return tangent_p.bind(*present(operands), problem=problem, has=which(operands))[0]


def wide_dtype(problem: Problem, x) -> jnp.dtype:
    """Returns the dtype of the statistics: float32 or wider.

    Args:
        problem: describes the standardization.
        x: an array or its aval.
    """
    return accumulation_dtype(x.dtype) if problem.sum is None else problem.sum.wide


def why_not(problem: Problem, inputs: tuple, parameters: tuple) -> str | None:
    """Returns why the primitives, and so the kernels, do not take arrays, or None.

    Args:
        problem: describes the standardization.
        inputs: x, and the residual that is added to it if there is one, [*shape].
        parameters: scale and bias, those that are there.
    """
    x = inputs[0]
    wide = jnp.result_type(*(accumulation_dtype(v.dtype) for v in inputs))
    if not all(isinstance(n, int) and n > 0 for n in x.shape):
        return "the kernels take no empty x and no symbolic shape"
    if any(jnp.iscomplexobj(v) for v in (*inputs, *parameters)):
        return "the kernels take no complex numbers"
    if any(jnp.promote_types(accumulation_dtype(v.dtype), wide) != wide for v in parameters):
        return f"the kernels take no scale and bias wider than {wide}"
    left_to_xla = _why_left_to_xla(problem)
    if _explicit.mesh_of(x) is not None and left_to_xla is not None:
        return left_to_xla
    return _explicit.why_not(x, (*inputs[1:], *parameters))


def _why_left_to_xla(problem: Problem) -> str | None:
    """Returns why XLA partitions a problem on several devices by itself, or None."""
    if problem.implementation == "xla":
        return "plain JAX was asked for, which XLA partitions"
    return None


def plain_standardize(*operands, problem: Problem, has):
    """Returns what `standardize_p` computes, by the formulas."""
    x, residual, scale, bias, step = filled(has, operands)
    total = summed(x, residual)
    whole = problem._replace(dtype=wide_dtype(problem, x)) if problem.quantized else problem
    y, measured, rstd = _formulas.standardize(whole, total, scale, bias)
    y, *rest = outputs(problem, y, measured, rstd)
    return completed(problem, y, step, total, rest)


def completed(problem: Problem, y, step, total, rest: list) -> list:
    """Returns the results of `standardize_p`, in their order.

    Args:
        problem: describes the standardization.
        y: [*shape], activated.
        step: [*stats_shape], or None.
        total: what was normalized.
        rest: the statistics.
    """
    ys = [y.astype(problem.dtype)]
    if problem.quantized:
        ys = quantized(y, problem.stats_shape, step, problem.dtype)
    totals = [] if problem.sum is None else [total.astype(problem.sum.total)]
    return [ys[0], *totals, *ys[1:], *rest]


def outputs(problem: Problem, y, measured: Measured, rstd) -> list:
    """Returns what `standardize_p` returns of a bare problem, in its order."""
    moments = reported(measured)
    location = [moments.mean, moments.tail] if problem.center else []
    return [y, *location, moments.var, rstd]


def plain_tangent(*operands, problem: Problem, has):
    """Returns what `tangent_p` computes."""
    d_x, d_residual, d_scale, d_bias, *kept = filled(has, operands)
    x, residual, scale, bias, *statistics = kept
    wide = wide_dtype(problem, x)
    total = summed(x, residual)
    moved = [v.astype(wide) for v in (d_x, d_residual) if v is not None]
    d_total = sum(moved[1:], moved[0]) if moved else None
    count = jnp.asarray(sample_size(x.shape, problem.stats_shape), wide)
    residuals = Residuals(total, scale, *statistics, count=count, bias=bias)
    linear = Linear(d_total, d_scale, d_bias)
    d_y, d_mean, half, _ = _formulas.tangent(problem, residuals, linear)
    if d_total is None:
        return [d_y]
    totals = [] if problem.sum is None else [d_total.astype(problem.sum.total)]
    return [d_y, *totals, d_mean, half] if problem.center else [d_y, *totals, half]


def plain_cotangent(*operands, problem: Problem, has, shapes):
    """Returns what `cotangent_p` computes: the transpose of `plain_tangent`.

    `shapes` are those of x, residual, scale and bias, None where a cotangent is not wanted.
    """
    ct_y, ct_total, ct_mean, ct_half, *kept = filled(has, operands)
    x, rstd = kept[0], kept[-1]
    wanted = which(shapes)

    def of(*moved):
        values = (*filled(wanted, moved), *kept)
        return plain_tangent(*present(values), problem=problem, has=which(values))

    cotangents = [ct_y]
    if wanted[0] or wanted[1]:
        if problem.sum is not None:
            nothing = jnp.zeros(x.shape, problem.sum.total)
            cotangents.append(nothing if ct_total is None else ct_total)
        of_statistics = [ct_mean, ct_half] if problem.center else [ct_half]
        cotangents += [jnp.zeros_like(rstd) if ct is None else ct for ct in of_statistics]
    like = _cotangent_shapes_of(jax.typeof(x), problem, shapes)
    return list(jax.linear_transpose(of, *like)(cotangents))


def lower_for(platform: str, choose: Callable[..., Any], partitioned: Any) -> None:
    """Lets `choose` say by which implementation the primitives are lowered on a platform.

    Args:
        platform: for example "cpu".
        choose: `(ctx, problem, x, parameters, cotangents)` -> what has the functions `standardize`
            and `cotangent`, of the operands that `plain_standardize` and `plain_cotangent` take.
        partitioned: what has these functions as lowering rules, for arrays on several devices, and
            `says_itself`, which says for which of them.
    """

    def divided(ctx, problem: Problem, x) -> bool:
        return _why_left_to_xla(problem) is None and partitioned.says_itself(ctx, x)

    def standardize_rule(ctx, *operands, problem, has):
        x, _, *parameters, _ = filled(has, ctx.avals_in)
        if divided(ctx, problem, x):
            return partitioned.standardize(ctx, *operands, problem=problem, has=has)
        chosen = choose(ctx, problem, x, present(parameters), ())
        rule = _internals.traced(chosen.standardize)
        return rule(ctx, *operands, problem=problem, has=has)

    def cotangent_rule(ctx, *operands, problem, has, shapes):
        x, _, scale, bias = filled(has, ctx.avals_in)[4:8]
        if divided(ctx, problem, x):
            params = {"problem": problem, "has": has, "shapes": shapes}
            return partitioned.cotangent(ctx, *operands, **params)
        chosen = choose(ctx, problem, x, present((scale, bias)), present(shapes[2:]))
        rule = _internals.traced(chosen.cotangent)
        return rule(ctx, *operands, problem=problem, has=has, shapes=shapes)

    _internals.lower(standardize_p, platform, standardize_rule)
    _internals.lower(cotangent_p, platform, cotangent_rule)


def _in_one_shape(wide: jnp.dtype, *parameters) -> list:
    """Returns the parameters in the dtype of the sums and of the shape that they have together."""
    shapes = [v.shape for v in parameters if v is not None]
    shape = jnp.broadcast_shapes(*shapes) if shapes else ()
    return [v if v is None else jnp.broadcast_to(v.astype(wide), shape) for v in parameters]


def _statistic(x, problem: Problem):
    return statistic(x, problem.stats_shape, wide_dtype(problem, x))


def _totals(x, problem: Problem) -> list:
    added = problem.sum
    return [] if added is None else [x.update(dtype=added.total, weak_type=False)]


def _standardize_shapes(x, *_, problem, has):
    own_step = problem.quantized and not has[4]
    statistics = [_statistic(x, problem)] * (own_step + (4 if problem.center else 2))
    return [x.update(dtype=problem.dtype, weak_type=False), *_totals(x, problem), *statistics]


def _tangent_shapes(*operands, problem, has):
    x = filled(has, operands)[4]
    y = x.update(dtype=problem.dtype, weak_type=False)
    if not (has[0] or has[1]):
        return [y]
    return [y, *_totals(x, problem), *[_statistic(x, problem)] * (2 if problem.center else 1)]


def _cotangent_shapes(*operands, problem, has, shapes):
    return _cotangent_shapes_of(filled(has, operands)[4], problem, shapes)


def _cotangent_shapes_of(x, problem: Problem, shapes):
    wide, added = wide_dtype(problem, x), problem.sum
    inputs = (x.dtype, x.dtype) if added is None else (added.x, added.residual)
    pairs = [(s, dtype) for s, dtype in zip(shapes, (*inputs, wide, wide)) if s is not None]
    return [_explicit.typed(x, s, dtype, _explicit.spec_beside(x, s)) for s, dtype in pairs]


def _standardize_jvp(primals, tangents, *, problem, has):
    if problem.quantized:
        raise TypeError(NO_DERIVATIVE)
    primal = standardize_p.bind(*primals, problem=problem, has=has)
    x, residual, scale, bias, _ = filled(has, primals)
    rest = primal[1:]
    total = None if problem.sum is None else rest.pop(0)
    *location, _, rstd = rest
    if total is not None and total.dtype == wide_dtype(problem, x):
        x, residual = total, None  # it was not rounded, and is one array instead of two
    moved = _internals.moving(filled(has, tangents))[:4]
    bias = bias if problem.activation else None
    operands = (*moved, x, residual, scale, bias, *(location or (None, None)), rstd)
    d_y, *d_rest = tangent_p.bind(*present(operands), problem=problem, has=which(operands))
    if not d_rest:
        return primal, [d_y, *(_internals.Zero(jax.typeof(v)) for v in primal[1:])]
    d_total = [] if total is None else [d_rest.pop(0)]
    *d_mean, half = d_rest
    still = [_internals.Zero(jax.typeof(v)) for v in location[1:]]  # the tail moves with the mean
    moved = [*d_total, *d_mean, *still, 2 * half / rstd, -rstd * (rstd * half)]
    return primal, [d_y, *moved]


def _tangent_transpose(cotangents, *operands, problem, has):
    values = filled(has, operands)
    holes = [_internals.is_hole(v) for v in values]
    wanted = [v.aval if hole else None for v, hole in zip(values, holes)]
    if all(type(ct) is _internals.Zero for ct in cotangents):
        results = [_internals.Zero(aval) if aval is not None else None for aval in wanted]
    else:
        ct_y, *rest = (None if type(ct) is _internals.Zero else ct for ct in cotangents)
        moves = has[0] or has[1]
        there = (moves and problem.sum is not None, moves and problem.center, moves)
        if ct_y is None:
            ct_y = _internals.instantiate(cotangents[0])
        given = (ct_y, *filled(there, rest), *values[4:])
        shapes = tuple(aval if aval is None else aval.shape for aval in wanted[:4])
        results = cotangent_p.bind(
            *present(given), problem=problem, has=which(given), shapes=shapes
        )
        results = filled(which(shapes), results) + [None] * 7
    return [result for result, there in zip(results, has) if there]


def _batch_rule(primitive: Primitive, whole: tuple[int, ...]) -> Callable:
    """Returns the rule for vmap, which is one more kept axis in front."""

    def rule(operands, dims, *, problem, has, **params):
        values, dims = filled(has, operands), filled(has, dims)
        size, values = _internals.with_front_axis(values, dims, whole)
        sampling = problem.sampling._replace(stats_shape=(size, *problem.stats_shape))
        if "shapes" in params:
            params = {"shapes": tuple(s if s is None else (size, *s) for s in params["shapes"])}
        problem = problem._replace(sampling=sampling)
        out = primitive.bind(*present(values), problem=problem, has=has, **params)
        return out, [0] * len(out)

    return rule


# Every x, y and statistic gets the mapped axis in full; a scale or bias may be shared along it.
_internals.define(
    standardize_p,
    shapes=_standardize_shapes,
    plain=plain_standardize,
    batch=_batch_rule(standardize_p, (0, 1, 4)),
    jvp=_standardize_jvp,
)
_internals.define(
    tangent_p,
    shapes=_tangent_shapes,
    plain=plain_tangent,
    batch=_batch_rule(tangent_p, (0, 1, 4, 5, 8, 9, 10)),
    transpose=_tangent_transpose,
)
_internals.define(
    cotangent_p,
    shapes=_cotangent_shapes,
    plain=plain_cotangent,
    batch=_batch_rule(cotangent_p, (0, 1, 2, 3, 4, 5, 8, 9, 10)),
)
