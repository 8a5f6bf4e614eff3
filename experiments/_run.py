"""A run: one folder with everything that was measured, and how it was measured.

The folder holds `run.json` (configuration, versions, results), one CSV file per table,
`tensorboard/`, `checkpoints/` and the figures.
"""

import dataclasses
import importlib.metadata
import json
import math
import numbers
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from tensorboardX import SummaryWriter

from ._errors import RunError as RunError
from ._hosts import Hosts
from ._tables import Row as TableRow
from ._tables import append_rows, drop_last_group, drop_rows_after
from .data import Dataset, ImageFolder, load, load_folders

Data = TypeVar("Data")

_PACKAGES = ("jaxnorm", "jax", "jaxlib", "flax", "optax", "numpy")
_REPORT = "run.json"


class Run:
    """The writer of an experiment: tables, TensorBoard scalars, progress.

    Use a run as a context manager, which closes the TensorBoard files.

    Args:
        folder: the run's folder, which `prepare` has checked.
        data_dir: folder of the data sets, and target of downloads.
        resume: whether training goes on from the folder's checkpoints.
        console: shows progress and results.
        save_every_s: seconds between checkpoints of a training.
        hosts: the processes of the run. Each has the checkpoints in the same folder.
        checkpoints: the checkpoints' folder; None for the one in `folder`.
    """

    def __init__(
        self,
        folder: Path,
        data_dir: Path,
        *,
        resume: bool,
        console: Console,
        save_every_s: float = 30.0,
        hosts: Hosts = Hosts(),
        checkpoints: Path | None = None,
    ) -> None:
        self.folder = folder
        self.checkpoints = checkpoints or folder / "checkpoints"
        self.hosts = hosts
        self.resume = resume
        self.console = console
        self.save_every_s = save_every_s
        self.data_notes: dict[str, str] = {}
        self._data_dir = data_dir
        self._writers: dict[str, SummaryWriter] = {}
        self._printed = time.monotonic()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._writers.values():
            writer.close()

    def dataset(self, name: str) -> Dataset:
        """Return a data set by name. The report notes whether its bytes are the published ones."""
        data = self._read(lambda: load(name, self._data_dir))
        self.data_notes[name] = data.note
        self.console.print(f"data: {data.note}", style="dim")
        return data

    def image_folders(self, name: str) -> tuple[ImageFolder, ImageFolder]:
        """Return a data set's training and validation files. The report notes their numbers."""
        train, validation = self._read(lambda: load_folders(name, self._data_dir))
        self.data_notes[name] = (
            f"{name}, {len(train.classes)} classes, {len(train.paths)} training and "
            f"{len(validation.paths)} validation images"
        )
        self.console.print(f"data: {self.data_notes[name]}", style="dim")
        return train, validation

    def _read(self, read: Callable[[], Data]) -> Data:
        """Read on the first process, which downloads what is missing, and then on the others."""
        return self.hosts.in_turn(read, read)

    def table(self, name: str) -> Path:
        """Return the path of the CSV file of a table."""
        return self.folder / f"{name}.csv"

    def record(self, name: str, rows: Sequence[TableRow]) -> None:
        """Append rows to a table. Numbers keep seven digits, as float32 has no more."""
        append_rows(self.table(name), [_with_seven_digits(row) for row in rows])

    def replace(self, name: str, rows: Sequence[TableRow]) -> None:
        """Write a table anew, also in a run that was stopped and resumed."""
        self.table(name).unlink(missing_ok=True)
        self.record(name, rows)

    def recorded(self, name: str, columns: Sequence[str]) -> set[tuple[str, ...]]:
        """Return which groups of rows a resumed run has in a table, by their values `columns`.

        The last group is dropped, to be measured again: an interruption may have cut it off.
        """
        return drop_last_group(self.table(name), columns) if self.resume else set()

    def keep(self, name: str, values: Any) -> None:
        """Write an array, such as a picture, as `<name>.npy` in float16."""
        np.save(self.folder / f"{name}.npy", np.asarray(values, np.float16))

    def rewind(self, step: int, where: Mapping[str, str | int]) -> None:
        """Drop the rows after `step` that have the values `where`, from every table."""
        for path in sorted(self.folder.glob("*.csv")):
            with path.open() as file:
                header = file.readline()
            if not header.endswith("\n"):
                path.unlink()  # an interruption cut the first line
            elif {"step", *where} <= set(header.rstrip("\n").split(",")):
                drop_rows_after(path, step, where)

    def scalars(self, name: str, step: int, values: Mapping[str, Any]) -> None:
        """Write scalars to TensorBoard, as the run `name` (for example `batch-0`)."""
        if name not in self._writers:
            folder = self.folder / "tensorboard" / name
            self._writers[name] = SummaryWriter(
                str(folder), purge_step=step if self.resume else None
            )
        for tag, value in values.items():
            if math.isfinite(value):  # a network that diverged has none
                self._writers[name].add_scalar(tag, float(value), step)

    @contextmanager
    def progress(self, label: str, total: int, unit: str) -> Iterator[Callable[[int, str], None]]:
        """Show how far a loop is: as a bar in a terminal, elsewhere as a line now and then.

        Yields:
            A function that takes the steps done and a remark, such as the latest accuracy.
        """
        if self.console.is_terminal:
            with _bar(self.console) as bar:
                task = bar.add_task(label, total=total, remark="", unit=unit)
                yield lambda done, remark: bar.update(task, completed=done, remark=remark)
        else:
            yield self._lines(label, total, unit)

    def _lines(self, label: str, total: int, unit: str) -> Callable[[int, str], None]:
        """Return a function that prints at most a line for each tenth and for each five seconds."""
        shown = -1

        def report(done: int, remark: str) -> None:
            nonlocal shown
            tenth, now = 10 * done // total, time.monotonic()
            if done == total or (tenth > shown and now - self._printed >= 5):
                shown, self._printed = tenth, now
                line = f"{label}: {done}/{total} {unit} {remark}".rstrip()
                self.console.print(line, highlight=False)

        return report


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
        console=console,
    )


