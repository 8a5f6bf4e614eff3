"""Equinox: the names and layouts of its modules and of their state."""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm.interop._files import as_kind
from jaxnorm.interop._framework import Framework, Layouts, Leaf, Names, Rules
from jaxnorm.interop._from_flax import from_flax
from jaxnorm.interop._layout import CHANNELS_FIRST, KEEPDIMS, OUT_FIRST, ZERO_CENTERED
from jaxnorm.interop._optional import require
from jaxnorm.interop._record import forgotten_count
from jaxnorm.interop._report import Conversion
from jaxnorm.interop._to_flax import to_flax

# The name of a leaf -> what it is in Flax: the first that our layer has.
ROLES = {
    "weight": ("kernel", "scale", "embedding"),
    "bias": ("bias",),
    # BatchNorm(mode="batch"): sums that evaluation divides by 1 - momentum^counter.
    "batch_state_index.0": ("hidden_mean",),
    "batch_state_index.1": ("hidden_var",),
    "batch_counter": ("hidden_count",),
    "momentum": ("decay",),
    # BatchNorm(mode="ema")
    "ema_state_index.0": ("mean",),
    "ema_state_index.1": ("var",),
    "ema_first_time_index": ("first_time",),
    # WeightNorm and SpectralNorm
    "g": ("length",),
    "uv_index.0": ("u",),
    "uv_index.1": ("v",),
}

EQUINOX = Framework(
    title="Equinox",
    roles=ROLES,
    # The same for ConvTranspose, whose kernel Flax does not flip either.
    layouts={**OUT_FIRST, "channels_first": CHANNELS_FIRST, "zero_centered": ZERO_CENTERED},
    path=lambda layer: layer.replace(".", "/"),
    vectors=KEEPDIMS,
    fill={
        "batch_state_index.0": lambda record, leaf: record.get("mean"),
        "batch_state_index.1": lambda record, leaf: record.get("var"),
        "batch_counter": forgotten_count,
        "ema_first_time_index": lambda record, leaf: np.asarray(False),
    },
)


def from_equinox(
    source: Any,
    like: Any,
    *,
    names: Names | None = None,
    layouts: Layouts | None = None,
    keep: Iterable[str] = (),
) -> Conversion:
    """Returns an Equinox model and its state as variables of Flax.

    Kernels get their axes in Flax's order, as from PyTorch. The statistics of
    `BatchNorm(mode="batch")` are divided by `1 - momentum^counter`, as Equinox's evaluation does;
    where a norm of `like` has the estimator `debiased(momentum)`, its state takes over the
    undivided averages. Those of `mode="ema"` before the first batch are uninitialized memory there,
    and become mean 0 and variance 1.

    Args:
        source: a model, or `(model, state)`.
        like: the variables of the Flax model; see `from_torch`.
        names: Equinox's layer -> ours, such as {"layers.0": "dense"}, or a function; see
            `from_torch`. A name that is not listed stays, with "/" for ".".
        layouts: pattern of Equinox's layers -> "channels_first", `after_flatten(C, H, W)` or a
            `Layout`.
        keep: patterns of leaves of `like` that stay as they are, such as `head/*`.

    Returns:
        A `Conversion`; its `variables` have the form of `like`.

    Raises:
        ValueError: a leaf does not fit, is missing or is left over; every one is named.
        ImportError: Equinox is not installed.

    Examples:
        >>> import equinox, jax
        >>> like = {"params": {"kernel": np.zeros((3, 2)), "bias": np.zeros(2)}}
        >>> source = equinox.nn.Linear(3, 2, key=jax.random.key(0))
        >>> print(from_equinox(source, like).report())
        weight [2, 3] -> kernel [3, 2] float32 as float64, [out, in] -> [in, out]
        bias [2] -> bias [2] float32 as float64
    """
    return to_flax(EQUINOX, _leaves(source), like, Rules(names, layouts, tuple(keep)))


def to_equinox(
    variables: Any, like: Any, *, names: Names | None = None, layouts: Layouts | None = None
) -> Conversion:
    """Returns variables of Flax as an Equinox model and its state.

    The inverse of `from_equinox`. Averages without a memory of their start get a counter so large
    that Equinox's debiasing changes nothing any more.

    Args:
        variables: a dictionary of collections, an `nnx.State` or an `nnx.Module`.
        like: an Equinox model, or `(model, state)`.
        names: as for `from_equinox`: Equinox's layer -> ours.
        layouts: as for `from_equinox`.

    Returns:
        A `Conversion`; its `variables` have the form of `like`.

    Raises:
        ValueError: a leaf does not fit, is missing or is left over; every one is named.
        ImportError: Equinox is not installed.

    Examples:
        >>> import equinox, jax
        >>> like = equinox.nn.LayerNorm(2)
        >>> variables = {"params": {"scale": np.full(2, 3.0), "bias": np.zeros(2)}}
        >>> to_equinox(variables, like).variables.weight
        Array([3., 3.], dtype=float32)
    """
    leaves = _leaves(like)
    done = from_flax(EQUINOX, variables, leaves, Rules(names, layouts))
    kept = [leaf for leaf in leaves if leaf.key in done.variables]
    arrays = {leaf.key: as_kind(done.variables[leaf.key], leaf.value) for leaf in kept}
    return done._replace(variables=_rebuilt(like, arrays))


