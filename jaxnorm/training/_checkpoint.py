"""Checkpoints on disk, written and read with orbax."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from jaxnorm._views import NnxApply, variables_of
from jaxnorm.training._checksum import SUMS, verify, with_checksums
from jaxnorm.training._leaves import check_fit, flat, unflat
from jaxnorm.typing import PyTree


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
        OSError: the folder cannot be made or written, or the disk is full. The checkpoints that are
            there stay as they were.

    Examples:
        >>> import tempfile, jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_checkpoint(folder, {"w": jnp.ones(2)}, step=3)
        ...     path.name, restore_checkpoint(folder, {"w": jnp.zeros(2)})["w"].tolist()
        ('3', [1.0, 1.0])
    """
    if keep < 1:
        raise ValueError(f"keep={keep} must be at least 1, the checkpoint being written")
    step = int(state.step) if step is None else step
    folder = Path(directory).absolute()
    with _writing(folder, step):
        folder.mkdir(parents=True, exist_ok=True)
        newest = latest_step(folder)
    if newest is not None and step <= newest:
        raise ValueError(
            f"{folder} has a checkpoint of step {newest}, and step {step} is not after it; "
            "use another folder, or remove the later checkpoints"
        )
    arrays = with_checksums(flat(variables_of(state)))
    # What an earlier write left unfinished goes, so that it does not fill the disk.
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    with _writing(folder, step), ocp.CheckpointManager(folder, options=options) as manager:
        manager.save(step, args=ocp.args.StandardSave(arrays))
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
        >>> import tempfile, jax.numpy as jnp
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
    wanted, path = flat(template), folder / str(found)
    with ocp.CheckpointManager(folder, item_handlers=ocp.StandardCheckpointHandler()) as manager:
        with _reading(path):
            saved = dict(manager.item_metadata(found))
        sums = {SUMS: saved.pop(SUMS)} if SUMS in saved else {}
        check_fit(saved, wanted, path)
        # Every process reads the checksums, and wherever the arrays go.
        form = jax.tree.map(lambda kept: np.zeros(kept.shape, kept.dtype), sums)
        with _reading(path):
            arrays = manager.restore(found, args=ocp.args.StandardRestore({**wanted, **form}))
    verify(arrays, path)
    return unflat(arrays, template)


def latest_step(directory: str | Path) -> int | None:
    """Returns the number of the newest complete checkpoint.

    Args:
        directory: the folder of the run's checkpoints.

    Returns:
        The step, or None where there is no checkpoint (or no folder).

    Examples:
        >>> import tempfile, jax.numpy as jnp
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
def _writing(folder: Path, step: int) -> Iterator[None]:
    """Names the folder in whatever is raised; tensorstore raises a ValueError for a full disk."""
    try:
        yield
    except Exception as error:
        raise OSError(
            f"the checkpoint of step {step} cannot be written to {folder}; the earlier ones there "
            "are as they were. Free space or allow writing, and save again or restart from the "
            f"newest. The cause: {error}"
        ) from error


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
