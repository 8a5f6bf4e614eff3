"""Keras 3: the names and layouts of its variables."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxnorm.interop._files import arrays_of, read_weights
from jaxnorm.interop._framework import Framework, Layouts, Leaf, Names, Rules
from jaxnorm.interop._from_flax import from_flax
from jaxnorm.interop._layout import CHANNELS_FIRST, SAME, ZERO_CENTERED, Layout, moved
from jaxnorm.interop._report import Conversion
from jaxnorm.interop._to_flax import to_flax
from jaxnorm.typing import Shape

# The name of a variable -> what it is in Flax: the first that our layer has.
ROLES = {
    "kernel": ("kernel",),
    "bias": ("bias",),
    "embeddings": ("embedding",),
    "gamma": ("scale",),
    "beta": ("bias",),
    "scale": ("scale",),
    "moving_mean": ("mean",),
    "moving_variance": ("var",),
    "vector_u": ("u",),
}


def _depthwise(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Returns a depthwise kernel `[*, in, m]` as `[*, 1, in * m]`, or back; others as they are."""
    *positions, inputs, multiple = array.shape
    here = (*positions, 1, inputs * multiple)
    return array.reshape(shape) if shape in (here, _parted(array.shape, shape)) else array


def _parted(ours: Shape, theirs: Shape) -> Shape | None:
    """Returns `theirs` if it is the shape of a depthwise kernel that is `ours` in Flax."""
    fits = len(theirs) == len(ours) > 2 and ours[-2] == 1 and ours[-1] == theirs[-1] * theirs[-2]
    return theirs if fits and ours[:-2] == theirs[:-2] else None


KERAS = Framework(
    title="Keras",
    roles=ROLES,
    layouts={
        "dense": SAME,
        "conv": Layout("same, or depthwise [*, in, m] -> [*, 1, in * m]", _depthwise, _depthwise),
        # Of Conv2DTranspose; with transpose_kernel=True Flax stores it as Keras does.
        "conv_transpose": moved(
            "[*, out, in] -> flipped [*, in, out]", (-1, -2), (-2, -1), flip=True
        ),
        "channels_first": CHANNELS_FIRST,
        "zero_centered": ZERO_CENTERED,
    },
    path=lambda layer: layer,
)


def from_keras(
    source: Any,
    like: Any,
    *,
    names: Names | None = None,
    layouts: Layouts | None = None,
    keep: Iterable[str] = (),
) -> Conversion:
    """Returns a Keras model's variables as variables of Flax.

    Kernels have Flax's order of axes already; a depthwise kernel [*, in, m] becomes [*, 1, in * m].
    `SpectralNormalization` stores the kernel after the division. Keras's epsilon is 1e-3 where it
    is not given: see `norm_options`.

    Args:
        source: a model or a layer that has been built, or arrays by the paths of the variables, or
            the path of a file of such for `read_weights`.
        like: the variables of the Flax model; see `from_torch`.
        names: path of Keras's layer -> ours, such as {"sequential/dense": "output"}, or a function;
            see `from_torch`.
        layouts: pattern of Keras's layers -> "conv_transpose", "zero_centered" or a `Layout`.
        keep: patterns of leaves of `like` that stay as they are, such as `head/*`.

    Returns:
        A `Conversion`; its `variables` have the form of `like`.

    Raises:
        ValueError: a leaf does not fit, is missing or is left over; every one is named.

    Examples:
        >>> like = {"params": {"bn": {"scale": np.ones(4)}}}
        >>> source = {"net/norm/gamma": np.ones(4)}
        >>> print(from_keras(source, like, names={"net/norm": "bn"}).report())
        net/norm/gamma [4] -> bn/scale [4] float64
    """
    return to_flax(KERAS, _leaves(_flat(source)), like, Rules(names, layouts, tuple(keep)))


def to_keras(
    variables: Any, like: Any, *, names: Names | None = None, layouts: Layouts | None = None
) -> Conversion:
    """Returns variables of Flax as arrays for the variables of a Keras model.

    The inverse of `from_keras`. The model stays as it is: assign the arrays with
    `for v in model.variables: v.assign(arrays[v.path])`.

    Args:
        variables: a dictionary of collections, an `nnx.State` or an `nnx.Module`.
        like: the built Keras model or layer, or arrays by path.
        names: as for `from_keras`: Keras's layer -> ours.
        layouts: as for `from_keras`.

    Returns:
        A `Conversion`; its `variables` are NumPy arrays by the paths of Keras's variables.

    Raises:
        ValueError: a leaf does not fit, is missing or is left over; every one is named.

    Examples:
        >>> variables = {"params": {"norm": {"bias": np.ones(4)}}}
        >>> to_keras(variables, {"norm/beta": np.zeros(4)}).variables
        {'norm/beta': array([1., 1., 1., 1.])}
    """
    flat = _flat(like)
    return from_flax(KERAS, variables, _leaves(flat), Rules(names, layouts))


def _flat(source: Any) -> dict[str, Any]:
    """Returns arrays by the paths of variables, without the states of random generators."""
    if isinstance(source, str | os.PathLike):
        return dict(read_weights(source))
    if isinstance(source, Mapping):
        return dict(arrays_of(source, "the variables"))
    built = [v for v in source.variables if v.name != "seed_generator_state"]
    if not built and not getattr(source, "built", True):
        raise ValueError(f"{source.name} has no variables yet; build it, or call it on an input")
    return {v.path: np.asarray(v) for v in built}


def _leaves(flat: Mapping[str, Any]) -> list[Leaf]:
    split = [(key, *key.rpartition("/")[::2], value) for key, value in flat.items()]
    return [Leaf(key, layer, name, value) for key, layer, name, value in split]