def _leaves(source: Any) -> list[Leaf]:
    """Returns the arrays of a model, those of its state, and what its batch norms say of these."""
    equinox = require("equinox", "converting from and to Equinox")
    model, state = source if isinstance(source, tuple) else (source, None)
    leaves = []
    for path, node in _nodes(equinox, model):
        *owner, name = _names(equinox, model, path)
        if equinox.is_array(node):
            leaves.append(Leaf(_key(path), ".".join(owner), name, node))
        elif isinstance(node, equinox.nn.StateIndex):
            values = _read(state, node, path)
            for suffix, value in values.items():
                leaves.append(Leaf(_key(path) + suffix, ".".join(owner), name + suffix, value))
            if name == "batch_counter":
                momentum = _at(model, path[:-1]).momentum
                key = f"{_key(path)} momentum"
                leaves.append(Leaf(key, ".".join(owner), "momentum", momentum))
    untrained = {f.layer for f in leaves if f.name == "ema_first_time_index" and bool(f.value)}
    return [_identity(leaf) if leaf.layer in untrained else leaf for leaf in leaves]


def _read(state: Any, index: Any, path: tuple[Any, ...]) -> dict[str, Any]:
    """Returns the arrays that a state has for an index, by suffix: the only one, or ".0" and on."""
    if state is None:
        raise ValueError(f"{_key(path)} has its arrays in a state; pass (model, state)")
    values = state.get(index)
    return {f".{i}": v for i, v in enumerate(values)} if isinstance(values, tuple) else {"": values}


def _identity(leaf: Leaf) -> Leaf:
    """Returns statistics that are uninitialized memory as mean 0 and variance 1."""
    start = {"ema_state_index.0": np.zeros, "ema_state_index.1": np.ones}.get(leaf.name)
    return leaf if start is None else leaf._replace(value=start(leaf.value.shape, leaf.value.dtype))


def _rebuilt(like: Any, arrays: Mapping[str, Any]) -> Any:
    """Returns a model, or a model and its state, that is `like` with other arrays."""
    equinox = require("equinox", "converting from and to Equinox")
    model, state = like if isinstance(like, tuple) else (like, None)
    new = jax.tree_util.tree_map_with_path(
        lambda path, node: arrays[_key(path)] if equinox.is_array(node) else node,
        model,
        is_leaf=lambda node: isinstance(node, equinox.nn.StateIndex),
    )
    if state is None:
        return new
    state = jax.tree.map(lambda array: array, state)  # `set` uses up the state that it is called on
    for path, node in _nodes(equinox, model):
        if isinstance(node, equinox.nn.StateIndex):
            now = _read(state, node, path)
            values = [_weak_as(old, arrays[_key(path) + suffix]) for suffix, old in now.items()]
            state = state.set(node, values[0] if "" in now else tuple(values))
    return new, state


def _weak_as(old: Any, new: Any) -> Any:
    """Returns a scalar with the weak type of the one before, without which `set` refuses it."""
    return jnp.asarray(new.item()) if getattr(old, "weak_type", False) else new


def _nodes(equinox: Any, model: Any) -> list[tuple[tuple[Any, ...], Any]]:
    def is_index(node: Any) -> bool:
        return isinstance(node, equinox.nn.StateIndex)

    return jax.tree_util.tree_flatten_with_path(model, is_leaf=is_index)[0]


def _names(equinox: Any, model: Any, path: tuple[Any, ...]) -> list[str]:
    """Returns the names on a path; what WeightNorm or SpectralNorm wraps goes by their name."""
    wrappers = (equinox.nn.WeightNorm, equinox.nn.SpectralNorm)
    return [
        _key((key,))
        for i, key in enumerate(path)
        if not (_key((key,)) == "layer" and isinstance(_at(model, path[:i]), wrappers))
    ]


def _at(model: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        model = getattr(model, key.name) if hasattr(key, "name") else model[_raw(key)]
    return model


def _key(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _raw(key: Any) -> Any:
    return key.idx if hasattr(key, "idx") else key.key
