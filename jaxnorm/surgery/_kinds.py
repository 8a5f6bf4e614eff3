"""Which modules are norms: ours and Flax's, by their names in the catalogue."""

import dataclasses
import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
from flax import nnx

import jaxnorm.linen
import jaxnorm.nnx
from jaxnorm.functional import CATALOGUE, SPECS
from jaxnorm.numerics import canonical_axes
from jaxnorm.typing import Shape

_OF_FLAX = (
    *("batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm"),
    *("weight_norm", "spectral_norm"),
)
_OURS = (jaxnorm.linen, jaxnorm.nnx)

KINDS: Mapping[type, str] = MappingProxyType(
    {
        **{getattr(room, spec.module): name for room in _OURS for name, spec in SPECS.items()},
        **{getattr(room, SPECS[name].module): name for room in (nn, nnx) for name in _OF_FLAX},
    }
)
"""Class of a norm -> its name in the catalogue."""

DROP_INS: Mapping[type, type] = MappingProxyType(
    {
        getattr(flax_room, SPECS[name].module): getattr(room, SPECS[name].module)
        for flax_room, room in ((nn, jaxnorm.linen), (nnx, jaxnorm.nnx))
        for name in _OF_FLAX
    }
)
"""Flax's norms -> ours, a rule for `replace_norms`."""

OF_KERNELS = frozenset(member.name for member in CATALOGUE if member.of == "kernel")
"""The names of what normalizes the kernels of a layer."""

_NOT_OPTIONS = ("parent", "name", "rngs", "num_features", "layer_instance")


def kind_of(kind: type) -> str | None:
    """Returns the catalogue's name for a class, or None for what is no norm.

    Args:
        kind: a class of modules; a subclass of a norm counts as that norm.

    Returns:
        For example "batch_norm".

    Examples:
        >>> kind_of(nn.BatchNorm), kind_of(jaxnorm.nnx.RMSNorm), kind_of(nn.Dense)
        ('batch_norm', 'rms_norm', None)
    """
    return next((KINDS[base] for base in kind.__mro__ if base in KINDS), None)


def class_name(kind: type) -> str:
    """Returns where users find a class.

    Args:
        kind: a class of modules.

    Returns:
        The module, without rooms that are private, and the name.

    Examples:
        >>> class_name(nn.BatchNorm), class_name(jaxnorm.nnx.RMSNorm)
        ('flax.linen.BatchNorm', 'jaxnorm.nnx.RMSNorm')
    """
    module = kind.__module__.split(".")
    if module[0] in ("flax", "jaxnorm"):
        module = module[:2]
    return ".".join([*module, kind.__name__])


def fields_of(norm: Any) -> dict[str, Any]:
    """Returns what a norm was made with and still holds, by the arguments of its constructor.

    Args:
        norm: a linen or nnx norm.

    Returns:
        Values by name, without its name, its keys, its width and the layer that it wraps.

    Examples:
        >>> fields_of(nn.LayerNorm(epsilon=1e-3))["epsilon"]
        0.001
    """
    # Attributes of the instance: asking a linen module for a missing one would run its setup.
    own = vars(norm)
    held = {name: own[name] for name in arguments_of(type(norm)) if name in own}
    # Flax's nnx norms keep the parameters, but not whether they were asked for.
    asked = {f"use_{name}": own[name] is not None for name in ("scale", "bias") if name in own}
    return {name: v for name, v in {**asked, **held}.items() if name not in _NOT_OPTIONS}


def options_of(norm: Any) -> dict[str, Any]:
    """Returns the fields of a norm that are not at their defaults.

    Args:
        norm: a linen or nnx norm.

    Returns:
        Values by name.

    Examples:
        >>> options_of(nn.LayerNorm(epsilon=1e-3, use_bias=False))
        {'epsilon': 0.001, 'use_bias': False}
    """
    defaults = {name: argument.default for name, argument in arguments_of(type(norm)).items()}
    if dataclasses.is_dataclass(norm):
        factories = {field.name: field.default_factory for field in dataclasses.fields(norm)}
        defaults |= {name: make() for name, make in factories.items() if callable(make)}
    held = fields_of(norm)
    return {n: value for n, value in held.items() if n in defaults and value != defaults[n]}


def activation_of(norm: Any) -> str | None:
    """Returns what a norm applies to its output.

    Args:
        norm: a linen or nnx norm. The field of this name of a conditional norm is about its
            condition, and does not count.

    Returns:
        For example "silu"; None for nothing.

    Examples:
        >>> activation_of(jaxnorm.linen.LayerNorm(activation="silu")), activation_of(nn.LayerNorm())
        ('silu', None)
    """
    kind = kind_of(type(norm))
    applied = kind is not None and "activation" in SPECS[kind].options
    return vars(norm).get("activation") if applied else None


def input_features(norm: Any, shape: Shape) -> Shape:
    """Returns the sizes of a norm's feature axes in an input.

    Args:
        norm: a norm of activations.
        shape: of its input.

    Returns:
        [*features].

    Examples:
        >>> input_features(nn.BatchNorm(axis=1), (8, 3, 4))
        (3,)
    """
    own = vars(norm)
    axes = own.get("feature_axes", own.get("axis", -1))
    axes = canonical_axes(-1 if axes is None else axes, len(shape), "axis")
    return tuple(shape[axis] for axis in axes)


def arguments_of(factory: Any) -> dict[str, inspect.Parameter]:
    """Returns what a class or a function that makes modules takes.

    Args:
        factory: a class of modules, or a function.

    Returns:
        Parameters by name.

    Examples:
        >>> "num_groups" in arguments_of(nnx.GroupNorm)
        True
    """
    # The metaclass of nnx modules hides the constructor's signature.
    made = factory.__init__ if isinstance(factory, type) else factory
    return dict(inspect.signature(made).parameters)
