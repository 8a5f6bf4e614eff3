"""The normalization of a model as an argument: one adapter between a factory and a layer."""

import functools
import inspect
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import flax.linen as nn

from jaxnorm import linen
from jaxnorm.functional import CATALOGUE, SPECS
from jaxnorm.typing import Array

NormFactory = Callable[..., Any]
"""Makes a normalization layer: a module class, a `functools.partial` of one, or a function."""

Initializer = Callable[..., Array]
"""A kernel or bias initializer: (key, shape, dtype) -> array."""

Activation = Callable[[Array], Array]
"""A pointwise nonlinearity."""


def norm_factory(
    norm: NormFactory | str | None,
    of: Literal["activations", "kernel"] = "activations",
    *,
    room: ModuleType = linen,
) -> NormFactory | None:
    """Returns what makes the layers of `norm`, which may be the name of a member of the catalogue.

    A name stands for the class in `room` with its defaults. A model can call each member whose
    class needs no further fields and whose layer needs no argument besides its input.

    Args:
        norm: a name such as "layer_norm", a factory, which is returned as it is, or None.
        of: whether activations or the kernels of a layer are to be normalized.
        room: where the classes are, `jaxnorm.linen` or `jaxnorm.nnx`.

    Returns:
        A factory, or None.

    Raises:
        ValueError: no member has this name, it normalizes the other thing, needs more than a model
            gives, or returns more than the normalized array.

    Examples:
        >>> norm_factory("layer_norm").__name__, norm_factory("spectral_norm", "kernel").__name__
        ('LayerNorm', 'SpectralNorm')
    """
    if not isinstance(norm, str):
        return norm
    named = {member.name: member for member in CATALOGUE}
    if norm not in named or named[norm].of != of:
        kind = " is not in the catalogue"
        if norm in named:
            kind = " normalizes kernels" if of == "activations" else " normalizes activations"
        fitting = [name for name, m in named.items() if m.of == of and not _misfit(name, room)]
        raise ValueError(f"norm {norm!r}{kind}; use one of {', '.join(fitting)}, or a factory")
    misfit = _misfit(norm, room)
    if misfit:
        raise ValueError(f"norm {norm!r} {misfit}")
    return getattr(room, SPECS[norm].module)


def apply_norm(
    norm: NormFactory | str | None,
    x: Array,
    *,
    train: bool,
    name: str | None = None,
    step: Array | None = None,
    **fields: Any,
) -> Array:
    """Returns `x` normalized by the layer that `norm` makes, or `x` itself where `norm` is None.

    To be called inside a module's `@nn.compact` method, whose child the layer becomes. A layer that
    has running averages is told `use_running_average=not train`, unless the factory has fixed that
    already: at construction where the factory takes the argument, else at the call where the layer
    does. The layer gets `name` where the factory takes one.

    Args:
        norm: a factory such as `jaxnorm.linen.LayerNorm`,
            `functools.partial(jaxnorm.linen.BatchNorm, momentum=0.9)` or
            `lambda: jaxnorm.linen.GroupNorm(num_groups=4)`, or a name (see `norm_factory`); None
            for no normalization.
        x: [N, ..., C], the layer's input.
        train: whether batch statistics are used, and running averages updated.
        name: the layer's name among its parent's children.
        step: [], the time step, for a layer whose call takes it.
        **fields: further arguments of the factory, for example `scale_init`.

    Returns:
        [N, ..., C], of the dtype that the layer gives.

    Raises:
        ValueError: a field is given that the factory does not take, the name does not fit, or the
            layer returns more than an array.

    Examples:
        >>> import jax.numpy as jnp
        >>> apply_norm(None, jnp.array([[3.0, 4.0]]), train=True)
        Array([[3., 4.]], dtype=float32)
    """
    norm = norm_factory(norm)
    check_fields(norm, fields)
    if norm is None:
        return x
    layer = _layer(norm, train, name, fields)
    average = getattr(layer, "use_running_average", not train) is None
    how = {"use_running_average": not train} if average else {}
    y = layer(x, **how, **({} if step is None or not _takes_step(layer) else {"step": step}))
    if isinstance(y, tuple):
        raise ValueError(f"{_describe(norm)} {_returns(len(y), _describe(norm))}")
    return y


