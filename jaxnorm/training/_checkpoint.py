"""Checkpoints on disk, written and read with orbax."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from jaxnorm._views import NnxApply, variables_of
from jaxnorm.training._checksum import SUMS, checksums, with_checksums
from jaxnorm.typing import Array, PyTree


def save_checkpoint(
    directory: str | Path, state: PyTree, *, step: int | None = None, keep: int = 3
) -> Path:
    """Writes `state` to disk and returns once it is there.

    A checkpoint appears under its final name only when it is complete, so that a run that is killed
    while writing leaves the earlier ones as they were. It holds a checksum of each array.

    On many hosts every process calls this, on a folder that all of them see, and writes its own
    parts of the arrays; any other number of processes can read them.

    Args:
        directory: the folder of the run's checkpoints, made where it is missing.
        state: a tree of arrays, such as a `TrainState`, or an nnx model; typed keys are kept.
        step: the checkpoint's number; None for `state.step`.
        keep: how many of the newest checkpoints stay.

    Returns:
        The folder of this checkpoint, `directory/step`.

    Raises:
        ValueError: `keep` is not positive, or the folder has this step or a later one.
        OSError: the folder cannot be made or written.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_checkpoint(folder, {"w": jnp.ones(2)}, step=3)
        ...     path.name, restore_checkpoint(folder, {"w": jnp.zeros(2)})["w"].tolist()
        ('3', [1.0, 1.0])
    """
    if keep < 1:
        raise ValueError(f"keep={keep} must be at least 1, the checkpoint being written")
    step = int(state.step) if step is None else step
    folder = Path(directory).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    newest = latest_step(folder)
    if newest is not None and step <= newest:
        raise ValueError(
            f"{folder} has a checkpoint of step {newest}, and step {step} is not after it; "
            "use another folder, or remove the later checkpoints"
        )
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=False)
    with ocp.CheckpointManager(folder, options=options) as manager:
        manager.save(step, args=ocp.args.StandardSave(with_checksums(_flat(variables_of(state)))))
    return folder / str(step)


def restore_checkpoint(
    directory: str | Path, template: PyTree, *, step: int | None = None
) -> PyTree:
    """Returns the state of a checkpoint, bit for bit.

    Args:
        directory: the folder of the run's checkpoints.
        template: a state or nnx model of the same structure, shapes and dtypes, such as a fresh
            one, or its form by `jax.eval_shape`, which allocates nothing; its values do not
            matter, its shardings decide where the arrays go (without any, to the first device).
        step: the checkpoint's number; None for the newest.

    Returns:
        A tree of the structure of `template`, or a new nnx model in its modes.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: the checkpoint has another structure, shape or dtype than the template, is
            damaged, or an array differs from its checksum.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = save_checkpoint(folder, {"w": jnp.ones(2)}, step=3)
        ...     restore_checkpoint(folder, {"w": jnp.zeros(2)}, step=3)
        {'w': Array([1., 1.], dtype=float32)}
    """
    if isinstance(template, nnx.Module):
        apply, variables = NnxApply.of(template)
        return apply.model(restore_checkpoint(directory, variables, step=step))
    folder = Path(directory).absolute()
    steps = _steps(folder)
    if step not in steps and (step is not None or not steps):
        what = "checkpoint" if step is None else f"checkpoint of step {step}"
        raise FileNotFoundError(f"no {what} in {folder}; the steps there are {steps}")
    found = steps[-1] if step is None else step
    wanted, path = _flat(template), folder / str(found)
    with ocp.CheckpointManager(folder, item_handlers=ocp.StandardCheckpointHandler()) as manager:
        with _reading(path):
            saved = dict(manager.item_metadata(found))
        sums = {SUMS: saved.pop(SUMS)} if SUMS in saved else {}
        _check(saved, wanted, path)
        # Every process reads the checksums, and wherever the arrays go.
        form = jax.tree.map(lambda kept: np.zeros(kept.shape, kept.dtype), sums)
        with _reading(path):
            arrays = manager.restore(found, args=ocp.args.StandardRestore({**wanted, **form}))
    _verify(arrays, path)
    leaves = [
        jax.random.wrap_key_data(arrays[name], impl=_key_impl(leaf))
        if _is_key(leaf)
        else arrays[name]
        for name, leaf in _named(template)
    ]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def latest_step(directory: str | Path) -> int | None:
    """Returns the number of the newest complete checkpoint.

    Args:
        directory: the folder of the run's checkpoints.

    Returns:
        The step, or None where there is no checkpoint (or no folder).

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     latest_step(folder)
        ...     _ = save_checkpoint(folder, {"w": jnp.ones(2)}, step=3)
        ...     latest_step(folder)
        3
    """
    return max(_steps(Path(directory).absolute()), default=None)


def _steps(folder: Path) -> list[int]:
    """Lists complete checkpoints: orbax writes under another name and renames at the end."""
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Names the checkpoint in whatever is raised: orbax raises bare exceptions of many types."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"checkpoint {path} cannot be read, it is damaged or incomplete; remove it and restore "
            "an earlier one"
        ) from error


def _named(state: PyTree) -> list[tuple[str, Array]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _flat(state: PyTree) -> dict[str, Array]:
    """Names each array by its path, so that a tree comes back as it was, not as lists and dicts."""
    return {name: _data(leaf) for name, leaf in _named(state)}


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


def _verify(arrays: dict[str, Array], path: Path) -> None:
    """Compares the checksums; checkpoints of versions before there were any have none."""
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


def _check(saved: PyTree, wanted: dict[str, Array], path: Path) -> None:
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