def prepare(
    folder: Path, *, config: Any, resume: bool, megabytes: int, report: Mapping[str, Any]
) -> None:
    """Make a run's folder ready, or raise before any work.

    Args:
        folder: the run's folder, created when absent.
        config: the experiment's configuration, a dataclass.
        resume: whether the folder's run goes on. It must have the same configuration.
        megabytes: free space that the run needs.
        report: the content of `run.json` besides the configuration.

    Raises:
        RunError: the folder cannot be written, or the disk is too full. The folder holds a run and
            `resume` is false. The folder holds another run than the one to resume.
    """
    _check_writable(folder)
    free = _free_bytes(folder)
    if free < megabytes * 10**6:
        raise RunError(
            f"{folder} has {free / 1e6:.0f} MB free and this run needs {megabytes} MB; "
            "make room, or name another folder with --out"
        )
    wanted = _plain(dataclasses.asdict(config))
    present = read_report(folder) if (folder / _REPORT).exists() else None
    if resume:
        _check_same(folder, present, wanted, report["experiment"])
    elif present is not None:
        raise RunError(
            f"{folder} holds a run of {present['experiment']}; continue it with --resume, "
            "or name another folder with --out"
        )
    earlier = present.get("seconds", 0.0) if present and resume else 0.0
    begun = {"config": wanted, "resumed": resume, "results": None, "seconds": earlier}
    write_report(folder, {**report, **begun})


@contextmanager
def own_folder(folder: Path, hosts: Hosts) -> Iterator[Path]:
    """Yield the folder that this process writes to: the run's, or one that is thrown away."""
    if hosts.first:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="jaxnorm-") as own:
        yield Path(own)


def follow(folder: Path, own: Path, *, resume: bool) -> None:
    """Begin where the first process begins: copy what the run's folder holds.

    Args:
        folder: the run's folder, which the first process has prepared.
        own: folder of this process.
        resume: whether the run goes on, from tables that are there.

    Raises:
        RunError: this process does not see the folder.
    """
    if not (folder / _REPORT).exists():
        raise RunError(
            f"{folder} holds no {_REPORT} here, which the first process wrote; "
            "name with --out a folder that all hosts see"
        )
    for path in folder.iterdir():
        if path.is_file() and (resume or path.name == _REPORT):
            shutil.copy2(path, own)


def read_report(folder: Path) -> dict[str, Any]:
    """Return the content of a run's `run.json`.

    Raises:
        RunError: the file is missing or not complete.
    """
    path = folder / _REPORT
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise RunError(
            f"{path} cannot be read ({error}); name a folder that a run wrote"
        ) from error


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write `run.json`. An interruption leaves the old file whole."""
    partial = folder / f".{_REPORT}"
    partial.write_text(json.dumps(_plain(report), indent=2, allow_nan=False) + "\n")
    os.replace(partial, folder / _REPORT)


def describe_machine() -> str:
    """Return the hardware in words: the CPU cores of this process, and JAX's devices of all."""
    cores = f"{os.cpu_count()} {platform.machine().replace('_', '-')} cores"
    devices = jax.devices()
    if jax.process_count() > 1:
        cores = f"{jax.process_count()} processes, each with {cores}"
    elif devices[0].platform == "cpu":
        return cores
    return f"{len(devices)} x {devices[0].device_kind}, {cores}"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


@contextmanager
def stopwatch() -> Iterator[Callable[[], float]]:
    """Yield a function that returns the seconds since the context began."""
    start = time.perf_counter()
    yield lambda: time.perf_counter() - start


def _with_seven_digits(row: TableRow) -> TableRow:
    return {
        name: float(f"{float(value):.7g}") if _has_decimals(value) else value
        for name, value in row.items()
    }


def _has_decimals(value: Any) -> bool:
    return not (value is None or isinstance(value, str | numbers.Integral))


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"0")
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written: {error.strerror or error}; name another folder with --out"
        ) from error


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _check_same(
    folder: Path, present: Mapping[str, Any] | None, wanted: Mapping[str, Any], experiment: str
) -> None:
    if present is None:
        raise RunError(f"{folder} holds no run to resume; run without --resume")
    if present["experiment"] != experiment:
        raise RunError(f"{folder} holds a run of {present['experiment']}, not of {experiment}")
    before = present["config"]
    changed = [
        f"{name} was {before.get(name)!r} and is {wanted.get(name)!r}"
        for name in sorted({*before, *wanted})
        if before.get(name) != wanted.get(name)
    ]
    if changed:
        raise RunError(
            f"{folder} holds a run with another configuration: {'; '.join(changed)}; "
            "resume with the same options, or name another folder with --out"
        )


def _plain(value: Any) -> Any:
    """Return the value in types that JSON can hold, with null for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _plain(np.asarray(value).tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