def apply_kernel_norm(
    kernel_norm: NormFactory | str | None, layer: nn.Module, x: Array, *, train: bool
) -> Array:
    """Returns the output of a layer, its kernels normalized by what `kernel_norm` makes.

    To be called inside a module's `@nn.compact` method. The parameters of the layer stay where they
    are; those of the wrapper, which is called NAME_normed, are its own. A wrapper that iterates,
    such as spectral norm, is told `update_stats=train`.

    Args:
        kernel_norm: makes a wrapper of the layer, such as `jaxnorm.linen.WeightStandardization`, or
            a name (see `norm_factory`); None for the layer by itself.
        layer: a named child of the module, such as a convolution.
        x: [N, ..., C], its input.
        train: whether statistics of the kernels are updated.

    Returns:
        [N, ..., features], what the layer makes of `x`.

    Raises:
        ValueError: no norm of kernels has this name.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> class Net(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         dense = nn.Dense(1, kernel_init=nn.initializers.ones, name="dense")
        ...         return apply_kernel_norm("weight_centralization", dense, x, train=True)
        >>> Net().init_with_output(jax.random.key(0), jnp.ones((1, 2)))[0]
        Array([[0.]], dtype=float32)
    """
    factory = norm_factory(kernel_norm, "kernel")
    if factory is None:
        return layer(x)  # type: ignore[reportCallIssue]  # a linen module is called
    name = {"name": f"{layer.name}_normed"} if takes(factory, "name") else {}
    wrapper = factory(layer, **name)
    iterates = "update_stats" in inspect.signature(type(wrapper).__call__).parameters
    return wrapper(x, update_stats=train) if iterates else wrapper(x)


def has_own_bias(norm: NormFactory | str | None, use_bias: bool | None) -> bool:
    """Returns whether the dense or convolution layer before `norm` has a bias.

    The bias of the norm takes the place of the layer's bias. Before a norm without a bias, such as
    RMS norm or any norm with `use_bias=False`, the layer has one of its own; also before a
    pointwise function in the place of a norm, which shifts behind its squashing only.

    Args:
        norm: the factory or name of the normalization that follows, or None.
        use_bias: the user's choice; None for a bias just where the norm has none. A norm has a bias
            if its layer has a true attribute `use_bias`.

    Returns:
        True for a layer with a bias.

    Examples:
        >>> from jaxnorm.linen import BatchNorm, RMSNorm
        >>> [has_own_bias(norm, None) for norm in (None, BatchNorm, RMSNorm)]
        [True, False, True]
    """
    if use_bias is not None:
        return use_bias
    norm = norm_factory(norm)
    return norm is None or not _Asked(norm, _is_biased, parent=None).apply({})


def takes_step(norm: NormFactory | None) -> bool:
    """Returns whether the layers of a norm are called with the time step, as recurrent ones are.

    Args:
        norm: the factory, or None.

    Returns:
        Whether their call has an argument `step`.

    Examples:
        >>> from jaxnorm.linen import BatchNorm, RecurrentBatchNorm
        >>> takes_step(BatchNorm), takes_step(functools.partial(RecurrentBatchNorm, max_steps=4))
        (False, True)
    """
    return norm is not None and bool(_Asked(norm, _takes_step, parent=None).apply({}))


class _Asked(nn.Module):
    """Answers a question about the layer of a factory, without calling the layer.

    To be made with `parent=None`: the layer must not become a child of the module that asks.
    """

    norm: NormFactory
    question: Callable[[Any], bool]

    @nn.compact
    def __call__(self) -> bool:
        return self.question(_layer(self.norm, False, "norm", {}))


def _is_biased(layer: Any) -> bool:
    # `getattr(layer, "use_bias")` would run the setup of a layer without this attribute.
    biased = bool(getattr(layer, "__dict__", {}).get("use_bias", False))
    return biased and not is_pointwise(type(layer))


def _takes_step(layer: Any) -> bool:
    return "step" in inspect.signature(type(layer).__call__).parameters


