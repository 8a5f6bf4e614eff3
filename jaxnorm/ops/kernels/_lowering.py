"""How the primitives are lowered: to the native kernels on CPU, to plain JAX everywhere else."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import mlir

from jaxnorm.ops.kernels import _library, _plain_cpu, _primitives
from jaxnorm.ops.kernels._layout import View, native_view
from jaxnorm.ops.kernels._primitives import filled

IN_CACHE = 1 << 20  # bytes of a sample that stay in a core's cache; `kSampleBytes` in columns.h


def register() -> None:
    """Registers the lowerings of the primitives."""
    plain_standardize, plain_tangent, plain_cotangent = (
        mlir.lower_fun(function, multiple_results=True)
        for function in (
            _primitives.plain_standardize,
            _primitives.plain_tangent,
            _primitives.plain_cotangent,
        )
    )
    one_cpu_standardize, one_cpu_cotangent = (
        mlir.lower_fun(functools.partial(function, formulas=_plain_cpu), multiple_results=True)
        for function in (_primitives.plain_standardize, _primitives.plain_cotangent)
    )

    def cpu_standardize(ctx, *operands, standard, has):
        x, scale, bias = filled(has, ctx.avals_in)
        view = _view(ctx, x, standard, inputs=(scale, bias), outputs=())
        params = {"standard": standard, "has": has}
        if view is None:
            plain = one_cpu_standardize if _on_one_device(ctx) else plain_standardize
            return plain(ctx, *operands, **params)
        return _native(_standardize, view)(ctx, *operands, **params)

    def cpu_cotangent(ctx, *operands, standard, has, shapes):
        avals = filled(has, ctx.avals_in)
        view = _view(ctx, avals[3], standard, inputs=avals[4:5], outputs=shapes[1:])
        params = {"standard": standard, "has": has, "shapes": shapes}
        if view is None:
            plain = one_cpu_cotangent if _on_one_device(ctx) else plain_cotangent
            return plain(ctx, *operands, **params)
        return _native(_cotangent, view)(ctx, *operands, **params)

    mlir.register_lowering(_primitives.standardize_p, plain_standardize)
    mlir.register_lowering(_primitives.tangent_p, plain_tangent)
    mlir.register_lowering(_primitives.cotangent_p, plain_cotangent)
    mlir.register_lowering(_primitives.standardize_p, cpu_standardize, platform="cpu")
    mlir.register_lowering(_primitives.cotangent_p, cpu_cotangent, platform="cpu")


def _native(function: Callable, view: View) -> Callable:
    return mlir.lower_fun(functools.partial(function, view=view), multiple_results=True)


def _view(ctx, x, standard, inputs, outputs) -> View | None:
    """Returns the kernels' view, or None where plain JAX must serve.

    `inputs` are the avals of parameters and `outputs` the shapes of their cotangents, None where
    there is none.
    """
    if not standard.native or not _on_one_device(ctx) or _library.why_not_registered() is not None:
        return None
    outputs = [shape for shape in outputs if shape is not None]
    shapes = [aval.shape for aval in inputs if aval is not None] + outputs
    affine = np.broadcast_shapes(*shapes) if shapes else None
    if any(shape != affine for shape in outputs):
        return None
    return native_view(x.shape, standard.stats_shape, affine)


def _on_one_device(ctx) -> bool:
    """Returns whether this code runs on one device, within `shard_map` too, and is not exported.

    XLA would gather a sharded array around a custom call, and an exported module must not depend on
    a library that its reader may not have.
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


def _standardize(*operands, standard, has, view: View) -> list:
    x, scale, bias = filled(has, operands)
    sizes = [view.n * view.g * standard.center] * 2 + [view.n * view.g] * 2
    # A sample past a core's cache is read a second time in any case. XLA can do that together with
    # what follows, such as a ReLU, and then neither stores y nor keeps it for the backward pass.
    whole = view.r == 1 or view.r * view.c * x.dtype.itemsize <= IN_CACHE
    line = [0 if whole else view.n * view.c] * 3
    results = [
        jax.ShapeDtypeStruct(x.shape if whole else (0,), standard.dtype),
        *_floats([*sizes, *line]),
    ]
    given = [_flat(scale, view), _flat(bias, view)]
    call = jax.ffi.ffi_call("jaxnorm_forward", results)
    y, *rest = call(
        x,
        *map(_operand, given),
        epsilon=np.float32(standard.epsilon),
        **_attributes(standard, view),
    )
    statistics = [v.reshape(standard.stats_shape) for v in rest[:4] if v.size]
    if not whole:
        shift, slope, start = (v.reshape(view.n, 1, view.c) for v in rest[4:])
        wide = x.reshape(view.n, view.r, view.c).astype(jnp.float32)
        y = ((wide - shift) * slope + start).astype(standard.dtype).reshape(x.shape)
    return [y, *statistics]


def _cotangent(*operands, standard, has, shapes, view: View) -> list:
    ct_y, ct_mean, ct_var, x, scale, mean, tail, rstd = filled(has, operands)
    results = [jax.ShapeDtypeStruct((0,) if shapes[0] is None else x.shape, x.dtype)]
    results += _floats([0 if shape is None else view.a * view.c for shape in shapes[1:]])
    given = [_flat(scale, view), mean, tail, rstd, ct_mean, ct_var]
    call = jax.ffi.ffi_call("jaxnorm_backward", results)
    out = call(x, ct_y, *map(_operand, given), **_attributes(standard, view))
    return [v.reshape(shape) for v, shape in zip(out, shapes) if shape is not None]


def _attributes(standard, view: View) -> dict:
    return {"view": np.array(view, np.int64), "center": standard.center}


def _floats(sizes: list[int]) -> list:
    return [jax.ShapeDtypeStruct((size,), jnp.float32) for size in sizes]


def _operand(value):
    """Returns an operand as the kernels take it: flat, and empty where it is missing."""
    return jnp.zeros((0,), jnp.float32) if value is None else value.reshape(-1)


def _flat(parameter, view: View):
    """Returns scale or bias repeated for each affine, [a * c]."""
    if parameter is None or parameter.size == view.a * view.c:
        return parameter
    return jnp.broadcast_to(parameter.reshape(-1, view.c), (view.a, view.c))
