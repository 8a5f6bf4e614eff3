"""Which batch norms of a model stand alone beside one linear layer, by the flow of its data."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax.traverse_util import unflatten_dict

from jaxnorm._views import Call, Path, intercept
from jaxnorm.surgery._batch_norms import feature_axes, uses_running_average
from jaxnorm.surgery._flow import Flow, marked
from jaxnorm.surgery._kinds import KINDS, activation_of, kind_of
from jaxnorm.surgery._linear import LINEAR, input_fault, kernel_axis
from jaxnorm.surgery._paths import by_path, path_name
from jaxnorm.typing import Array, PyTree

_BATCH_NORMS = tuple(
    kind for kind, name in KINDS.items() if name in ("batch_norm", "ghost_batch_norm")
)
_IN, _OUT, _NORM_IN, _NORM_OUT = "layer in", "layer out", "norm in", "norm out"


class Norm(NamedTuple):
    """A batch norm that can be folded."""

    path: Path
    epsilon: float


class Chain(NamedTuple):
    """A linear layer, and the batch norms directly beside it, in the order of the calls."""

    layer: Path
    kernel_axis: int  # the axis of the kernel that holds the output's features
    groups: int  # of features, each of which sees its own part of the input
    before: tuple[Norm, ...] = ()
    after: tuple[Norm, ...] = ()


class _Sites(NamedTuple):
    """What the calls of a traced model say about its layers."""

    layers: dict[Path, Chain]
    epsilons: dict[Path, float]
    faults: dict[Path, str]  # why a layer or norm cannot take part
    input_faults: dict[Path, str]  # why a layer cannot take in a norm before it
    norms: list[Path]  # of each call of a norm
    void: set[int]  # calls of norms in whose place others ran


def find_chains(
    apply: Callable[..., Any],
    variables: Mapping[str, PyTree],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    bias_may_be_made: bool,
) -> tuple[list[Chain], dict[Path, str]]:
    """Returns the chains that can be folded, and why the other batch norms cannot.

    The model is traced on abstract values, with marks on the inputs and outputs of linear layers
    and batch norms. A neighbour is proven where the marked input is the marked output and nothing
    else reads it, kernel and statistics arrive as they are stored, and both run once.

    Args:
        apply: (variables, *args, **kwargs) -> output.
        variables: of the model; `jax.ShapeDtypeStruct`s will do.
        args: of an evaluating call; `jax.ShapeDtypeStruct`s will do for arrays.
        kwargs: likewise, such as `train=False`.
        bias_may_be_made: whether a layer without a bias may get one.

    Returns:
        The chains in the order of the layers' calls, and a reason for each batch norm that stays.
    """
    sites = _Sites({}, {}, {}, {}, [], set())
    flat = by_path(variables)
    names = [name for name, leaf in flat.items() for _ in jax.tree.leaves(leaf)]

    def traced(given: list[Any], args: tuple[Any, ...]) -> Any:
        stored = dict(zip(flat, given, strict=True))
        with intercept(_marking(sites, stored)):
            return apply(unflatten_dict(stored), *args, **kwargs)

    jaxpr = jax.make_jaxpr(traced)(list(flat.values()), args).jaxpr
    flow = Flow(jaxpr, sites.void)
    for name, var in zip(names, jaxpr.invars, strict=False):
        path = name[1:-1]
        once = flow.calls[_OUT, path] == 1
        if once and flow.uses[var] > 1 and name[-1] in ("kernel", "bias"):
            tied = f"the parameters of {path_name(path)} are also used elsewhere"
            sites.faults.setdefault(path, tied)
    for path in sites.layers:
        has_bias = ("params", *path, "bias") in flat
        if not has_bias and not bias_may_be_made:
            no_bias = f"{path_name(path)} has no bias for its shift, which remove=True would make"
            sites.input_faults.setdefault(path, no_bias)
    return _chains(flow, sites)


def _chains(flow: Flow, sites: _Sites) -> tuple[list[Chain], dict[Path, str]]:
    chains, kept = dict(sites.layers), {}
    behind: dict[Path, Path] = {}  # norm that went into a layer before it -> the layer
    ahead: dict[Path, Path] = {}
    for norm in sites.epsilons:
        layer, fault = _source(norm, flow, sites, behind)
        if fault:
            kept[norm] = fault
        else:
            behind[norm] = layer
            after = (*chains[layer].after, Norm(norm, sites.epsilons[norm]))
            chains[layer] = chains[layer]._replace(after=after)
    # From the last: a norm may go ahead of one that went ahead of a layer.
    for norm in reversed(list(kept)):
        if norm in sites.faults or flow.calls[_NORM_IN, norm] != 1:
            continue
        layer, fault = _target(norm, flow, sites, ahead)
        if fault:
            kept[norm] += f", and {fault}"
        else:
            del kept[norm]
            ahead[norm] = layer
            before = (Norm(norm, sites.epsilons[norm]), *chains[layer].before)
            chains[layer] = chains[layer]._replace(before=before)
    return [chain for chain in chains.values() if chain.before or chain.after], kept


def _source(norm: Path, flow: Flow, sites: _Sites, behind: Mapping[Path, Path]) -> tuple[Path, str]:
    """Returns the linear layer whose output a norm reads, or why there is none."""
    if norm in sites.faults:
        return (), sites.faults[norm]
    if flow.calls[_NORM_IN, norm] != 1:
        return (), f"it is called {flow.calls[_NORM_IN, norm]} times"
    value = flow.reads[_NORM_IN, norm]
    role, maker = flow.makers.get(value, ("", ()))
    # Norms of one layer in a row go into it one after the other.
    if role == _OUT or (role == _NORM_OUT and maker in behind):
        layer = behind.get(maker, maker) if role == _NORM_OUT else maker
        if flow.uses[value] != 1:
            return layer, f"the output of {path_name(maker)} is also used elsewhere"
        return layer, _layer_fault(layer, flow, sites)
    return (), "its input is not the output of a Dense, Linear, Conv or ConvTranspose layer"


def _target(norm: Path, flow: Flow, sites: _Sites, ahead: Mapping[Path, Path]) -> tuple[Path, str]:
    """Returns the linear layer that alone reads the output of a norm, or why there is none."""
    value = flow.makes[_NORM_OUT, norm]
    role, reader = flow.readers.get(value, ("", ()))
    if flow.uses[value] == 1 and (role == _IN or (role == _NORM_IN and reader in ahead)):
        layer = ahead.get(reader, reader) if role == _NORM_IN else reader
        return layer, _layer_fault(layer, flow, sites) or sites.input_faults.get(layer, "")
    return (), "its output is not the input of one such layer alone"


def _layer_fault(layer: Path, flow: Flow, sites: _Sites) -> str:
    if layer in sites.faults:
        return sites.faults[layer]
    if flow.calls[_OUT, layer] != 1:
        return f"{path_name(layer)} is called {flow.calls[_OUT, layer]} times"
    return ""


def _marking(sites: _Sites, given: Mapping[Path, Any]) -> Callable[..., Any]:
    def mark(run: Callable[..., Any], args: Any, kwargs: Any, call: Call) -> Any:
        if call.kind in LINEAR:
            x, *rest = args or (kwargs["inputs"],)
            named = {name: value for name, value in kwargs.items() if name != "inputs"}
            _note_layer(sites, given, call, x)
            return marked(run(marked(x, _IN, call.path), *rest, **named), _OUT, call.path)
        if kind_of(call.kind) is not None:
            return _run_norm(sites, given, run, args, kwargs, call)
        return run(*args, **kwargs)

    return mark


def _run_norm(
    sites: _Sites,
    given: Mapping[Path, Any],
    run: Callable[..., Any],
    args: Any,
    kwargs: Any,
    call: Call,
) -> Any:
    index, path = len(sites.norms), call.path
    sites.norms.append(path)
    if call.kind not in _BATCH_NORMS:
        return run(*args, **kwargs)
    x, *rest = args or (kwargs["x"],)
    named = {name: value for name, value in kwargs.items() if name != "x"}
    y = run(marked(x, _NORM_IN, path, index), *rest, **named)
    if path in sites.norms[index + 1 :]:
        # Another norm ran in its place, as in a model of `replace_norms` or `freeze_statistics`.
        sites.void.add(index)
    else:
        _note_norm(sites, given, call, x, rest, kwargs)
    return marked(y, _NORM_OUT, path, index)


def _note_layer(sites: _Sites, given: Mapping[Path, Any], call: Call, x: Array) -> None:
    groups = getattr(call.module, "feature_group_count", 1)
    sites.layers.setdefault(call.path, Chain(call.path, kernel_axis(call.module), groups))
    fault = input_fault(call.module, x.shape)
    if fault:
        sites.input_faults[call.path] = f"{path_name(call.path)} {fault}"
    if not _is_stored(given, call, "params", "kernel"):
        sites.faults[call.path] = (
            f"the kernel of {path_name(call.path)} reaches it changed by a reparametrization, or "
            "through a lifted transformation"
        )


def _note_norm(
    sites: _Sites,
    given: Mapping[Path, Any],
    call: Call,
    x: Array,
    rest: list[Any],
    kwargs: Mapping[str, Any],
) -> None:
    module = call.module
    sites.epsilons[call.path] = module.epsilon
    if not uses_running_average(module, [x, *rest], kwargs):
        sites.faults[call.path] = (
            "it normalizes with batch statistics in this call; call the model in eval mode"
        )
    elif (activation := activation_of(module)) is not None:
        sites.faults[call.path] = f"it applies {activation}, which no kernel can hold"
    elif feature_axes(module, x.ndim) != (x.ndim - 1,):
        sites.faults[call.path] = f"its features are along axis={module.axis}, not the last"
    elif not all(_is_stored(given, call, "batch_stats", name) for name in ("mean", "var")):
        sites.faults[call.path] = "its statistics reach it through a lifted transformation"


def _is_stored(given: Mapping[Path, Any], call: Call, collection: str, name: str) -> bool:
    stored = given.get((collection, *call.path, name))
    return stored is not None and call.variable(collection, name) is stored
