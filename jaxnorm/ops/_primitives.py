"""The primitives behind `standardize`, which an implementation may lower to kernels.

Primitives rather than a `custom_vjp`, because a kernel for the backward pass then costs nothing
else: `standardize_p` has a tangent, `tangent_p`, which is linear and so has a transpose,
`cotangent_p`, and that is the kernel. Forward mode is the tangent, reverse mode its transpose, and
a second derivative differentiates the formulas. The backward pass keeps the tangent's inputs: x,
scale and three numbers per statistic.

Operands that may be missing are passed without gaps; `has` says which are there.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive

from jaxnorm import _internals, _partitioning
from jaxnorm.numerics import accumulation_dtype
from jaxnorm.ops import _formulas
from jaxnorm.ops._formulas import Linear, Problem, Residuals
from jaxnorm.stats import reported, sample_size
from jaxnorm.stats.measuring import Measured

standardize_p = Primitive("jaxnorm_standardize")
tangent_p = Primitive("jaxnorm_standardize_tangent")
cotangent_p = Primitive("jaxnorm_standardize_cotangent")


def standardize(problem: Problem, x, scale, bias) -> list:
    """Returns `[y, mean, tail, var, rstd]`, or `[y, var, rstd]` where nothing is centred."""
    operands = _internals.varying_alike(x, *_in_one_shape(x, scale, bias))
    return standardize_p.bind(*present(operands), problem=problem, has=which(operands))


def affine_tangent(problem: Problem, residuals: Residuals, d_scale, d_bias):
    """Returns how the normalized array moves with scale and bias, the statistics standing still.

    A linear map, whose transpose is the kernels' sums over the cotangent.
    """
    x, scale, mean, tail, rstd, *_ = residuals
    parameters = _in_one_shape(x, d_scale, d_bias, scale)
    d_scale, d_bias, scale, *rest = _internals.varying_alike(*parameters, x, mean, tail, rstd)
    operands = (None, d_scale, d_bias, rest[0], scale, *rest[1:])
    return tangent_p.bind(*present(operands), problem=problem, has=which(operands))[0]


def why_not(x, parameters: tuple) -> str | None:
    """Returns why the primitives, and so the kernels, do not take arrays, or None.

    Args:
        x: [*shape].
        parameters: scale and bias, those that are there.
    """
    wide = accumulation_dtype(x.dtype)
    if not all(isinstance(n, int) and n > 0 for n in x.shape):
        return "the kernels take no empty x and no symbolic shape"
    if any(jnp.iscomplexobj(v) for v in (x, *parameters)):
        return "the kernels take no complex numbers"
    if any(jnp.promote_types(accumulation_dtype(v.dtype), wide) != wide for v in parameters):
        return f"the kernels take no scale and bias wider than {wide}"
    if any(any(_internals.explicit_axes(v)) for v in (x, *parameters)):
        return "the kernels take no explicitly sharded array"
    return None


def present(values) -> tuple:
    """Returns the values that are not None."""
    return tuple(v for v in values if v is not None)


def which(values) -> tuple[bool, ...]:
    """Returns for each value whether it is not None."""
    return tuple(v is not None for v in values)


def filled(has: tuple[bool, ...], values) -> list:
    """Returns the values in their places, None in the places of those that are not there."""
    rest = iter(values)
    return [next(rest) if there else None for there in has]


def plain_standardize(*operands, problem: Problem, has):
    """Returns what `standardize_p` computes, of x, scale and bias, by the formulas."""
    return outputs(problem, *_formulas.standardize(problem, *filled(has, operands)))


def outputs(problem: Problem, y, measured: Measured, rstd) -> list:
    """Returns what `standardize_p` returns, in its order."""
    moments = reported(measured)
    location = [moments.mean, moments.tail] if problem.center else []
    return [y, *location, moments.var, rstd]


def plain_tangent(*operands, problem: Problem, has):
    """Returns what `tangent_p` computes, of x', scale', bias' and `Residuals`.

    These are the tangents of y and, given that of x, of mean and of `rstd / 2 dvar`.
    """
    values = filled(has, operands)
    x = values[3]
    count = sample_size(x.shape, problem.stats_shape)
    residuals = Residuals(*values[3:], count=jnp.asarray(count, accumulation_dtype(x.dtype)))
    d_y, d_mean, half, _ = _formulas.tangent(problem, residuals, Linear(*values[:3]))
    if half is None:
        return [d_y]
    return [d_y, d_mean, half] if problem.center else [d_y, half]


def plain_cotangent(*operands, problem: Problem, has, shapes):
    """Returns what `cotangent_p` computes: the transpose of `plain_tangent`.

    The operands are the cotangents of y, mean and half of var, and `Residuals`; `shapes` are those
    of x, scale and bias, None where a cotangent is not wanted.
    """
    ct_y, *of_statistics, x = filled(has, operands)[:4]
    residuals = filled(has, operands)[3:]
    wanted = which(shapes)
    like = _cotangent_shapes_of(jax.typeof(x), shapes)

    def of(*moved):
        values = (*filled(wanted, moved), *residuals)
        return plain_tangent(*present(values), problem=problem, has=which(values))

    cotangents = [ct_y]
    if wanted[0]:
        nothing = jnp.zeros_like(residuals[-1])
        of_statistics = of_statistics if problem.center else of_statistics[1:]
        cotangents += [nothing if ct is None else ct for ct in of_statistics]
    return list(jax.linear_transpose(of, *like)(cotangents))


def lower_for(platform: str, choose: Callable[..., Any], partitioned: Any) -> None:
    """Lets `choose` say by which implementation the primitives are lowered on a platform.

    Args:
        platform: for example "cpu".
        choose: `(ctx, problem, x, parameters, cotangents)` -> what has the functions `standardize`
            and `cotangent`, of the operands that `plain_standardize` and `plain_cotangent` take.
        partitioned: what has these functions as lowering rules, for a program that XLA partitions.
    """

    def standardize_rule(ctx, *operands, problem, has):
        if _to_partition(ctx, problem):
            return partitioned.standardize(ctx, *operands, problem=problem, has=has)
        x, *parameters = filled(has, ctx.avals_in)
        chosen = choose(ctx, problem, x, present(parameters), ())
        rule = _internals.traced(chosen.standardize)
        return rule(ctx, *operands, problem=problem, has=has)

    def cotangent_rule(ctx, *operands, problem, has, shapes):
        if _to_partition(ctx, problem):
            params = {"problem": problem, "has": has, "shapes": shapes}
            return partitioned.cotangent(ctx, *operands, **params)
        x, scale = filled(has, ctx.avals_in)[3:5]
        chosen = choose(ctx, problem, x, present((scale,)), present(shapes[1:]))
        rule = _internals.traced(chosen.cotangent)
        return rule(ctx, *operands, problem=problem, has=has, shapes=shapes)

    _internals.lower(standardize_p, platform, standardize_rule)
    _internals.lower(cotangent_p, platform, cotangent_rule)


def _to_partition(ctx, problem: Problem) -> bool:
    """Returns whether a primitive says itself how it is partitioned; plain JAX leaves it to XLA."""
    return problem.implementation != "xla" and _partitioning.devices_to_partition(ctx) > 1


def _in_one_shape(x, *parameters) -> list:
    """Returns the parameters in the dtype of the sums and of the shape that they have together."""
    shapes = [v.shape for v in parameters if v is not None]
    shape = jnp.broadcast_shapes(*shapes) if shapes else ()
    wide = accumulation_dtype(x.dtype)
    return [v if v is None else jnp.broadcast_to(v.astype(wide), shape) for v in parameters]


def _statistic(x, problem: Problem):
    dtype = accumulation_dtype(x.dtype)
    return x.update(shape=problem.stats_shape, dtype=dtype, weak_type=False)


def _standardize_shapes(x, *affine, problem, has):
    statistics = [_statistic(x, problem)] * (4 if problem.center else 2)
    return [x.update(dtype=problem.dtype, weak_type=False), *statistics]


def _tangent_shapes(*operands, problem, has):
    x = filled(has, operands)[3]
    statistics = [_statistic(x, problem)] * (has[0] * (2 if problem.center else 1))
    return [x.update(dtype=problem.dtype, weak_type=False), *statistics]


def _cotangent_shapes(*operands, problem, has, shapes):
    return _cotangent_shapes_of(filled(has, operands)[3], shapes)


def _cotangent_shapes_of(x, shapes):
    wide = accumulation_dtype(x.dtype)
    pairs = [(s, dtype) for s, dtype in zip(shapes, (x.dtype, wide, wide)) if s is not None]
    return [x.update(shape=s, dtype=dtype, weak_type=False) for s, dtype in pairs]


def _standardize_jvp(primals, tangents, *, problem, has):
    primal = standardize_p.bind(*primals, problem=problem, has=has)
    *location, _, rstd = primal[1:]
    x, scale, _ = filled(has, primals)
    moved = _internals.moving(filled(has, tangents))
    operands = (*moved, x, scale, *(location or (None, None)), rstd)
    d_y, *d_statistics = tangent_p.bind(*present(operands), problem=problem, has=which(operands))
    if not d_statistics:
        return primal, [d_y, *(_internals.Zero(jax.typeof(v)) for v in primal[1:])]
    *d_mean, half = d_statistics
    still = [_internals.Zero(jax.typeof(v)) for v in location[1:]]  # the tail moves with the mean
    return primal, [d_y, *d_mean, *still, 2 * half / rstd, -rstd * (rstd * half)]


def _tangent_transpose(cotangents, *operands, problem, has):
    values = filled(has, operands)
    holes = [_internals.is_hole(v) for v in values]
    wanted = [v.aval if hole else None for v, hole in zip(values, holes)]
    if all(type(ct) is _internals.Zero for ct in cotangents):
        results = [_internals.Zero(aval) if aval is not None else None for aval in wanted]
    else:
        ct_y, *of_statistics = cotangents
        of_statistics = [None if type(ct) is _internals.Zero else ct for ct in of_statistics]
        of_statistics = [None] * (2 - len(of_statistics)) + of_statistics
        given = (_internals.instantiate(ct_y), *of_statistics, *values[3:])
        shapes = tuple(aval if aval is None else aval.shape for aval in wanted[:3])
        results = cotangent_p.bind(
            *present(given), problem=problem, has=which(given), shapes=shapes
        )
        results = filled(which(shapes), results) + [None] * 5
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
    batch=_batch_rule(standardize_p, (0,)),
    jvp=_standardize_jvp,
)
_internals.define(
    tangent_p,
    shapes=_tangent_shapes,
    plain=plain_tangent,
    batch=_batch_rule(tangent_p, (0, 3, 5, 6, 7)),
    transpose=_tangent_transpose,
)
_internals.define(
    cotangent_p,
    shapes=_cotangent_shapes,
    plain=plain_cotangent,
    batch=_batch_rule(cotangent_p, (0, 1, 2, 3, 5, 6, 7)),
)
