"""A signal that asks a run to end, heard between two steps."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[int], bool]]:
    """Lets SIGTERM, by which clusters take machines back, end a loop after a whole step.

    Inside of the `with`, the signal no longer ends the process. The loop asks after each step, and
    saves a checkpoint and leaves where the answer is true.

    On many hosts the signal may reach any of them. `jax.distributed` tells the others and finds the
    step after which all of them get the answer true, without a collective; it runs a few more steps
    until then. All hosts begin at the same step and ask after each.

    Yields:
        A function of the number of steps taken so far, which returns whether to stop now.

    Raises:
        ValueError: called outside of the main thread, the only one that can hear signals.
        RuntimeError: on many hosts, `jax_enable_preemption_service` is off.

    Examples:
        >>> with stop_on_signal() as stopped:
        ...     for step in range(1, 9):
        ...         if step == 3:
        ...             signal.raise_signal(signal.SIGTERM)
        ...         if stopped(step):  # save_checkpoint(folder, state)
        ...             break
        >>> step
        3
    """
    if jax.process_count() > 1:  # `jax.distributed` has its own handler, which stays
        yield multihost_utils.reached_preemption_sync_point
        return
    heard = []
    earlier = signal.signal(signal.SIGTERM, lambda *_: heard.append(True))
    try:
        yield lambda step: bool(heard)
    finally:
        signal.signal(signal.SIGTERM, earlier)
