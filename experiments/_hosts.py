"""The processes of a run: how they find each other, and what one of them does for all.

Every process runs the same program. The first one writes the run's folder. The others write the
same into a folder of their own, which is thrown away.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxnorm.training import restore_checkpoint, save_checkpoint

from ._errors import RunError
from .data import DataError

T = TypeVar("T")

DATA_PARALLEL = "data parallel"
REPLICATED = "replicated"

_HEARTBEAT_S = 60  # without a sign of life, after which a process counts as dead
_WORDS = 4096  # bytes of a message between processes


class Hosts(NamedTuple):
    """The processes that a run is made of; by itself, one process with one device."""

    index: int = 0  # of this process
    count: int = 1
    parallel: bool = False  # whether a batch is shared by all devices of all processes

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.index == 0

    @property
    def whole(self) -> NamedSharding | None:
        """Where an array lies that all devices hold. None leaves it to JAX."""
        return _placed() if self.parallel else None

    def check_batch(self, batch_size: int) -> None:
        """Raise where the devices cannot have equal parts of a batch.

        Raises:
            RunError: the number of devices does not divide the batch.
        """
        devices = jax.device_count() if self.parallel else 1
        if batch_size % devices:
            raise RunError(
                f"batch_size={batch_size} cannot be shared by {devices} devices; use a multiple"
            )

    def everywhere(self, tree: T) -> T:
        """Return a tree of this process's arrays as arrays that all devices hold.

        All processes have to give the same values. The tree comes back as it is where a batch is
        not shared.
        """
        return spread(tree) if self.parallel else tree

    def shared(self, x: jax.Array) -> jax.Array:
        """Return the rows of a batch in equal parts on all devices, within a jitted function.

        A batch that has no equal parts stays whole on every device.
        """
        if not self.parallel or len(x) % jax.device_count():
            return x
        return jax.lax.with_sharding_constraint(x, _placed("data"))

    def agree(self, answer: bool) -> bool:
        """Return the first process's answer, so that all of them do the same."""
        return bool(multihost_utils.broadcast_one_to_all(np.array(answer)))

    def told(self, text: str) -> str:
        """Return the first process's text."""
        return _exchanged(text)[0]

    def in_turn(self, first: Callable[[], T], others: Callable[[], T]) -> T:
        """Return what the first process's function gives there, and then the others' function.

        Raises:
            RunError: the function of another process failed; the message is that of its error.
        """
        if self.count == 1:
            return first()
        turn = _Attempt(first) if self.first else None
        trouble = self.told(turn.trouble if turn else "")
        if turn is None:
            turn = _Attempt(others if not trouble else _nothing)
        said = _exchanged(turn.trouble)
        if turn.error is not None:
            raise turn.error
        for process, text in enumerate(said):
            if text:
                raise RunError(f"process {process} cannot go on: {text}")
        return turn.result

    def save(self, folder: Path, state: Any, step: int) -> None:
        """Write one checkpoint of all processes, and remove the earlier one."""
        kept = spread(state) if self.count > 1 else state
        save_checkpoint(folder, kept, step=step, keep=1)

    def restore(self, folder: Path, template: T) -> T:
        """Return the state of the newest checkpoint, placed as the template's arrays are."""
        if self.count == 1:
            return restore_checkpoint(folder, template)

        def form(leaf: jax.Array) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_placed())

        found = restore_checkpoint(folder, jax.tree.map(form, template))
        return jax.tree.map(_as_placed, template, found)


def spread(tree: T) -> T:
    """Return a tree of this process's arrays as arrays that all devices of all processes hold.

    All processes have to give the same values. Arrays that lie on other processes too stay as they
    are.
    """
    return jax.tree.map(_spread, tree)


@contextmanager
def joined(
    way: str, *, coordinator: str | None, processes: int | None, process: int | None
) -> Iterator[Hosts]:
    """Make this process one of many, and yield them. No device may have been used before.

    Args:
        way: how the experiment runs on many hosts: `DATA_PARALLEL`, `REPLICATED`, or the reason why
            it does not.
        coordinator: address and port of the first process. None, with `processes` and `process`,
            takes what JAX finds in the environment of a cluster.
        processes: how many there are.
        process: number of this one, from zero.

    Raises:
        RunError: the experiment does not run on many hosts, only some of the three are given, or
            JAX knows no cluster here.
    """
    if way not in (DATA_PARALLEL, REPLICATED):
        raise RunError(f"this experiment does not run on many hosts: {way}")
    given = (coordinator, processes, process)
    if None in given and any(value is not None for value in given):
        raise RunError(
            f"--coordinator, --processes and --process go together, got {given}; give all three, "
            "or none of them on a cluster that JAX knows"
        )
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            heartbeat_timeout_seconds=_HEARTBEAT_S,
            shutdown_timeout_seconds=_HEARTBEAT_S,
        )
    except (ValueError, RuntimeError) as error:
        raise RunError(
            f"the processes did not find each other ({error}); start this command once per process "
            "on a cluster that JAX knows (Slurm, Open MPI, Kubernetes, Cloud TPU), or give each "
            "--coordinator HOST:PORT --processes COUNT --process NUMBER"
        ) from error
    try:
        yield Hosts(jax.process_index(), jax.process_count(), parallel=way == DATA_PARALLEL)
    except (RunError, DataError, SystemExit):
        jax.distributed.shutdown()  # all processes are here
        raise
    jax.distributed.shutdown()


class _Attempt:
    """The result of a function, or its error."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: Exception | None = None
        try:
            self.result = function()
        except Exception as error:  # raised again once the other processes know
            self.error = error

    @property
    def trouble(self) -> str:
        return "" if self.error is None else str(self.error) or repr(self.error)


def _nothing() -> None:
    return None


def _placed(*axes: str) -> NamedSharding:
    """Return a sharding over all devices."""
    return NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec(*axes))


def _spread(leaf: Any) -> jax.Array:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return leaf
    if _is_key(leaf):
        data = _spread(jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    values = np.asarray(leaf)
    return jax.make_array_from_callback(values.shape, _placed(), lambda index: values[index])


def _as_placed(template: jax.Array, found: jax.Array) -> jax.Array:
    """Return what all devices hold as an array of this process, if the template is one."""
    if not template.is_fully_addressable:
        return found
    if _is_key(found):
        data = jnp.asarray(np.asarray(jax.random.key_data(found)))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(found))
    return jnp.asarray(np.asarray(found))


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(getattr(leaf, "dtype", np.float32), jax.dtypes.prng_key)


def _exchanged(text: str) -> list[str]:
    """Return the texts of all processes, each cut off where a message ends."""
    room = np.zeros(_WORDS, np.uint8)
    mine = text.encode()[:_WORDS]
    room[: len(mine)] = list(mine)
    rooms = np.atleast_2d(multihost_utils.process_allgather(room))
    return [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in rooms]
