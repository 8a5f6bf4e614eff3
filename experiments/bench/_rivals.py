"""The rivals: one function of `(x, scale, bias)` per library and member.

The table leaves out a rival that is not installed, and a rival that has no such member.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import flax.linen as linen
import jax
import jax.numpy as jnp
from flax import nnx

import jaxnorm

from ._cases import EPSILON, GHOST_BATCH_SIZE, NUM_GROUPS, Case

Function = Callable[[jax.Array, jax.Array, jax.Array], Any]


def jax_rivals(case: Case) -> dict[str, Function]:
    """Return the rivals in JAX, by name. Each returns the output and the new state, if any."""
    makers = {
        "jaxnorm": _jaxnorm,
        "jaxnorm (xla)": _jaxnorm_xla,
        "flax.linen": _linen,
        "flax.nnx": _nnx,
        "haiku": _haiku,
        "equinox": _equinox,
        "jax.nn": _jax_nn,
        "tokamax": _tokamax,
    }
    made = {name: make(case) for name, make in makers.items()}
    return {name: function for name, function in made.items() if function is not None}


def _jaxnorm(case: Case, implementation: Any = None) -> Function | None:
    options: dict[str, Any] = {"epsilon": EPSILON, "implementation": implementation}
    plain: dict[str, Callable[..., Any]] = {
        "layer": jaxnorm.layer_norm,
        "rms": jaxnorm.rms_norm,
        "group": lambda x, s, b, **o: jaxnorm.group_norm(x, s, b, num_groups=NUM_GROUPS, **o),
        "instance": jaxnorm.instance_norm,
    }
    if case.member in plain:
        norm = plain[case.member]
        if case.member == "rms":
            return lambda x, scale, bias: norm(x, scale, **options)
        return lambda x, scale, bias: norm(x, scale, bias, **options)
    options["use_running_average"] = case.member == "batch_eval"
    if case.member == "ghost":
        options["ghost_batch_size"] = GHOST_BATCH_SIZE
        norm = jaxnorm.ghost_batch_norm
    else:
        norm = jaxnorm.batch_norm

    def apply(x: jax.Array, scale: jax.Array, bias: jax.Array) -> Any:
        return norm(x, jaxnorm.BatchStats(*_running(scale, bias)), scale, bias, **options)

    return apply


def _jaxnorm_xla(case: Case) -> Function | None:
    return _jaxnorm(case, "xla")


def _running(scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return running statistics zero and one that the compiler cannot take for constants."""
    return jax.lax.stop_gradient(bias), jax.lax.stop_gradient(scale)


def _linen(case: Case) -> Function | None:
    options: dict[str, Any] = {"epsilon": EPSILON}
    modules: dict[str, Any] = {
        "layer": linen.LayerNorm(**options),
        "rms": linen.RMSNorm(**options),
        "group": linen.GroupNorm(NUM_GROUPS, **options),
        "instance": linen.InstanceNorm(**options),
        "batch": linen.BatchNorm(use_running_average=False, **options),
        "batch_eval": linen.BatchNorm(use_running_average=True, **options),
    }
    if case.member not in modules:
        return None
    module = modules[case.member]

    def apply(x: jax.Array, scale: jax.Array, bias: jax.Array) -> Any:
        params = {"scale": scale} if case.member == "rms" else {"scale": scale, "bias": bias}
        # The output has the dtype of x, as with the other libraries.
        own = module.clone(dtype=x.dtype)
        if not case.member.startswith("batch"):
            return own.apply({"params": params}, x), None
        stats = dict(zip(("mean", "var"), _running(scale, bias), strict=True))
        return own.apply({"params": params, "batch_stats": stats}, x, mutable=["batch_stats"])

    return apply


