"""The calls of the norms in one abstract call of a model, linen or nnx."""

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jaxnorm._views import Call, NnxApply, Path, intercept
from jaxnorm.surgery._jaxprs import equations
from jaxnorm.surgery._kinds import kind_of
from jaxnorm.surgery._nnx_tree import nnx_norms, own_variables
from jaxnorm.surgery._paths import by_path
from jaxnorm.typing import PyTree

_MARK = "jaxnorm.surgery.norm"


class NormCall(NamedTuple):
    """A norm of a model, and what it is called with; arrays are `jax.ShapeDtypeStruct`s."""

    path: Path
    norm: Any  # unbound
    variables: dict[str, PyTree]  # its own in the model: collection -> nested by name
    inner: dict[str, PyTree]  # likewise as the call sees them, in a scan those of one step
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    times: int  # how often this call happens: in a scan, once per step


def norm_calls(model: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[NormCall]:
    """Returns the calls of every norm in one call of a model, in their order.

    Args:
        model: a linen or nnx module. Nothing in it is changed, and nothing is computed.
        args: of the call; a `jax.ShapeDtypeStruct` will do for an array.
        kwargs: of the call.

    Returns:
        One entry per call; a norm that is called twice has two, a call in a scan has its steps.

    Raises:
        ValueError: there are no arguments to call the model with.
    """
    if not args and not kwargs:
        raise ValueError(
            f"got {type(model).__name__} and no arguments, but shapes are known from a call only; "
            "give the arguments of one after the model, arrays or jax.ShapeDtypeStructs"
        )
    if isinstance(model, nnx.Module):
        return _nnx_calls(model, args, kwargs)
    return _linen_calls(model, args, kwargs)


def shapes_of(tree: PyTree) -> PyTree:
    """Returns a tree with the shape and dtype of each array in its place.

    Args:
        tree: arrays, tracers among them, and other leaves, which stay.

    Returns:
        The same nesting.

    Examples:
        >>> shapes_of((jax.numpy.ones(2), 3))
        (ShapeDtypeStruct(shape=(2,), dtype=float32), 3)
    """
    return jax.tree.map(_shape_of, tree)


def abstract_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Returns a function as a jaxpr, arguments that are no arrays left as they are.

    Args:
        function: of (*args, **kwargs).
        args: arrays, `jax.ShapeDtypeStruct`s, or anything else, such as `True`.
        kwargs: likewise.

    Returns:
        The jaxpr, and the shapes of the results.

    Examples:
        >>> x = jax.ShapeDtypeStruct((2,), "float32")
        >>> abstract_call(lambda x, twice: x + x if twice else x, (x, True), {})[1]
        ShapeDtypeStruct(shape=(2,), dtype=float32)
    """
    leaves, structure = jax.tree.flatten((args, dict(kwargs)))
    given = {i: leaf for i, leaf in enumerate(leaves) if hasattr(leaf, "shape")}

    def call(arrays: dict[int, Any]) -> Any:
        full = [arrays.get(i, leaf) for i, leaf in enumerate(leaves)]
        args, kwargs = jax.tree.unflatten(structure, full)
        return function(*args, **kwargs)

    jaxpr, shapes = jax.make_jaxpr(call, return_shape=True)(given)
    return jaxpr.jaxpr, shapes


def _shape_of(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if hasattr(leaf, "dtype") else leaf


class _Log:
    """The calls so far, each with a mark on its input by which the finished jaxpr tells of it."""

    def __init__(self) -> None:
        self.calls: list[NormCall] = []
        self.sizes: list[int] = []
        self.void: set[int] = set()

    def note(self, call: NormCall) -> tuple[Any, Any]:
        """Returns the arguments of the call, the first array marked, and keeps their shapes."""
        leaves, structure = jax.tree.flatten((call.args, call.kwargs))
        at = next(i for i, leaf in enumerate(leaves) if hasattr(leaf, "dtype"))
        marked = [*leaves]
        marked[at] = checkpoint_name(jnp.asarray(leaves[at]), f"{_MARK}|{len(self.calls)}")
        args, kwargs = shapes_of((call.args, call.kwargs))
        inner = shapes_of(call.inner)
        self.calls.append(call._replace(args=args, kwargs=kwargs, inner=inner))
        self.sizes.append(leaves[at].size)
        return jax.tree.unflatten(structure, marked)

    def counted(self, jaxpr: Any) -> list[NormCall]:
        """Returns the calls that are in the jaxpr: JAX traces the body of a loop repeatedly."""
        times = Counter[int]()
        for eqn, repeats in equations(jaxpr):
            mark = eqn.params.get("name") if eqn.primitive.name == "name" else None
            if isinstance(mark, str) and mark.startswith(f"{_MARK}|"):
                index = int(mark.split("|")[1])
                # Under vmap the jaxpr's array is larger than the one that the norm saw.
                times[index] += repeats * (eqn.outvars[0].aval.size // max(self.sizes[index], 1))
        real = [i for i in range(len(self.calls)) if times[i] and i not in self.void]
        return [self.calls[i]._replace(times=times[i]) for i in real]


def _linen_calls(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[NormCall]:
    log = _Log()

    def watch(next_fun: Callable[..., Any], given: Any, named: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__" or kind_of(type(module)) is None:
            return next_fun(*given, **named)
        norm = module.clone(parent=None, name=None)
        index = len(log.calls)
        given, named = log.note(NormCall(module.path, norm, {}, {}, given, named, 0))
        y = next_fun(*given, **named)
        if any(call.path == module.path for call in log.calls[index + 1 :]):
            # Another norm ran in its place, as in a model of `replace_norms`.
            log.void.add(index)
        # The norm has made its variables by now.
        inner = shapes_of(nn.unbox({name: dict(tree) for name, tree in module.variables.items()}))
        log.calls[index] = log.calls[index]._replace(inner=inner)
        return y

    def init(key: jax.Array, *args: Any, **kwargs: Any) -> Any:
        with nn.intercept_methods(watch):
            return nn.unbox(model.init(key, *args, **kwargs))

    jaxpr, made = abstract_call(functools.partial(init, jax.random.key(0)), args, kwargs)
    whole = {name: by_path(tree) for name, tree in made.items()}
    return [call._replace(variables=_below(whole, call.path)) for call in log.counted(jaxpr)]


def _below(whole: Mapping[str, Mapping[Path, Any]], path: Path) -> dict[str, PyTree]:
    """Returns the parts of each collection at a path, by the names that are left."""
    found = {
        collection: {
            "/".join(at[len(path) :]): leaf
            for at, leaf in leaves.items()
            if at[: len(path)] == path
        }
        for collection, leaves in whole.items()
    }
    return {collection: leaves for collection, leaves in found.items() if leaves}


def _nnx_calls(
    model: nnx.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[NormCall]:
    log = _Log()
    norms = dict(nnx_norms(model))
    copy = nnx.clone(model)
    for _, norm in nnx_norms(copy):
        # As linen's norms do while they are initialized: the axis of shards is not bound here.
        if getattr(norm, "axis_name", None) is not None:
            norm.axis_name = None

    def watch(run: Callable[..., Any], given: Any, named: Any, call: Call) -> Any:
        if kind_of(call.kind) is None:
            return run(*given, **named)
        norm, inner = norms[call.path], own_variables(call.module)
        whole = shapes_of(own_variables(norm))
        given, named = log.note(NormCall(call.path, norm, whole, inner, given, named, 0))
        return run(*given, **named)

    apply, variables = NnxApply.of(copy)
    with intercept(watch):
        jaxpr, _ = abstract_call(apply, (variables, *args), kwargs)
    return log.counted(jaxpr)
