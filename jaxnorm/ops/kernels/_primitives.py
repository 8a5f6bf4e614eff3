"""The primitives behind `standardize`: native on CPU where that is possible, plain JAX elsewhere.

Primitives rather than a `custom_vjp`, because a kernel for the backward pass then costs nothing
else: `standardize_p` has a tangent, `tangent_p`, which is linear and so has a transpose,
`cotangent_p`, and that is the kernel. Forward mode is the tangent, reverse mode its transpose, and
a second derivative differentiates the plain formulas. What the backward pass keeps are the
tangent's inputs: x, scale and two numbers per statistic.

Operands that may be missing are passed without gaps; `has` says which are there.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from jaxnorm.ops.kernels import _plain
from jaxnorm.ops.kernels._plain import Linear, Residuals, Standard

standardize_p = Primitive("jaxnorm_standardize")
tangent_p = Primitive("jaxnorm_standardize_tangent")
cotangent_p = Primitive("jaxnorm_standardize_cotangent")


def standardize(standard: Standard, x, scale, bias) -> list:
    """Returns `[y, mean, tail, var, rstd]`, or `[y, var, rstd]` where not centred; see `_plain`."""
    operands = (x, scale, bias)
    return standardize_p.bind(*present(operands), standard=standard, has=which(operands))


def tangent(standard: Standard, linear: Linear, residuals: Residuals) -> list:
    """Returns the tangents of y and, given that of x, of mean and var; see `_plain`."""
    operands = (*linear, *residuals)
    return tangent_p.bind(*present(operands), standard=standard, has=which(operands))


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


def plain_standardize(*operands, standard, has, formulas=_plain):
    """What `standardize_p` computes, of x, scale and bias."""
    return list(formulas.standardize(standard, *filled(has, operands)))


def plain_tangent(*operands, standard, has):
    """What `tangent_p` computes, of `Linear` and `Residuals`: tangents of y, mean and var."""
    values = filled(has, operands)
    return list(_plain.tangent(standard, Residuals(*values[3:]), Linear(*values[:3])))


def plain_cotangent(*operands, standard, has, shapes, formulas=_plain):
    """What `cotangent_p` computes, of cotangents of y, mean and var, and of `Residuals`.

    `shapes` are those of x, scale and bias, None where a cotangent is not wanted.
    """
    ct_y, ct_mean, ct_var, *residuals = filled(has, operands)
    residuals = Residuals(*residuals)
    like = Linear(*filled(which(shapes), _cotangent_shapes_of(jax.typeof(residuals.x), shapes)))
    statistics = ()
    if shapes[0] is not None:
        statistics = (ct_mean, ct_var) if standard.center else (ct_var,)
        nothing = jnp.zeros_like(residuals.rstd)
        statistics = tuple(nothing if ct is None else ct for ct in statistics)
    return list(formulas.cotangent(standard, residuals, like, (ct_y, *statistics)))


def _statistic(x, standard):
    return x.update(shape=standard.stats_shape, dtype=jnp.dtype(jnp.float32), weak_type=False)


def _standardize_shapes(x, *affine, standard, has):
    statistics = [_statistic(x, standard)] * (4 if standard.center else 2)
    return [x.update(dtype=standard.dtype, weak_type=False), *statistics]


def _tangent_shapes(*operands, standard, has):
    x = filled(has, operands)[3]
    statistics = [_statistic(x, standard)] * (has[0] * (2 if standard.center else 1))
    return [x.update(dtype=standard.dtype, weak_type=False), *statistics]


def _cotangent_shapes(*operands, standard, has, shapes):
    return _cotangent_shapes_of(filled(has, operands)[3], shapes)


def _cotangent_shapes_of(x, shapes):
    dtypes = (x.dtype, jnp.dtype(jnp.float32), jnp.dtype(jnp.float32))
    pairs = [(s, dtype) for s, dtype in zip(shapes, dtypes) if s is not None]
    return [x.update(shape=s, dtype=dtype, weak_type=False) for s, dtype in pairs]


def _standardize_jvp(primals, tangents, *, standard, has):
    y, *statistics = standardize_p.bind(*primals, standard=standard, has=has)
    x, scale, _ = filled(has, primals)
    moved = [None if type(t) is ad.Zero else t for t in filled(has, tangents)]
    mean, tail = statistics[:2] if standard.center else (None, None)
    rstd = statistics[-1]
    operands = (*moved, x, scale, mean, tail, rstd)
    d_y, *d_statistics = tangent_p.bind(*present(operands), standard=standard, has=which(operands))
    if not d_statistics:
        d_statistics = [ad.Zero(jax.typeof(v)) for v in statistics]
    else:
        d_rstd = (-rstd / 2) * (rstd * (rstd * d_statistics[-1]))
        still = [ad.Zero(jax.typeof(rstd))] if standard.center else []
        d_statistics = [*d_statistics[:-1], *still, d_statistics[-1], d_rstd]
    return [y, *statistics], [d_y, *d_statistics]


def _tangent_transpose(cotangents, *operands, standard, has):
    values = filled(has, operands)
    holes = [ad.is_undefined_primal(v) for v in values]
    wanted = [v.aval if hole else None for v, hole in zip(values, holes)]
    if all(type(ct) is ad.Zero for ct in cotangents):
        results = [ad.Zero(aval) if aval is not None else None for aval in wanted]
    else:
        ct_y, *of_statistics = cotangents
        of_statistics = [None if type(ct) is ad.Zero else ct for ct in of_statistics]
        of_statistics = [None] * (2 - len(of_statistics)) + of_statistics
        given = (ad.instantiate_zeros(ct_y), *of_statistics, *values[3:])
        shapes = tuple(aval if aval is None else aval.shape for aval in wanted[:3])
        results = cotangent_p.bind(
            *present(given), standard=standard, has=which(given), shapes=shapes
        )
        results = filled(which(shapes), results) + [None] * 5
    return [result for result, there in zip(results, has) if there]


def _plain_jvp(primitive: Primitive, plain: Callable) -> Callable:
    """Returns the rule that differentiates the plain formula, for derivatives from the second."""

    def rule(primals, tangents, **params):
        tangents = tuple(map(ad.instantiate_zeros, tangents))
        moved = jax.jvp(functools.partial(plain, **params), primals, tangents)[1]
        return primitive.bind(*primals, **params), moved

    return rule


def _with_front_axis(values, dims, whole: tuple[int, ...]):
    """Returns the mapped axis' size, and the values with it in front.

    Where a value is not mapped the axis gets size 1, and its full size at the places in `whole`.
    """
    size = next(v.shape[d] for v, d in zip(values, dims) if v is not None and d is not None)
    fronted = []
    for i, (v, d) in enumerate(zip(values, dims)):
        if v is not None:
            v = v[None] if d is None else jnp.moveaxis(v, d, 0)
            v = jnp.broadcast_to(v, (size, *v.shape[1:])) if i in whole else v
        fronted.append(v)
    return size, fronted


def _batch_rule(primitive: Primitive, whole: tuple[int, ...]) -> Callable:
    """Returns the rule for vmap, which is one more kept axis in front."""

    def rule(operands, dims, *, standard, has, **params):
        size, values = _with_front_axis(filled(has, operands), filled(has, dims), whole)
        standard = standard._replace(stats_shape=(size, *standard.stats_shape))
        if "shapes" in params:
            shapes = tuple(s if s is None else (size, *s) for s in params["shapes"])
            params = {"shapes": shapes}
        out = primitive.bind(*present(values), standard=standard, has=has, **params)
        return out, [0] * len(out)

    return rule


@functools.cache
def _compiled(primitive: Primitive, params: tuple) -> Callable:
    return jax.jit(functools.partial(primitive.bind, **dict(params)))


def _define(primitive: Primitive, shapes: Callable, jvp: Callable, whole: tuple[int, ...]) -> None:
    primitive.multiple_results = True
    primitive.def_impl(
        lambda *operands, **params: _compiled(primitive, tuple(params.items()))(*operands)
    )
    primitive.def_abstract_eval(shapes)
    ad.primitive_jvps[primitive] = jvp
    batching.primitive_batchers[primitive] = _batch_rule(primitive, whole)


# Every x, y and statistic gets the mapped axis in full; a scale or bias may be shared along it.
_define(standardize_p, _standardize_shapes, _standardize_jvp, (0,))
_define(tangent_p, _tangent_shapes, _plain_jvp(tangent_p, plain_tangent), (0, 3, 5, 6, 7))
_define(
    cotangent_p, _cotangent_shapes, _plain_jvp(cotangent_p, plain_cotangent), (0, 1, 2, 3, 5, 6, 7)
)
ad.primitive_transposes[tangent_p] = _tangent_transpose
