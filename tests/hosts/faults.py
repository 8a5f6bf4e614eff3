"""Runs that meet a fault: the death of a host at a named moment, a signal, a full disk."""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax

from jaxnorm.training import (
    cross_entropy,
    latest_step,
    make_train_step,
    restore_checkpoint,
    save_checkpoint,
    stop_on_signal,
)
from tests.hosts.run import MODEL, TX, batch, mesh_of_all, placed, sharded


def deaths(folder: Path) -> Callable[[str, int], None]:
    """Returns what kills this process at the moment that the file `die` holds, as `step 3 1`.

    The last number is the host's. A checkpoint dies with much of it on disk: where the first host
    gives it its name, and where the second notes which parts of arrays it holds.
    """
    file = folder / "die"
    moment, number, host = file.read_text().split() if file.exists() else ("never", "0", "0")

    def watch(event: str, about: tuple) -> None:
        if event == "os.rename" or (event == "open" and str(about[0]).endswith("process_1")):
            os.kill(os.getpid(), signal.SIGKILL)

    def die(now: str, at: int) -> None:
        if (now, at, jax.process_index()) != (moment, int(number), int(host)):
            return
        if now == "checkpoint":
            sys.addaudithook(watch)
            return
        time.sleep(0.5)  # the other one waits in a collective by then
        os.kill(os.getpid(), signal.SIGKILL)

    return die


def train(folder: Path) -> None:
    """Trains to step 6 with a checkpoint every second step; `die` says when a host dies."""
    mesh = mesh_of_all()
    state, where = placed(mesh), folder / "run"
    if latest_step(where) is not None:
        state = restore_checkpoint(where, state)
    step = make_train_step(MODEL, TX, cross_entropy)
    die = deaths(folder)
    for i in range(int(state.step), 6):
        die("step", i)
        state, _ = step(state, {k: sharded(v, mesh, "data") for k, v in batch(i).items()})
        jax.block_until_ready(state)
        if int(state.step) % 2 == 0:
            die("checkpoint", int(state.step))
            save_checkpoint(where, state)
    print("finished", flush=True)


def stopped(folder: Path) -> None:
    """Trains until one of the hosts, the second, gets SIGTERM; both save and leave together."""
    mesh = mesh_of_all()
    state = placed(mesh)
    step = make_train_step(MODEL, TX, cross_entropy)
    with stop_on_signal() as stop:
        for i in range(1000):
            state, _ = step(state, {k: sharded(v, mesh, "data") for k, v in batch(i).items()})
            jax.block_until_ready(state)
            if i == 2 and jax.process_index() == 1:
                signal.raise_signal(signal.SIGTERM)
            if stop():
                save_checkpoint(folder / "run", state)
                print("saved", i + 1, flush=True)
                return
            time.sleep(0.02)


def full_disk(folder: Path) -> None:
    """Saves step 1; at step 2 the second host's disk is full."""
    state = placed(mesh_of_all())
    save_checkpoint(folder / "run", state, step=1)
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    if jax.process_index() == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, most[1]))
    try:
        save_checkpoint(folder / "run", state, step=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    print("finished", flush=True)
