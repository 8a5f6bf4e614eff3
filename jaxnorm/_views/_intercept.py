"""The calls of a model's modules, seen from outside while it runs."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import flax.linen as nn
from flax import nnx

Path = tuple[str, ...]
"""The names on the way to a module or an array."""


class Call(Protocol):
    """One call of a module, of linen or of nnx, while the model runs."""

    path: Path  # of the module
    module: Any  # bound, or of the running copy
    kind: type  # the class that the user knows
    initializing: bool  # whether the call makes the variables

    def owns_variables(self) -> bool:
        """Returns whether the module has parameters or running statistics of its own."""
        ...

    def variable(self, collection: str, name: str) -> Any:
        """Returns a parameter or statistic of the module as it is stored, None without it."""
        ...

    def kept(self, collection: str, name: str, default: Any) -> Any:
        """Returns what earlier calls have put into a collection, or the default."""
        ...

    def keep(self, collection: str, name: str, value: Any) -> bool:
        """Puts a value into a mutable collection; false where none can be carried out of here."""
        ...


Handler = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any], Call], Any]
"""(what comes next, its arguments, its keywords, the call) -> the output of the call."""

_HANDLERS: contextvars.ContextVar[tuple[Handler, ...]] = contextvars.ContextVar(
    "jaxnorm_handlers", default=()
)


class Sown(nnx.Variable):
    """What the calls of an nnx module leave in a collection, by name.

    It is an attribute of the module with the name of the collection.
    """


@contextlib.contextmanager
def intercept(handler: Handler) -> Iterator[None]:
    """Hands each call of a module's `__call__` to `handler` while the block runs.

    Models of nnx are intercepted where `NnxApply` calls them.

    Args:
        handler: gets what comes next, its arguments and the `Call`; returns the output.

    Yields:
        Nothing.
    """
    token = _HANDLERS.set((*_HANDLERS.get(), handler))
    try:
        with nn.intercept_methods(functools.partial(_of_linen, handler)):
            yield
    finally:
        _HANDLERS.reset(token)


def is_intercepting() -> bool:
    """Returns whether calls of modules go to a handler."""
    return bool(_HANDLERS.get())


def modules_of(model: Any) -> Iterator[tuple[Path, Any]]:
    """Yields the modules of an nnx model, a shared one once, by their paths."""
    for path, module in nnx.iter_modules(model):
        yield tuple(map(name_of, path)), module


def name_of(part: Any) -> str:
    """Returns an attribute name, a key or an index as a name."""
    return "/".join(map(str, part)) if isinstance(part, tuple) else str(part)


def make_visible(model: Any) -> None:
    """Lets the handlers see the calls of an nnx model's modules, by changing their classes."""
    for path, module in modules_of(model):
        if callable(module):
            module._jaxnorm_path = path
            module.__class__ = visible_kind(type(module))


@functools.cache
def visible_kind(kind: type) -> type:
    """Returns the subclass of a class whose calls are handed on, always the same."""

    @functools.wraps(kind.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        run = functools.partial(kind.__call__, self)
        # The last handler is the innermost block, and the first to see the call.
        for handler in _HANDLERS.get():
            run = functools.partial(_handed, handler, run, _NnxCall(self, kind))
        return run(*args, **kwargs)

    members = {"__call__": call, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind)(kind.__name__, (kind,), members)


def _handed(handler: Handler, run: Callable[..., Any], call: Call, *args: Any, **kw: Any) -> Any:
    return handler(run, args, kw, call)


def _of_linen(handler: Handler, next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
    if context.method_name != "__call__":
        return next_fun(*args, **kwargs)
    return handler(next_fun, args, kwargs, _LinenCall(context.module))


class _LinenCall:
    def __init__(self, module: nn.Module) -> None:
        self.module, self.kind, self.path = module, type(module), module.path
        self.initializing = module.is_initializing()

    def owns_variables(self) -> bool:
        own = [self.module.variables.get(name, {}) for name in ("params", "batch_stats")]
        return any(not isinstance(leaf, Mapping) for part in own for leaf in part.values())

    def variable(self, collection: str, name: str) -> Any:
        return self.module.get_variable(collection, name)

    def kept(self, collection: str, name: str, default: Any) -> Any:
        return self.module.get_variable(collection, name, default)

    def keep(self, collection: str, name: str, value: Any) -> bool:
        if not self.module.is_mutable_collection(collection):
            return False
        self.module.put_variable(collection, name, value)
        return True


class _NnxCall:
    initializing = False

    def __init__(self, module: Any, kind: type) -> None:
        self.module, self.kind, self.path = module, kind, module._jaxnorm_path

    def owns_variables(self) -> bool:
        return any(isinstance(v, nnx.Param | nnx.BatchStat) for v in vars(self.module).values())

    def variable(self, collection: str, name: str) -> Any:
        found = vars(self.module).get(name)
        return found.get_value() if isinstance(found, nnx.Variable) else None

    def kept(self, collection: str, name: str, default: Any) -> Any:
        sown = vars(self.module).get(collection)
        return default if sown is None else sown.get_value().get(name, default)

    def keep(self, collection: str, name: str, value: Any) -> bool:
        sown = vars(self.module).get(collection)
        if sown is None:
            setattr(self.module, collection, Sown({name: value}))
        else:
            sown.set_value({**sown.get_value(), name: value})
        return True
