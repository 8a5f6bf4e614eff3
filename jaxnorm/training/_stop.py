"""A signal that asks a run to end, heard between two steps."""

import contextlib
import itertools
import signal
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

# jax.distributed compares how often the hosts asked, over all loops of a process.
_ASKED = itertools.count(1)


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Lets SIGTERM, by which clusters take machines back, end a loop after a whole step.

    Inside of the `with`, the signal no longer ends the process. The loop asks after each step, and
    saves a checkpoint and leaves where the answer is true.

    On many hosts the signal may reach any of them. `jax.distributed` tells the others, without a
    collective, and all get the answer true after the same step, a few steps later. So all hosts
    have to ask equally often.

    Yields:
        A function that returns whether to stop now.

    Raises:
        ValueError: called outside of the main thread, the only one that can hear signals.
        RuntimeError: on many hosts, when asked, if `jax_enable_preemption_service` is off.

    Examples:
        >>> with stop_on_signal() as stopped:
        ...     for step in range(1, 9):
        ...         if step == 3:
        ...             signal.raise_signal(signal.SIGTERM)
        ...         if stopped():  # save_checkpoint(folder, state)
        ...             break
        >>> step
        3
    """
    if jax.process_count() > 1:  # `jax.distributed` has its own handler, which stays
        yield lambda: multihost_utils.reached_preemption_sync_point(next(_ASKED))
        return
    heard = []
    earlier = signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
    try:
        yield lambda: bool(heard)
    finally:
        signal.signal(signal.SIGTERM, earlier)
