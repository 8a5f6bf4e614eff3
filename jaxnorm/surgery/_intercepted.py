"""A linen model whose norms are exchanged when they are called, and are not touched else."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from contextvars import ContextVar
from types import FunctionType
from typing import Any

import flax.linen as nn

from jaxnorm._views import Path
from jaxnorm.surgery._find import norm_row
from jaxnorm.surgery._fitting import fitting
from jaxnorm.surgery._kinds import OF_KERNELS, kind_of
from jaxnorm.surgery._rules import new_norm

_RULES: ContextVar[tuple[tuple[type, Any], ...]] = ContextVar("rules", default=())
"""The classes whose methods are running and their rules, the first that was made at the front."""

_RUNNING: ContextVar[tuple[tuple[Path, bool], ...]] = ContextVar("running", default=())
"""The paths whose new norms are running, and whether each wraps a layer.

Neither these nor what they are made of is exchanged; what a norm of kernels wraps is.
"""


def with_other_norms(model: nn.Module, rule: Any) -> nn.Module:
    """Returns a linen model whose calls exchange norms as a rule says.

    Args:
        model: a linen module.
        rule: of `frozen_rule`.

    Returns:
        A module of a subclass of the model's class, the same subclass for an equal rule.
    """
    return remade(model, _other_kind(type(model), rule))


def remade(model: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """Returns an unbound module of another class with the same fields.

    Args:
        model: a linen module.
        kind: a class with the fields of the model's.

    Returns:
        The module, with the model's name.

    Examples:
        >>> class Wide(nn.Dense):
        ...     pass
        >>> remade(nn.Dense(3), Wide).features
        3
    """
    fields = [f.name for f in dataclasses.fields(model) if f.init and f.name != "parent"]
    return kind(**{name: getattr(model, name) for name in fields})


@functools.cache
def _other_kind(kind: type[nn.Module], rule: Any) -> type[nn.Module]:
    @nn.nowrap
    def reduce(self: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # The name of this class leads to the original one, so pickle takes the original model.
        return with_other_norms, (remade(self, kind), rule)

    made: list[type[nn.Module]] = []
    methods = {name: _intercepted(method, made, rule) for name, method in _methods(kind).items()}
    members = {"__reduce__": reduce, "__module__": kind.__module__, **methods}
    made.append(type(kind.__name__, (kind,), members))
    return made[0]


def _methods(kind: type) -> dict[str, Any]:
    """Returns the methods of a class by which users call its modules."""
    found = {}
    for base in reversed(kind.__mro__[: kind.__mro__.index(nn.Module)]):
        for name, member in vars(base).items():
            public = name == "__call__" or not name.startswith("_")
            if public and name != "setup" and isinstance(member, FunctionType):
                found[name] = member
    return {name: member for name, member in found.items() if not hasattr(member, "nowrap")}


def _intercepted(method: Any, made: list[type[nn.Module]], rule: Any) -> Any:
    # `updated=()` leaves out the marks of Flax's wrapper: Flax does not wrap a marked method.
    @functools.wraps(method, updated=())
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        active = _RULES.get()
        if any(kind is made[0] for kind, _ in active):
            return method(self, *args, **kwargs)
        # A model that was changed twice runs the method of its second class around the first's.
        token = _RULES.set(((made[0], rule), *active))
        try:
            with contextlib.nullcontext() if active else nn.intercept_methods(_exchange):
                return method(self, *args, **kwargs)
        finally:
            _RULES.reset(token)

    return call


def _exchange(next_fun: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    norm = context.module
    is_norm = context.method_name == "__call__" and kind_of(type(norm)) is not None
    if not is_norm or _is_new(norm.path):
        return next_fun(*args, **kwargs)
    x = args[0] if args else next(iter(kwargs.values()), None)
    new = outside(lambda: _changed(norm, x))
    if new is None:
        return next_fun(*args, **kwargs)
    bound = new.clone(parent=norm.scope)
    args, kwargs = fitting(norm, bound, args, kwargs)
    here = norm.path, kind_of(type(new)) in OF_KERNELS
    token = _RUNNING.set((*_RUNNING.get(), here))
    try:
        return bound(*args, **kwargs)
    finally:
        _RUNNING.reset(token)


def _is_new(path: Path) -> bool:
    running = _RUNNING.get()
    return any(path == new or (not wraps and path[: len(new)] == new) for new, wraps in running)


def _changed(norm: nn.Module, x: Any) -> Any:
    """Returns what all rules in turn make of a norm, or None where it stays."""
    new = None
    for _, rule in _RULES.get():
        current = norm if new is None else new
        made = new_norm(rule, norm_row(norm.path, current, {}, x), current)
        new = new if made is None else made
    return new


def outside(make: Callable[[], nn.Module | None]) -> Any:
    """Returns the unbound module that a function makes, which no calling module adopts.

    Args:
        make: makes a module, or None.

    Returns:
        The module without a parent and without a name, or None.

    Examples:
        >>> outside(nn.LayerNorm).name
    """
    return _Outside(make, parent=None).apply({})


class _Outside(nn.Module):
    make: Callable[[], Any]

    @nn.compact
    def __call__(self) -> Any:
        made = self.make()
        return None if made is None else made.clone(parent=None, name=None)
