"""The arrays of a tree by name, as a checkpoint holds them."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm.typing import Array, PyTree


def flat(state: PyTree) -> dict[str, Array]:
    """Returns each array under its path, so that a tree comes back as it was, not as lists.

    Args:
        state: a tree of arrays or of their forms; keys are given as their data.

    Examples:
        >>> list(flat({"a": (jnp.zeros(2), None)}))
        ["['a'][0]"]
    """
    return {name: _data(leaf) for name, leaf in _named(state)}


def unflat(arrays: dict[str, Array], template: PyTree) -> PyTree:
    """Returns the tree of the structure of `template`, whose values do not matter; undoes `flat`.

    Examples:
        >>> unflat({"['a']": 1.0}, {"a": jnp.zeros(())})
        {'a': 1.0}
    """
    leaves = [
        jax.random.wrap_key_data(arrays[name], impl=_key_impl(leaf))
        if _is_key(leaf)
        else arrays[name]
        for name, leaf in _named(template)
    ]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def check_fit(saved: PyTree, wanted: dict[str, Array], path: Path) -> None:
    """Compares shapes and dtypes of what is in a checkpoint with what is wanted.

    Raises:
        ValueError: some differ; they are named.
    """

    def form(array: Array | None) -> str:
        return "nothing" if array is None else f"{jnp.dtype(array.dtype).name} {list(array.shape)}"

    pairs = {name: (form(saved.get(name)), form(wanted.get(name))) for name in {**saved, **wanted}}
    differing = [
        f"{name}: saved {was}, template {now}" for name, (was, now) in pairs.items() if was != now
    ]
    if differing:
        raise ValueError(
            f"checkpoint {path} does not fit the template in {len(differing)} of {len(pairs)} "
            "arrays; restore with the model and optimizer that were saved. "
            f"{'; '.join(differing[:5])}"
        )


def _named(state: PyTree) -> list[tuple[str, Array]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data(leaf: Any) -> Any:
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.random.key_data(leaf) if _is_key(leaf) else leaf
    data = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=leaf.sharding or here)


def _key_impl(leaf: Any) -> Any:
    """Returns the generator of a key; `jax.random.key_impl` takes no form without a value."""
    found = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), leaf)
    return found[0]
