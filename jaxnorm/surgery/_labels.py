"""Which parameters belong to norms, told by the structure of the tree."""

from collections.abc import Mapping
from typing import Any, Literal, overload

import jax
from flax import nnx

from jaxnorm._views import Path, name_of, variables_of
from jaxnorm.surgery._paths import by_path
from jaxnorm.typing import PyTree

Label = Literal["norm", "bias", "weight"]

_WEIGHTS = ("kernel", "embedding")


@overload
def norm_param_labels(params: nnx.Module, /) -> nnx.State: ...


@overload
def norm_param_labels(params: PyTree, batch_stats: PyTree | None = None) -> PyTree: ...


def norm_param_labels(params: Any, batch_stats: PyTree | None = None) -> Any:
    """Returns a label for each parameter: "norm", "bias" or "weight".

    A layer is a norm where its parameters have a `scale` beside no kernel and no embedding, or
    where `batch_stats` has a mean and a variance at its path. The scale of a weight norm counts as
    a norm's; every other parameter named `bias` is a "bias", all else is a "weight". The number of
    axes of a parameter says nothing: a scale may have several, and a kernel may have one.

    Args:
        params: nested dictionaries of parameters, or an nnx model.
        batch_stats: running statistics of the same nesting, by which batch norms without a scale
            are recognized.

    Returns:
        Strings in the structure of `params`, as `optax.multi_transform` takes them; weight decay of
        the weights alone is `optax.masked(decay, jax.tree.map(lambda l: l == "weight", labels))`.
        Of an nnx model the structure is that of `nnx.state(model, nnx.Param)`, for an optimizer
        `nnx.Optimizer(model, tx, wrt=nnx.Param)`.

    Examples:
        >>> layer, norm = {"kernel": 1.0, "bias": 0.0}, {"scale": 1.0, "bias": 0.0}
        >>> labels = norm_param_labels({"dense": layer, "norm": norm})
        >>> labels["dense"]
        {'kernel': 'weight', 'bias': 'bias'}
        >>> labels["norm"]
        {'scale': 'norm', 'bias': 'norm'}
        >>> norm_param_labels(nnx.LayerNorm(2, rngs=nnx.Rngs(0)))["scale"].get_value()
        'norm'
    """
    if isinstance(params, nnx.Module):
        return labels_like(labels_by_path(params), nnx.state(params, nnx.Param))
    return _label(params, {} if batch_stats is None else batch_stats)


def labels_by_path(model: nnx.Module | Mapping[str, PyTree]) -> dict[Path, Label]:
    """Returns the label of each parameter by its path.

    Args:
        model: an nnx model, or the variables of a linen model.

    Returns:
        Labels as of `norm_param_labels`.

    Examples:
        >>> labels_by_path({"params": {"dense": {"kernel": 1.0}}})
        {('dense', 'kernel'): 'weight'}
    """
    variables = variables_of(model)
    return by_path(_label(variables.get("params", {}), variables.get("batch_stats", {})))


def labels_like(labels: Mapping[Path, str], params: PyTree) -> Any:
    """Returns the labels in the structure of parameters, dictionaries or the state of an nnx model.

    Args:
        labels: by path.
        params: parameters at these paths.

    Returns:
        Strings in the structure of `params`.

    Examples:
        >>> labels_like({("dense", "kernel"): "weight"}, {"dense": {"kernel": 1.0}})
        {'dense': {'kernel': 'weight'}}
    """

    def label(keys: tuple[Any, ...], leaf: Any) -> str:
        path = tuple(_name(key) for key in keys)
        # The last key of a state leads into a variable.
        return labels[path] if path in labels else labels[path[:-1]]

    return jax.tree_util.tree_map_with_path(label, params)


def _name(key: Any) -> str:
    return name_of(next(getattr(key, n) for n in ("key", "idx", "name") if hasattr(key, n)))


def _label(params: Any, stats: Any) -> Any:
    own = {name for name, below in params.items() if not isinstance(below, Mapping)}
    running = isinstance(stats, Mapping) and {"mean", "var"} <= set(stats)
    is_norm = running or ("scale" in own and own.isdisjoint(_WEIGHTS))
    below = stats if isinstance(stats, Mapping) else {}
    labels = {
        name: _leaf_label(name, is_norm) if name in own else _label(part, below.get(name, {}))
        for name, part in params.items()
    }
    if "layer_instance" in params and "scales" in params:  # a weight norm of nnx
        labels["scales"] = jax.tree.map(lambda _: "norm", params["scales"])
    return labels if isinstance(params, dict) else type(params)(labels)


def _leaf_label(name: str, is_norm: bool) -> Label:
    # Flax's weight norm names its scale after the kernel: "Dense_0/kernel/scale".
    _, slash, last = name.rpartition("/")
    if is_norm or (slash and last == "scale"):
        return "norm"
    return "bias" if last == "bias" else "weight"
