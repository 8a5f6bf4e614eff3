"""What a child process does that a fault meets: `python -m tests.training.child TASK FOLDER`."""

import os
import resource
import signal
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxnorm.training import (
    TrainState,
    latest_step,
    restore_checkpoint,
    save_checkpoint,
    stop_on_signal,
)
from tests.training.digits import STEP, digits, rows, start

SAVED = {"w": np.random.default_rng(0).random(1 << 16, np.float32)}


def refused(folder: Path) -> None:
    """A folder that takes no files and a disk that is full, one after the other."""
    save_checkpoint(folder, SAVED, step=1)
    folder.chmod(0o555)
    attempt(folder)
    folder.chmod(0o755)
    # A limit on the size of a file breaks off a write, as a full disk does.
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, most[1]))
    attempt(folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, most)
    save_checkpoint(folder, SAVED, step=2)


def attempt(folder: Path) -> None:
    try:
        save_checkpoint(folder, SAVED, step=2)
    except OSError as error:
        found = restore_checkpoint(folder, {"w": jnp.zeros(1 << 16)})
        same = np.asarray(found["w"]).tobytes() == SAVED["w"].tobytes()
        print(latest_step(folder), same, str(error).replace("\n", " "), flush=True)


def trained(steps: int, state: TrainState) -> TrainState:
    """Trains to a step, each on rows of its own."""
    data = digits()
    for i in range(int(state.step), steps):
        state, _ = STEP(state, rows(data, 32 * (i % 50), 32 * (i % 50) + 32))
    return state


def killed(folder: Path) -> None:
    """Saves step 2, and is killed while it saves step 4: written, but not yet by its name."""
    state = trained(2, start())
    save_checkpoint(folder, state)

    def kill(event: str, _: tuple) -> None:
        if event == "os.rename":
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)
    save_checkpoint(folder, trained(4, state))


def stopped(folder: Path) -> None:
    """Trains until SIGTERM comes, and saves once."""
    state = start()
    with stop_on_signal() as stop:
        for i in range(1, 1000):
            state = trained(i, state)
            print("step", i, flush=True)
            if stop():
                save_checkpoint(folder, state)
                print("saved", i, flush=True)
                sys.exit(143)
            time.sleep(0.02)


if __name__ == "__main__":
    task, folder = sys.argv[1:]
    {"refused": refused, "killed": killed, "stopped": stopped}[task](Path(folder))
