"""Checksums of arrays, which do not depend on how the arrays lie on devices and hosts."""

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnorm.typing import Array

SUMS = "checksums"  # no path of a leaf is this: those start with a bracket or a dot


def with_checksums(arrays: Mapping[str, Array]) -> dict[str, Array | np.ndarray]:
    """Returns the arrays and, under `SUMS`, their checksums in the order of their names.

    Args:
        arrays: by name.

    Returns:
        The arrays and one more, [len(arrays)], uint32.

    Examples:
        >>> with_checksums({"a": jnp.zeros(2)})[SUMS].shape
        (1,)
    """
    return {**arrays, SUMS: checksums(arrays)}


def checksums(arrays: Mapping[str, Array]) -> np.ndarray:
    """Returns one number of 32 bits per array, which another value of any entry changes.

    Each word is mixed with its place and the results are added modulo 2^32, in any order, so that
    every device adds up what it holds. The mixing is the finalizer of MurmurHash3 (Appleby, 2011,
    public domain): two different arrays agree with a chance of about 2^-32. It notices damage, not
    an adversary.

    Args:
        arrays: by name, of any dtype but keys; those on several hosts are read where they are.

    Returns:
        [len(arrays)], uint32, in the order of the sorted names, the same on every host.

    Examples:
        >>> one, other = checksums({"a": jnp.array([1.0, 2.0]), "b": jnp.array([2.0, 1.0])})
        >>> bool(one == other)
        False
    """
    return np.array([int(_checksum(arrays[name])) for name in sorted(arrays)], np.uint32)


def verify(arrays: Mapping[str, Array], path: Path) -> None:
    """Compares the checksums; checkpoints of versions before there were any have none.

    Args:
        arrays: by name, as `with_checksums` returned them.
        path: the checkpoint that they come from.

    Raises:
        ValueError: an array differs from its checksum; it is named.
    """
    if SUMS not in arrays:
        return
    names = sorted(set(arrays) - {SUMS})
    found = checksums({name: arrays[name] for name in names})
    differing = [name for name, a, b in zip(names, found, arrays[SUMS], strict=True) if a != b]
    if differing:
        raise ValueError(
            f"checkpoint {path} was changed after it was written: {len(differing)} of {len(names)} "
            f"arrays differ from their checksums, {', '.join(differing[:5])}; remove it and "
            "restore an earlier one"
        )


@jax.jit
def _checksum(x: Array) -> Array:
    words = _words(jnp.asarray(x))
    place = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        place = place * np.uint32(size) + lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    mixed = _mix(words ^ _mix(place + np.uint32(0x9E3779B9)))
    return jnp.sum(mixed, dtype=jnp.uint32)


def _words(x: Array) -> Array:
    """Returns the bits of each entry in words of 32, along a new last axis where it has two."""
    if jnp.iscomplexobj(x):
        return jnp.stack([_words(x.real), _words(x.imag)], axis=-1)
    if x.dtype == jnp.bool_ or (x.dtype.itemsize < 4 and jnp.issubdtype(x.dtype, jnp.integer)):
        return x.astype(jnp.uint32)
    if x.dtype.itemsize >= 4:
        return lax.bitcast_convert_type(x, jnp.uint32)
    bits = {1: jnp.uint8, 2: jnp.uint16}[x.dtype.itemsize]
    return lax.bitcast_convert_type(x, bits).astype(jnp.uint32)


def _mix(word: Array) -> Array:
    word = (word ^ (word >> 16)) * np.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * np.uint32(0xC2B2AE35)
    return word ^ (word >> 16)
