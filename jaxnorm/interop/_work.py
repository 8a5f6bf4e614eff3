"""A conversion that is under way: pairs that were found, and everything that does not fit."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnorm.interop._files import array_of
from jaxnorm.interop._framework import Framework
from jaxnorm.interop._layout import KEEPDIMS, Layout
from jaxnorm.interop._report import Conversion, Mapped

DERIVED = "from the other entries of its layer"
HINTS = {
    "hidden_count": "; pass decay=, that of the averages",
    "weight": "; pass decay=, that of the averages",
    "batches": "; the source has no count of batches",
    "count": "; samples are not counted elsewhere: average_of_batches() counts batches",
}


class Work:
    """What was found so far, and what does not fit."""

    def __init__(self) -> None:
        self.mapped: list[Mapped] = []
        self.derived: dict[str, str] = {}
        self.dropped: dict[str, str] = {}
        self.faults: list[str] = []

    def fit(self, source: str, found: Any, target: str, like: Any, new: Any, text: str) -> Any:
        """Notes a pair, and returns the array as `like` is; a fault where it does not fit."""
        shape, dtype = np.shape(like), np.dtype(dtype_of(like))
        pair = f"{source} {list(np.shape(found))} -> {target} {list(shape)}"
        if new.shape != shape:
            turned = "" if new.shape == np.shape(found) else f", {list(new.shape)} by {text}"
            self.faults.append(f"shape: {pair}{turned}")
        elif _kind(new.dtype) != _kind(dtype):
            self.faults.append(f"dtype: {pair}: {new.dtype} cannot be {dtype}")
        names = dict.fromkeys((str(new.dtype), str(dtype)))
        done = Mapped(source, target, np.shape(found), shape, " as ".join(names), text)
        self.mapped.append(done)
        return new.astype(dtype)

    def done(self, variables: Callable[[], Any], theirs: Framework) -> Conversion:
        """Returns the conversion, or raises one error that names every fault."""
        if self.faults:
            listed = "\n  ".join(self.faults)
            raise ValueError(
                f"{len(self.faults)} faults, nothing was converted from or to {theirs.title}. "
                f"Use names= and layouts=:\n  {listed}"
            )
        return Conversion(variables(), tuple(self.mapped), self.derived, self.dropped)


def text_of(layout: Layout, before: np.ndarray, after: np.ndarray) -> str:
    """Returns what a report says of a layout; axes of size one only where they changed."""
    return "same" if layout is KEEPDIMS and before.shape == after.shape else layout.text


def dtype_of(value: Any) -> np.dtype:
    """Returns the dtype of an array of any library, in NumPy's terms."""
    if str(getattr(value, "dtype", "")).startswith("torch."):
        return array_of(value[:0] if value.ndim else value).dtype
    return np.dtype(value.dtype) if hasattr(value, "dtype") else np.asarray(value).dtype


def _kind(dtype: np.dtype) -> str:
    """Returns "float" for every floating dtype, the narrow ones too, and so on."""
    kinds = ("floating", "complexfloating", "integer", "bool_")
    return next((kind for kind in kinds if jnp.issubdtype(dtype, getattr(jnp, kind))), str(dtype))
