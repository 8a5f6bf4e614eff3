"""Which batch norms of a model see nothing but the output of one linear layer, by its data flow."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from flax.traverse_util import unflatten_dict
from jax.ad_checkpoint import checkpoint_name

from jaxnorm.surgery._batch_norms import BATCH_NORMS, feature_axes, uses_running_average
from jaxnorm.surgery._paths import Path, by_path, path_name
from jaxnorm.typing import Array, PyTree

LINEAR = (nn.Dense, nn.Conv, nn.ConvTranspose)
"""Layers whose output is linear in the kernel, feature by feature along the last axis."""

_MARK = "jaxnorm.surgery"


class Pair(NamedTuple):
    """A linear layer and the batch norm that alone sees its output."""

    layer: Path
    norm: Path
    kernel_axis: int  # the axis of the kernel that holds the output's features
    epsilon: float  # of the batch norm


class _Sites(NamedTuple):
    """What the calls of a traced model say about its layers."""

    kernel_axes: dict[Path, int]
    epsilons: dict[Path, float]
    faults: dict[Path, str]  # why a layer or norm cannot take part


def find_pairs(
    model: nn.Module, variables: Mapping[str, PyTree], *args: Any, **kwargs: Any
) -> tuple[list[Pair], dict[Path, str]]:
    """Returns the pairs that can be folded, and why the other batch norms cannot.

    The model is traced on abstract values, with a mark on each linear layer's output and on each
    batch norm's input. A pair is proven where the marked input is the marked output and nothing
    else reads it, the kernel and the statistics arrive as they are stored, and both layers run
    once.

    Args:
        model: a linen module.
        variables: its variables; `jax.ShapeDtypeStruct`s will do.
        *args: the arguments of an evaluating call; `jax.ShapeDtypeStruct`s will do for arrays.
        **kwargs: keyword arguments of the call, such as `train=False`.

    Returns:
        The pairs in the order of the norms' calls, and a reason for each other batch norm.
    """
    sites = _Sites({}, {}, {})
    flat = by_path(variables)
    names = list(flat)

    def traced(leaves: list[Array], args: tuple[Any, ...]) -> Any:
        given = dict(zip(names, leaves, strict=True))
        with nn.intercept_methods(_marking(sites, given)):
            return model.apply(unflatten_dict(given), *args, **kwargs)

    jaxpr = jax.make_jaxpr(traced)(list(flat.values()), args).jaxpr
    flow = _Flow(jaxpr)
    uses = dict(zip(names, (flow.uses[var] for var in jaxpr.invars), strict=False))
    pairs, kept = [], {}
    for norm in sites.epsilons:
        layer, fault = _source(norm, flow, sites)
        fault = fault or _layer_fault(layer, flow, sites, uses)
        if fault:
            kept[norm] = fault
        else:
            pairs.append(Pair(layer, norm, sites.kernel_axes[layer], sites.epsilons[norm]))
    return pairs, kept


class _Flow:
    """Where the marks of a jaxpr are, and how often each value is read."""

    def __init__(self, jaxpr: Any) -> None:
        self.uses: Counter[Any] = Counter()
        self.outputs: dict[Any, Path] = {}  # value -> the linear layer whose output it is
        self.inputs: dict[Path, Any] = {}  # batch norm -> the value it reads
        self.calls: Counter[tuple[str, Path]] = Counter()
        for inner in _with_inner(jaxpr):
            self._read(inner)

    def _read(self, jaxpr: Any) -> None:
        values = [v for v in jaxpr.outvars if not hasattr(v, "val")]
        for eqn in jaxpr.eqns:
            values += [v for v in eqn.invars if not hasattr(v, "val")]
            mark = eqn.params.get("name") if eqn.primitive.name == "name" else None
            if not isinstance(mark, str) or not mark.startswith(f"{_MARK}|"):
                continue
            _, role, *parts = mark.split("|")
            self.calls[role, tuple(parts)] += 1
            if role == "out":
                self.outputs[eqn.outvars[0]] = tuple(parts)
            else:
                self.inputs[tuple(parts)] = eqn.invars[0]
        self.uses.update(values)


def _with_inner(jaxpr: Any) -> Iterator[Any]:
    yield jaxpr
    for inner in _inner(jaxpr):
        yield from _with_inner(inner)


def _inner(jaxpr: Any) -> Iterator[Any]:
    for eqn in jaxpr.eqns:
        for param in eqn.params.values():
            for candidate in param if isinstance(param, tuple | list) else (param,):
                inner = getattr(candidate, "jaxpr", candidate)
                if hasattr(inner, "eqns"):
                    yield inner


def _marking(sites: _Sites, given: Mapping[Path, Array]) -> Callable[..., Any]:
    def mark(next_fun: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__":
            return next_fun(*args, **kwargs)
        if type(module) in LINEAR:
            return _mark_linear(sites, given, module, next_fun(*args, **kwargs))
        if type(module) in BATCH_NORMS:
            x, *rest = args or (kwargs["x"],)
            _note_norm(sites, given, module, x, [x, *rest], kwargs)
            keywords = {name: value for name, value in kwargs.items() if name != "x"}
            return next_fun(_marked(x, "in", module.path), *rest, **keywords)
        return next_fun(*args, **kwargs)

    return mark


def _mark_linear(sites: _Sites, given: Mapping[Path, Array], module: Any, y: Array) -> Array:
    transposed = getattr(module, "transpose_kernel", False)
    sites.kernel_axes[module.path] = -2 if transposed else -1
    if not _is_stored(given, module, "params", "kernel"):
        sites.faults[module.path] = (
            f"the kernel of {path_name(module.path)} reaches it changed by a reparametrization, or "
            "through a lifted transformation"
        )
    return _marked(y, "out", module.path)


def _note_norm(
    sites: _Sites,
    given: Mapping[Path, Array],
    module: Any,
    x: Array,
    args: list[Any],
    kwargs: Mapping[str, Any],
) -> None:
    sites.epsilons[module.path] = module.epsilon
    if not uses_running_average(module, args, kwargs):
        sites.faults[module.path] = (
            "it normalizes with batch statistics in this call; call the model in eval mode"
        )
    elif feature_axes(module, x.ndim) != (x.ndim - 1,):
        sites.faults[module.path] = f"its features are along axis={module.axis}, not the last"
    elif not all(_is_stored(given, module, "batch_stats", name) for name in ("mean", "var")):
        sites.faults[module.path] = "its statistics reach it through a lifted transformation"


def _is_stored(given: Mapping[Path, Array], module: Any, collection: str, name: str) -> bool:
    stored = given.get((collection, *module.path, name))
    return stored is not None and module.get_variable(collection, name) is stored


def _marked(x: Array, role: str, path: Path) -> Array:
    return checkpoint_name(x, "|".join((_MARK, role, *path)))


def _source(norm: Path, flow: _Flow, sites: _Sites) -> tuple[Path, str]:
    """Returns the linear layer whose output a norm reads, or why there is none."""
    if norm in sites.faults:
        return (), sites.faults[norm]
    if flow.calls["in", norm] != 1:
        return (), f"it is called {flow.calls['in', norm]} times"
    value = flow.inputs[norm]
    if value not in flow.outputs:
        return (), "its input is not the output of a Dense, Conv or ConvTranspose layer"
    layer = flow.outputs[value]
    if flow.uses[value] != 1:
        return layer, f"the output of {path_name(layer)} is also used elsewhere"
    return layer, ""


def _layer_fault(layer: Path, flow: _Flow, sites: _Sites, uses: Mapping[Path, int]) -> str:
    if layer in sites.faults:
        return sites.faults[layer]
    if flow.calls["out", layer] != 1:
        return f"{path_name(layer)} is called {flow.calls['out', layer]} times"
    if any(uses.get(("params", *layer, name), 0) > 1 for name in ("kernel", "bias")):
        return f"the parameters of {path_name(layer)} are also used elsewhere"
    return ""
