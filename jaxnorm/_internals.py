"""What jaxnorm uses of JAX beyond its documented interface, in one place.

Tried with jax 0.8.1 and 0.10.2.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax._src import checkify, core
from jax._src.interpreters.batching import BatchTracer
from jax.experimental import jet
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxnorm import _explicit
from jaxnorm.typing import Array

Zero = ad.Zero
"""The tangent or cotangent that is zero whatever the input."""


def define(
    primitive: Primitive,
    *,
    shapes: Callable,
    plain: Callable,
    batch: Callable,
    jvp: Callable | None = None,
    transpose: Callable | None = None,
    smooth: Callable | None = None,
) -> None:
    """Gives a primitive its rules.

    The primitive runs compiled, lowers to `plain` on every platform until `lower` says otherwise,
    has Taylor series (`jax.experimental.jet`) and is checked for NaN by `checkify`.

    Args:
        primitive: it has several results.
        shapes: avals and parameters -> the avals of the results.
        plain: operands and parameters -> the results, in plain JAX.
        batch: the rule for `vmap`.
        jvp: the rule for forward mode; the derivative of `plain` if None.
        transpose: of a primitive that is linear in some operands.
        smooth: the function whose Taylor series serves; `plain` if None.
    """
    primitive.multiple_results = True

    @functools.cache
    def compiled(params: tuple) -> Callable:
        return jax.jit(functools.partial(primitive.bind, **dict(params)))

    def series(primals, terms, **params):
        function = functools.partial(smooth or plain, **params)
        return jet.jet(function, primals, terms, factorial_scaled=False)

    primitive.def_impl(lambda *operands, **params: compiled(tuple(params.items()))(*operands))
    primitive.def_abstract_eval(shapes)
    ad.primitive_jvps[primitive] = jvp or functools.partial(_jvp_of_plain, primitive, plain)
    if transpose is not None:
        ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = batch
    jet.jet_rules[primitive] = series
    checkify.error_checks[primitive] = functools.partial(checkify.nan_error_check, primitive)
    mlir.register_lowering(primitive, traced(plain))


def lower(primitive: Primitive, platform: str, rule: Callable) -> None:
    """Registers `rule(ctx, *operands, **params)` as the lowering of a primitive on a platform."""
    mlir.register_lowering(primitive, rule, platform=platform)


def traced(function: Callable) -> Callable:
    """Returns the lowering rule that traces a function in plain JAX with several results."""
    return mlir.lower_fun(function, multiple_results=True)


def _jvp_of_plain(primitive, plain, primals, tangents, **params):
    tangents = tuple(map(ad.instantiate_zeros, tangents))
    moved = jax.jvp(functools.partial(plain, **params), primals, tangents)[1]
    return primitive.bind(*primals, **params), moved


def moving(tangents: Sequence) -> tuple:
    """Returns tangents with None for those that are zero whatever the input."""
    zeros = (ad.Zero, jax.custom_derivatives.SymbolicZero)
    return tuple(None if isinstance(t, zeros) else t for t in tangents)


def call(function: jax.custom_jvp, static: Any, *given: Any) -> Any:
    """Returns `function(static, *given)`, without its own derivative in Taylor mode.

    `jax.experimental.jet` knows no series of a function with a `custom_jvp`, though it knows those
    of the operations inside.
    """
    in_taylor_mode = any(isinstance(value, jet.JetTracer) for value in given)
    return (function.fun if in_taylor_mode else function)(static, *given)


def is_mapped(value: Any) -> bool:
    """Returns whether the innermost transformation of a value is a `vmap` that maps it."""
    return isinstance(value, BatchTracer)


def maps_shards() -> bool:
    """Returns whether a `vmap` around this maps an explicitly sharded axis.

    There `jax.shard_map` gathers its operands along that axis.
    """
    return bool(core.get_axis_env().explicit_mesh_axis_names)


def with_front_axis(values: Sequence, dims: Sequence, whole: Sequence[int]) -> tuple[int, list]:
    """Returns the size of the axis that `vmap` maps, and the values with this axis in front.

    Where a value is not mapped the axis gets size 1, and its full size at the places in `whole`,
    where it is sharded as those that are mapped are. A value that is None stays None.
    """
    size = next(v.shape[d] for v, d in zip(values, dims) if v is not None and d is not None)
    moved = [v if v is None or d is None else jnp.moveaxis(v, d, 0) for v, d in zip(values, dims)]
    mapped = (v for v, d in zip(moved, dims) if v is not None and d is not None)
    names = [_explicit.explicit_axes(v)[0] for v in mapped]
    sharded = next((name for name in names if name), None)
    for i, (v, d) in enumerate(zip(moved, dims)):
        if v is not None and d is None:
            moved[i] = _explicit.repeated(v, size, sharded) if i in whole else v[None]
    return size, moved


def instantiate(cotangent: Any) -> Any:
    """Returns a cotangent as an array, also where it is zero whatever the input."""
    return ad.instantiate_zeros(cotangent)


def is_hole(operand: Any) -> bool:
    """Returns whether an operand of a transpose is what the result is linear in."""
    return ad.is_undefined_primal(operand)


def on_two_cores(parameters: type, **options: Any) -> Any:
    """Returns the parameters of Pallas' interpreter of TPU kernels, for a chip with two cores.

    Args:
        parameters: `jax.experimental.pallas.tpu.InterpretParams`.
        **options: its other arguments.

    Returns:
        What `pallas_call` takes as `interpret`.
    """
    fields = parameters.__dataclass_fields__
    # Since jax 0.9 the interpreter of GPU kernels has the same parameter.
    cores = "num_cores_or_threads" if "num_cores_or_threads" in fields else "num_cores_per_device"
    return parameters(**{cores: 2}, **options)


def on_one_device(ctx: Any) -> bool:
    """Returns whether the code that is lowered runs on one device and is not exported.

    That includes code within `shard_map` over every axis of the mesh. XLA would gather a sharded
    array around a custom call, and an exported module must not depend on a library that its reader
    may not have.

    Args:
        ctx: the context of a lowering rule.
    """
    module = ctx.module_context
    if module.lowering_parameters.for_export:
        return False
    context = module.axis_context
    devices = getattr(context, "num_devices", None)
    if devices is not None:
        return devices == 1
    manual, mesh = getattr(context, "manual_axes", None), getattr(context, "mesh", None)
    return mesh is not None and manual == frozenset(mesh.axis_names)


def varying_alike(*values: Array | None) -> list:
    """Returns the values varying over the same manual axes, as within `shard_map` they must.

    The transpose sums the cotangent of a replicated value over the shards.
    """
    axes = [frozenset() if v is None else _varying_axes(v) for v in values]
    everywhere = frozenset().union(*axes)
    return [
        v if v is None or own == everywhere else _vary(v, tuple(sorted(everywhere - own)))
        for v, own in zip(values, axes, strict=True)
    ]


def all_gather(value: Array, names: tuple[str, ...], groups: Any = None) -> Array:
    """Returns the values of all shards along a new first axis, with one collective.

    A result that is the same on every shard may leave `shard_map` through an unsharded output.

    Args:
        value: [*shape].
        names: mapped axes.
        groups: `axis_index_groups`; each has values of its own.

    Returns:
        [shards, *shape], in the same order on every shard.
    """
    manual = jax.sharding.get_abstract_mesh().manual_axes
    over_mesh = tuple(name for name in names if name in manual)
    shape = value.shape
    for name in names:
        if name not in over_mesh:
            # `vmap` exchanges nothing, and gathers over one axis only.
            value = jax.lax.all_gather(value, name, axis_index_groups=groups)
    if over_mesh and follows_what_varies(over_mesh) and groups is None:
        value = _gathered_for_all(value, over_mesh)
    elif over_mesh:
        value = jax.lax.all_gather(value, over_mesh, axis_index_groups=groups)
    return value.reshape(-1, *shape)


def follows_what_varies(names: tuple[str, ...]) -> bool:
    """Returns whether a mapped axis is that of a `shard_map` with `check_vma`."""
    return bool(_varying_axes(jax.lax.axis_index(names)))


def _gathered_for_all(value: Array, names: tuple[str, ...]) -> Array:
    if hasattr(jax.lax, "all_gather_invariant"):  # until jax 0.8.1
        return getattr(jax.lax, "all_gather_invariant")(value, names)  # noqa: B009 - gone since
    return jax.lax.all_gather(value, names, to="invarying")


def _varying_axes(value: Array) -> frozenset:
    aval = jax.typeof(value)
    manual = getattr(aval, "manual_axis_type", None)
    return aval.vma if manual is None else manual.varying


def _vary(value: Array, axes: tuple[str, ...]) -> Array:
    if hasattr(jax.lax, "pcast"):  # since jax 0.8.2
        return jax.lax.pcast(value, axes, to="varying")
    return getattr(jax.lax, "pvary")(value, axes)  # noqa: B009 - jax of today has it no more
