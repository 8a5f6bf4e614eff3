"""PyTorch: the names and layouts of its state dicts."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxnorm.interop._files import array_of, arrays_of, as_kind, read_weights
from jaxnorm.interop._framework import Framework, Layouts, Leaf, Names, Rules
from jaxnorm.interop._from_flax import from_flax
from jaxnorm.interop._layout import CHANNELS_FIRST, OUT_FIRST, ZERO_CENTERED, moved
from jaxnorm.interop._record import Record
from jaxnorm.interop._report import Conversion
from jaxnorm.interop._to_flax import to_flax


def _count(record: Record, leaf: Leaf) -> np.ndarray:
    """Returns the count of batches; where Flax kept none, that of `like`."""
    return record.get("count", record.get("hidden_count", array_of(leaf.value)))


# The name of a leaf -> what it is in Flax: the first that our layer has.
ROLES = {
    "weight": ("kernel", "scale", "embedding"),
    "bias": ("bias",),
    # Of layer norms that came from TensorFlow.
    "gamma": ("scale", "gamma"),
    "beta": ("bias", "beta"),
    "running_mean": ("mean",),
    "running_var": ("var",),
    "num_batches_tracked": ("count",),
    # weight_norm, old and new: g is the length, v the kernel.
    "weight_g": ("length",),
    "weight_v": ("kernel",),
    "parametrizations.weight.original0": ("length",),
    "parametrizations.weight.original1": ("kernel",),
    # spectral_norm, old and new; an old one has weight_orig, and its weight_v is a vector.
    "weight_orig": ("kernel",),
    "weight_u": ("u",),
    "spectral weight_v": ("v",),
    "parametrizations.weight.original": ("kernel",),
    "parametrizations.weight.0._u": ("u",),
    "parametrizations.weight.0._v": ("v",),
}

TORCH = Framework(
    title="PyTorch",
    roles=ROLES,
    layouts={
        **OUT_FIRST,
        # Of ConvTranspose; with transpose_kernel=True Flax stores it as "conv" does.
        "conv_transpose": moved(
            "[in, out, *] -> flipped [*, in, out]", (0, 1), (-2, -1), flip=True
        ),
        "channels_first": CHANNELS_FIRST,
        "zero_centered": ZERO_CENTERED,
    },
    path=lambda layer: layer.replace(".", "/"),
    fill={"num_batches_tracked": _count},
)


def from_torch(
    source: Any,
    like: Any,
    *,
    names: Names | None = None,
    layouts: Layouts | None = None,
    keep: Iterable[str] = (),
) -> Conversion:
    """Returns a PyTorch model's weights and statistics as variables of Flax.

    Kernels get their axes in Flax's order: `Linear` [out, in] -> [in, out], convolutions, depthwise
    ones too, [out, in, *] -> [*, in, out]; embeddings and norms stay. `running_var` stays the
    unbiased variance that it is. Every leaf of `source` is used and every leaf of `like` filled, or
    nothing is converted. Epsilon and momentum are no weights: see `norm_options`.

    Args:
        source: a state dict of tensors or arrays, a module, or the path of a file for
            `read_weights`. A prefix "module." of all keys, of DataParallel, is left out.
        like: the variables of the Flax model: a dictionary of collections, an `nnx.State` or an
            `nnx.Module`. Their shapes and dtypes decide; in a dictionary a `jax.ShapeDtypeStruct`
            will do.
        names: PyTorch's layer -> ours, such as {"layer1.0.bn1": "stage_0/norm"}, or a function; of
            a single leaf too, such as {"cls.gamma": "head/scale"}. None leaves a layer out. A
            name that is not listed stays, with "/" for ".".
        layouts: pattern of PyTorch's layers -> "conv_transpose", "channels_first" (norms over
            [C, H, W]), "zero_centered" (scales stored less one), `after_flatten(C, H, W)` or a
            `Layout` of yours.
        keep: patterns of leaves of `like` that stay as they are, such as `head/*`.

    Returns:
        A `Conversion`; its `variables` have the form of `like`.

    Raises:
        ValueError: a leaf does not fit, is missing or is left over; every one is named.

    Examples:
        >>> state = {"fc.weight": np.ones((2, 3)), "norm.weight": np.ones(2)}
        >>> like = {"params": {"fc": {"kernel": np.zeros((3, 2))}, "norm": {"scale": np.zeros(2)}}}
        >>> print(from_torch(state, like).report())
        fc.weight [2, 3] -> fc/kernel [3, 2] float64, [out, in] -> [in, out]
        norm.weight [2] -> norm/scale [2] float64
    """
    return to_flax(TORCH, torch_leaves(_state(source)), like, Rules(names, layouts, tuple(keep)))


def to_torch(
    variables: Any, like: Any, *, names: Names | None = None, layouts: Layouts | None = None
) -> Conversion:
    """Returns variables of Flax as the state dict of a PyTorch model.

    The inverse of `from_torch`: with the same `names` and `layouts` parameters come back bit for
    bit. `num_batches_tracked` is that of `like`, unless an estimator counts the batches.

    Args:
        variables: a dictionary of collections, an `nnx.State` or an `nnx.Module`.
        like: the state dict of the PyTorch model, the module, or the path of a file. Its keys,
            shapes and dtypes decide; where it holds tensors, tensors come out.
        names: as for `from_torch`: PyTorch's layer -> ours.
        layouts: as for `from_torch`.

    Returns:
        A `Conversion`; its `variables` are the state dict, in the order of `like`.

    Raises:
        ValueError: a leaf does not fit, is missing or is left over; every one is named.

    Examples:
        >>> variables = {"params": {"fc": {"kernel": np.ones((3, 2))}}}
        >>> to_torch(variables, {"fc.weight": np.zeros((2, 3))}).variables["fc.weight"].shape
        (2, 3)
    """
    state = _state(like)
    done = from_flax(TORCH, variables, torch_leaves(state), Rules(names, layouts))
    arrays = {key: as_kind(done.variables[key], value) for key, value in state.items()}
    return done._replace(variables=arrays)


def torch_leaves(state: Mapping[str, Any]) -> list[Leaf]:
    """Returns the entries of a state dict, each split into its layer and its name.

    Args:
        state: arrays by key.

    Returns:
        One leaf per entry.
    """
    parallel = bool(state) and all(key.startswith("module.") for key in state)
    spectral = {key.removesuffix("weight_orig") for key in state if key.endswith("weight_orig")}
    return [
        _leaf(key, value, spectral, "module." if parallel else "") for key, value in state.items()
    ]


def _leaf(key: str, value: Any, spectral: set[str], prefix: str) -> Leaf:
    bare = key.removeprefix(prefix)
    known = [name for name in ROLES if bare == name or bare.endswith(f".{name}")]
    name = max(known, key=len, default=bare.rsplit(".", 1)[-1])
    layer = bare[: len(bare) - len(name)].rstrip(".")
    if name == "weight_v" and key.removesuffix(name) in spectral:
        name = "spectral weight_v"
    return Leaf(key, layer, name, value)


def _state(source: Any) -> Mapping[str, Any]:
    if isinstance(source, str | os.PathLike):
        return read_weights(source)
    state = source.state_dict() if hasattr(source, "state_dict") else source
    arrays_of(state, "the state dict")
    return state