def is_pointwise(cls: type) -> bool:
    """Returns whether a class of modules is a pointwise function in the place of a norm.

    Args:
        cls: a class of linen or nnx modules.

    Returns:
        True for a member of the theme "pointwise".

    Examples:
        >>> is_pointwise(linen.DynamicTanh), is_pointwise(linen.LayerNorm)
        (True, False)
    """
    function = getattr(getattr(cls, "spec", None), "function", None)
    return any(m.function is function and m.theme == "pointwise" for m in CATALOGUE)


def _misfit(name: str, room: ModuleType) -> str | None:
    """Returns why a model cannot call a member's module, None where it can."""
    module = SPECS[name].module
    cls = getattr(room, module)
    given = ("self", "num_features", "rngs", "layer_instance", "x", "update_stats", "args")
    # The metaclass of nnx hides a constructor's arguments from the class itself.
    calls = (cls.__init__, cls.__call__)
    parameters = [p for call in calls for p in inspect.signature(call).parameters.values()]
    asked = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    lacking = [name for name in asked if name not in given]
    if lacking:
        needs = f"needs {', '.join(lacking)}; use a function or a partial of "
        return f"{needs}{room.__name__}.{module} that gives what the model does not"
    found = get_type_hints(cls.__call__).get("return")
    return _returns(len(get_args(found)), module) if get_origin(found) is tuple else None


def _returns(count: int, module: str) -> str:
    of_one = f"lambda: lambda x: {module}()(x)[0]"
    return f"returns {count} values, but a model takes one array; use a layer of one, as {of_one}"


def _layer(norm: NormFactory, train: bool, name: str | None, fields: dict[str, Any]) -> Any:
    """Returns the layer that a factory makes of the arguments that the factory takes."""
    if name is not None and takes(norm, "name"):
        fields = {**fields, "name": name}
    chosen = "use_running_average" in getattr(norm, "keywords", {})
    if not chosen and names(norm, "use_running_average"):
        fields = {**fields, "use_running_average": not train}
    return norm(**fields)


def names(norm: NormFactory, argument: str) -> bool:
    """Returns whether a factory has a parameter of a name.

    Args:
        norm: a factory.
        argument: the name.

    Returns:
        False for a factory that only takes any keyword arguments.

    Examples:
        >>> names(linen.BatchNorm, "momentum"), names(lambda **fields: None, "momentum")
        (True, False)
    """
    return argument in _parameters(norm)


def _parameters(norm: NormFactory) -> dict[str, inspect.Parameter]:
    called, fixed = norm, 1
    while isinstance(called, functools.partial):
        called, fixed = called.func, fixed + len(called.args)
    if not isinstance(called, type):
        return dict(inspect.signature(norm).parameters)
    # The metaclass of nnx hides a constructor's arguments from the class itself.
    return dict(list(inspect.signature(called.__init__).parameters.items())[fixed:])


def check_fields(norm: NormFactory | None, fields: Iterable[str]) -> None:
    """Raises an error that names the fields which a factory does not take.

    Args:
        norm: a factory, or None, which takes none.
        fields: names of arguments.

    Raises:
        ValueError: there is one that it does not take.

    Examples:
        >>> check_fields(linen.LayerNorm, ["scale_init"])
    """
    unknown = sorted(field for field in fields if norm is None or not takes(norm, field))
    if unknown:
        raise ValueError(
            f"{_describe(norm)} takes no {', '.join(unknown)}; "
            "use a norm that has this field, or leave the option that asks for it at its default"
        )


def takes(norm: NormFactory, argument: str) -> bool:
    """Returns whether a factory takes a keyword argument.

    Args:
        norm: a factory.
        argument: its name.

    Returns:
        True also for a factory of any keyword arguments.

    Examples:
        >>> takes(linen.LayerNorm, "scale_init"), takes(lambda: None, "name")
        (True, False)
    """
    parameters = _parameters(norm)
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    return anything or argument in parameters


def _describe(norm: NormFactory | None) -> str:
    while isinstance(norm, functools.partial):
        norm = norm.func
    return f"norm={getattr(norm, '__qualname__', norm)}"