def _nnx(case: Case) -> Function | None:
    features = case.shape[-1]
    makers: dict[str, Callable[..., nnx.Module]] = {
        "layer": nnx.LayerNorm,
        "rms": nnx.RMSNorm,
        "group": lambda n, **o: nnx.GroupNorm(n, NUM_GROUPS, **o),
        "instance": nnx.InstanceNorm,
        "batch": lambda n, **o: nnx.BatchNorm(n, use_running_average=False, **o),
        "batch_eval": lambda n, **o: nnx.BatchNorm(n, use_running_average=True, **o),
    }
    if case.member not in makers:
        return None

    def apply(x: jax.Array, scale: jax.Array, bias: jax.Array) -> Any:
        layer: Any = makers[case.member](features, epsilon=EPSILON, dtype=x.dtype, rngs=nnx.Rngs(0))
        layer.scale = nnx.Param(scale)
        if case.member != "rms":
            layer.bias = nnx.Param(bias)
            if case.member.startswith("batch"):
                mean, var = _running(scale, bias)
                layer.mean, layer.var = nnx.BatchStat(mean), nnx.BatchStat(var)
        y = layer(x)
        return (y, (layer.mean[...], layer.var[...])) if case.member == "batch" else (y, None)

    return apply


def _haiku(case: Case) -> Function | None:
    if importlib.util.find_spec("haiku") is None:
        return None
    import haiku

    def layer(x: jax.Array, scale: jax.Array, bias: jax.Array) -> Any:
        if case.member == "layer":
            return haiku.LayerNorm(-1, False, False, eps=EPSILON)(x, scale, bias)
        if case.member == "rms":
            return haiku.RMSNorm(-1, eps=EPSILON, create_scale=False)(x) * scale.astype(x.dtype)
        if case.member == "group":
            norm = haiku.GroupNorm(NUM_GROUPS, create_scale=False, create_offset=False, eps=EPSILON)
            return norm(x, scale, bias)
        if case.member == "instance":
            instance: Any = haiku.InstanceNorm(False, False, eps=EPSILON)
            return instance(x, scale=scale, offset=bias)
        norm = haiku.BatchNorm(False, False, 0.99, eps=EPSILON)
        return norm(x, True, scale=scale, offset=bias)

    if case.member not in ("layer", "rms", "group", "instance", "batch"):
        return None
    transformed = haiku.transform_with_state(layer)

    def apply(x: jax.Array, scale: jax.Array, bias: jax.Array) -> Any:
        shapes = jax.eval_shape(transformed.init, None, x, scale, bias)[1]
        state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return transformed.apply({}, state, None, x, scale.astype(x.dtype), bias.astype(x.dtype))

    return apply


def _equinox(case: Case) -> Function | None:
    if case.member not in ("layer", "rms") or importlib.util.find_spec("equinox") is None:
        return None
    import equinox

    make = equinox.nn.LayerNorm if case.member == "layer" else equinox.nn.RMSNorm

    def apply(x: jax.Array, scale: jax.Array, bias: jax.Array) -> Any:
        layer: Any = make(case.shape[-1], eps=EPSILON, dtype=x.dtype)
        layer = equinox.tree_at(
            lambda m: (m.weight, m.bias), layer, (scale.astype(x.dtype), bias.astype(x.dtype))
        )
        return jax.vmap(layer)(x), None

    return apply


def _jax_nn(case: Case) -> Function | None:
    if case.member != "layer":
        return None
    return lambda x, scale, bias: (
        (jax.nn.standardize(x, epsilon=EPSILON) * scale + bias).astype(x.dtype),
        None,
    )


def _tokamax(case: Case) -> Function | None:
    if case.member not in ("layer", "rms") or importlib.util.find_spec("tokamax") is None:
        return None
    import tokamax  # type: ignore[reportMissingImports]  # optional, not on every machine

    centred = case.member == "layer"
    return lambda x, scale, bias: (
        tokamax.layer_norm(
            x, scale, bias if centred else None, epsilon=EPSILON, subtract_mean=centred
        ),
        None,
    )
