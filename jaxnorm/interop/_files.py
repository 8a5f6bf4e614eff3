"""Weights in files as flat dictionaries of NumPy arrays."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jax import numpy as jnp

from jaxnorm.interop._optional import require

PICKLED = (".pt", ".pth", ".bin", ".ckpt")


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Returns the arrays of a file by their names, in the dtypes that they have there.

    Safetensors and NumPy archives are read as they are. Files of PyTorch are pickles: they are read
    by `torch.load(weights_only=True)` alone, which runs no code of the file.

    Args:
        path: ends in .safetensors, .npz, .pt, .pth, .bin or .ckpt.

    Returns:
        NumPy arrays; bfloat16 stays bfloat16.

    Raises:
        ValueError: another kind of file, or one that holds more than a flat dictionary of arrays.
        ImportError: the package that reads this kind is not installed.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/norm.npz", **{"norm.weight": np.ones(2)})
        ...     read_weights(f"{folder}/norm.npz")
        {'norm.weight': array([1., 1.])}
    """
    kind = Path(path).suffix.lower()
    if kind == ".safetensors":
        return require("safetensors.numpy", f"reading {path}").load_file(os.fspath(path))
    if kind == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return arrays_of(dict(archive), str(path))
    if kind in PICKLED:
        torch = require("torch", f"reading {path}")
        return arrays_of(torch.load(path, map_location="cpu", weights_only=True), str(path))
    raise ValueError(
        f"{path} is none of .safetensors, .npz, {', '.join(PICKLED)}; load the file with the "
        "library that wrote it, and pass its arrays by name"
    )


def arrays_of(entries: Any, where: str) -> dict[str, np.ndarray]:
    """Returns the entries of a flat dictionary as NumPy arrays.

    Args:
        entries: arrays of NumPy, JAX or PyTorch by name.
        where: what errors call the dictionary.

    Returns:
        One array per entry.

    Raises:
        ValueError: `entries` is no dictionary of arrays.
    """
    if not isinstance(entries, Mapping):
        raise ValueError(
            f"{where} holds a {type(entries).__name__}, not a dictionary of arrays by name"
        )
    arrays = {str(key): array_of(value) for key, value in entries.items()}
    wrong = [key for key, array in arrays.items() if not _is_number(array.dtype)]
    if wrong:
        raise ValueError(
            f"{where} has entries that are not arrays of numbers: {', '.join(wrong[:5])}; pass the "
            'dictionary of arrays alone, such as torch.load(path, weights_only=True)["state_dict"]'
        )
    return arrays


def array_of(value: Any) -> np.ndarray:
    """Returns an array of NumPy, JAX or PyTorch as one of NumPy with the same bits.

    Args:
        value: an array or a tensor.

    Returns:
        A NumPy array; bfloat16 is that of `ml_dtypes`.
    """
    if type(value).__module__.split(".")[0] != "torch" or not hasattr(value, "detach"):
        return np.asarray(value)
    tensor = value.detach().cpu()
    if str(tensor.dtype) != "torch.bfloat16":
        return tensor.numpy()
    torch = require("torch", "reading a tensor")
    return tensor.contiguous().view(torch.int16).numpy().view(jnp.bfloat16)


def as_kind(array: np.ndarray, like: Any) -> Any:
    """Returns a NumPy array as what `like` is: a tensor of PyTorch, an array of NumPy or of JAX.

    Args:
        array: its dtype is right already.
        like: the leaf whose place it takes; a `jax.ShapeDtypeStruct` stands for an array of JAX.

    Returns:
        The same numbers.
    """
    if isinstance(like, np.ndarray | np.generic):
        return np.array(array)
    if type(like).__module__.split(".")[0] != "torch":
        return jnp.asarray(array)
    torch = require("torch", "writing a tensor")
    array = np.array(array)  # writable, and contiguous
    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _is_number(dtype: np.dtype) -> bool:
    """Whether a dtype is numeric or boolean, the narrow floating ones of JAX included."""
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.number, jnp.bool_))
