"""Which parameters belong to norms, told by the structure of the tree."""

from collections.abc import Mapping
from typing import Any, Literal

from jaxnorm.typing import PyTree

Label = Literal["norm", "bias", "weight"]

_WEIGHTS = ("kernel", "embedding")


def norm_param_labels(params: PyTree, batch_stats: PyTree | None = None) -> PyTree:
    """Returns a label for each parameter: "norm", "bias" or "weight".

    A layer is a norm where its parameters have a `scale` beside no kernel and no embedding, or
    where `batch_stats` has a mean and a variance at its path. The scale of a weight norm counts as
    a norm's; every other parameter named `bias` is a "bias", all else is a "weight". The number of
    axes of a parameter says nothing: a scale may have several, and a kernel may have one.

    Args:
        params: nested dictionaries of parameters.
        batch_stats: running statistics of the same nesting, by which batch norms without a scale
            are recognized.

    Returns:
        Strings in the structure of `params`, as `optax.multi_transform` takes them; weight decay of
        the weights alone is `optax.masked(decay, jax.tree.map(lambda l: l == "weight", labels))`.

    Examples:
        >>> layer, norm = {"kernel": 1.0, "bias": 0.0}, {"scale": 1.0, "bias": 0.0}
        >>> labels = norm_param_labels({"dense": layer, "norm": norm})
        >>> labels["dense"]
        {'kernel': 'weight', 'bias': 'bias'}
        >>> labels["norm"]
        {'scale': 'norm', 'bias': 'norm'}
    """
    return _label(params, {} if batch_stats is None else batch_stats)


def _label(params: Any, stats: Any) -> Any:
    own = {name for name, below in params.items() if not isinstance(below, Mapping)}
    running = isinstance(stats, Mapping) and {"mean", "var"} <= set(stats)
    is_norm = running or ("scale" in own and own.isdisjoint(_WEIGHTS))
    below = stats if isinstance(stats, Mapping) else {}
    labels = {
        name: _leaf_label(name, is_norm) if name in own else _label(part, below.get(name, {}))
        for name, part in params.items()
    }
    return labels if isinstance(params, dict) else type(params)(labels)


def _leaf_label(name: str, is_norm: bool) -> Label:
    # Flax's weight norm names its scale after the kernel: "Dense_0/kernel/scale".
    _, slash, last = name.rpartition("/")
    if is_norm or (slash and last == "scale"):
        return "norm"
    return "bias" if last == "bias" else "weight"
