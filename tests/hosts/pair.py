"""Starts processes that find each other as hosts do, and ends them whatever happens."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax

ROOT = Path(__file__).parents[2]
DEVICES = 2  # of each process
HEARTBEAT = 10  # seconds without a sign of life after which a process counts as dead


def join(rank: int, address: str, count: int = 2) -> None:
    """Makes this process one of `count` hosts; called before any device is used."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        address,
        num_processes=count,
        process_id=rank,
        initialization_timeout=60,
        heartbeat_timeout_seconds=HEARTBEAT,
        shutdown_timeout_seconds=HEARTBEAT,
    )


class Host(NamedTuple):
    """A child process and the file that its output goes to."""

    process: subprocess.Popen
    output: Path

    def ended(self, timeout: float) -> int:
        """Returns the exit code, waiting for at most `timeout` seconds."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end within {timeout} s:\n{self.said()}") from None

    def said(self) -> str:
        return self.output.read_text()


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@contextlib.contextmanager
def hosts(module: str, task: str, folder: Path, count: int = 2) -> Iterator[list[Host]]:
    """Runs `python -m module task rank address folder` once per host and kills what is left."""
    address = free_address()
    commands = [["-m", module, task, str(rank), address, str(folder)] for rank in range(count)]
    with started(commands, [folder / f"{task}{rank}.txt" for rank in range(count)]) as found:
        yield found


@contextlib.contextmanager
def started(
    commands: list[list[str]], outputs: list[Path], **environment: str
) -> Iterator[list[Host]]:
    """Runs Python with the arguments of each command, and kills what is left."""
    # The parent's eight devices are not the children's.
    own = {"XLA_FLAGS": "--xla_backend_optimization_level=0", **environment}
    found: list[Host] = []
    try:
        for command, output in zip(commands, outputs, strict=True):
            with output.open("w") as file:
                process = subprocess.Popen(
                    [sys.executable, *command],
                    cwd=ROOT,
                    env={**os.environ, **own},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            found.append(Host(process, output))
        yield found
    finally:
        for host in found:
            if host.process.poll() is None:
                host.process.send_signal(signal.SIGKILL)
            host.process.wait()
