"""Haiku: the names and layouts of its parameters and state."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from jaxnorm.interop._files import arrays_of, as_kind, read_weights
from jaxnorm.interop._framework import Framework, Layouts, Leaf, Names, Rules
from jaxnorm.interop._from_flax import from_flax
from jaxnorm.interop._layout import CHANNELS_FIRST, KEEPDIMS, SAME, ZERO_CENTERED, moved
from jaxnorm.interop._record import forgotten_count
from jaxnorm.interop._report import Conversion
from jaxnorm.interop._to_flax import to_flax

# The name of a leaf -> what it is in Flax: the first that our layer has.
ROLES = {
    "w": ("kernel",),
    "b": ("bias",),
    "scale": ("scale",),
    "offset": ("bias",),
    "embeddings": ("embedding",),
    # The averages of BatchNorm: `average` is the debiased one, which evaluation reads.
    "~/mean_ema/average": ("mean",),
    "~/var_ema/average": ("var",),
    "~/mean_ema/hidden": ("hidden_mean",),
    "~/var_ema/hidden": ("hidden_var",),
    "~/mean_ema/counter": ("hidden_count",),
    "~/var_ema/counter": ("hidden_count",),
    "u0": ("u",),
    "sigma": ("sigma",),
}

HAIKU = Framework(
    title="Haiku",
    roles=ROLES,
    layouts={
        "dense": SAME,
        "conv": SAME,
        "conv_transpose": moved("[*, out, in] -> [*, in, out]", (-1, -2), (-2, -1)),
        "channels_first": CHANNELS_FIRST,
        "zero_centered": ZERO_CENTERED,
    },
    path=lambda layer: "/".join(part for part in layer.split("/") if part != "~"),
    vectors=KEEPDIMS,
    fill={
        "~/mean_ema/hidden": lambda record, leaf: record.get("mean"),
        "~/var_ema/hidden": lambda record, leaf: record.get("var"),
        "~/mean_ema/counter": forgotten_count,
        "~/var_ema/counter": forgotten_count,
    },
)


def from_haiku(
    source: Any,
    like: Any,
    *,
    names: Names | None = None,
    layouts: Layouts | None = None,
    keep: Iterable[str] = (),
    decay: float | None = None,
) -> Conversion:
    """Returns a Haiku model's parameters and state as variables of Flax.

    The mean and variance of BatchNorm are the debiased averages that Haiku's evaluation reads, and
    lose their axes of size one. Where a norm of `like` has the estimator `debiased(decay)`, its
    state takes over the hidden averages and their counter, so that training goes on as in Haiku.

    Args:
        source: `params`, or `(params, state)`, or flat arrays by "module/name", or the path of a
            file of such for `read_weights`.
        like: the variables of the Flax model; see `from_torch`.
        names: Haiku's module -> ours, such as {"net/~/linear": "dense"}, or a function; see
            `from_torch`. A name that is not listed stays, without "~".
        layouts: pattern of Haiku's modules -> "conv_transpose", "zero_centered" or a `Layout`.
        keep: patterns of leaves of `like` that stay as they are, such as `head/*`.
        decay: the `decay_rate` of BatchNorm, which its state does not hold; where `like` has
            debiased estimators.

    Returns:
        A `Conversion`; its `variables` have the form of `like`.

    Raises:
        ValueError: a leaf does not fit, is missing or is left over; every one is named.

    Examples:
        >>> import numpy as np
        >>> params = {"net/~/norm": {"scale": np.ones((1, 1, 1, 4))}}
        >>> like = {"params": {"net": {"norm": {"scale": np.zeros(4)}}}}
        >>> print(from_haiku(params, like).report())
        net/~/norm/scale [1, 1, 1, 4] -> net/norm/scale [4] float64, axes of size one
    """
    return to_flax(HAIKU, _leaves(_flat(source)), like, Rules(names, layouts, tuple(keep), decay))


def to_haiku(
    variables: Any,
    like: Any,
    *,
    names: Names | None = None,
    layouts: Layouts | None = None,
    decay: float | None = None,
) -> Conversion:
    """Returns variables of Flax as parameters and state of a Haiku model.

    The inverse of `from_haiku`. Averages without a memory of their start get a counter so large
    that Haiku's debiasing changes nothing any more. The counter of debiased ones follows from their
    weight, and is exact as long as its rounding tells one batch from the next.

    Args:
        variables: a dictionary of collections, an `nnx.State` or an `nnx.Module`.
        like: `params`, or `(params, state)`, or flat arrays, of the Haiku model.
        names: as for `from_haiku`: Haiku's module -> ours.
        layouts: as for `from_haiku`.
        decay: the `decay_rate` of BatchNorm, where `variables` have debiased estimators.

    Returns:
        A `Conversion`; its `variables` have the form of `like`.

    Raises:
        ValueError: a leaf does not fit, is missing or is left over; every one is named.

    Examples:
        >>> import numpy as np
        >>> variables = {"params": {"norm": {"scale": np.ones(4)}}}
        >>> like = {"norm": {"scale": np.zeros((1, 4))}}
        >>> to_haiku(variables, like).variables["norm"]["scale"].shape
        (1, 4)
    """
    flat = _flat(like)
    done = from_flax(HAIKU, variables, _leaves(flat), Rules(names, layouts, decay=decay))
    arrays = {key: as_kind(done.variables[key], value) for key, value in flat.items()}
    return done._replace(variables=_nested(like, arrays))


def _flat(source: Any) -> dict[str, Any]:
    """Returns arrays by "module/name"."""
    if isinstance(source, str | os.PathLike):
        return dict(read_weights(source))
    parts = source if isinstance(source, tuple) else (source,)
    flat: dict[str, Any] = {}
    for part in parts:
        for module, entry in part.items():
            if isinstance(entry, Mapping):
                flat |= {f"{module}/{name}": value for name, value in entry.items()}
            else:
                flat[module] = entry
    arrays_of(flat, "the parameters and state")
    return flat


def _nested(like: Any, arrays: Mapping[str, Any]) -> Any:
    """Returns arrays in the form of `like`."""
    if isinstance(like, tuple):
        return tuple(_nested(part, arrays) for part in like)
    if isinstance(like, str | os.PathLike):
        return dict(arrays)
    return {
        module: {name: arrays[f"{module}/{name}"] for name in entry}
        if isinstance(entry, Mapping)
        else arrays[module]
        for module, entry in like.items()
    }


def _leaves(flat: Mapping[str, Any]) -> list[Leaf]:
    leaves = []
    for key, value in flat.items():
        known = [name for name in ROLES if key == name or key.endswith(f"/{name}")]
        name = max(known, key=len, default=key.rsplit("/", 1)[-1])
        leaves.append(Leaf(key, key[: len(key) - len(name)].rstrip("/"), name, value))
    return leaves
