"""The command line: `python -m experiments [NAME | figures | ledger] [options]`."""

import argparse
import dataclasses
import itertools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from ._hosts import Hosts, joined
from ._ledger import say, write_ledger
from ._registry import ROWS, Experiment, Row, find, load
from ._run import (
    Run,
    RunError,
    describe_machine,
    follow,
    own_folder,
    prepare,
    read_report,
    stopwatch,
    versions,
    write_report,
)
from .data import DataError

_KEPT = "experiments/results"
_USAGE = """\
python -m experiments NAME [options]     run an experiment; NAME --help lists its options
python -m experiments figures FOLDER     draw a run's figures again, from its files
python -m experiments ledger [FOLDER]    write docs/ledger.md from the runs kept in FOLDER"""


@dataclasses.dataclass(frozen=True)
class Launch:
    """Options that every experiment has.

    Attributes:
        preset: Values that the other options start from: smoke, default, paper, or a further preset
            of the experiment.
        data_dir: Folder of the data sets. Missing files are downloaded to it.
        out: Folder to write to. The default is a new folder below `runs`.
        resume: Continue the run in `out`, or the latest run, from its checkpoints.
        save_every_s: Seconds between checkpoints of a training.
        hardware: Name of this machine in the report. The default names its cores and devices.
        distributed: Be one of many processes, which JAX finds in the environment of a cluster.
        coordinator: Elsewhere, the first process's HOST:PORT. It implies `distributed`.
        processes: How many processes there are, with `coordinator`.
        process: Number of this process, from zero, with `coordinator`.
    """

    preset: str = "default"
    data_dir: Path = Path("data")
    out: Path | None = None
    resume: bool = False
    save_every_s: float = 30.0
    hardware: str | None = None
    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, or 2 for a request that cannot be met."""
    name, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    console = Console()
    try:
        if name in ("-h", "--help"):
            _list(console)
        elif name == "figures":
            _draw_again(console, Path(_one(rest, "figures")))
        elif name == "ledger":
            target = write_ledger(Path(_one(rest or [_KEPT], "ledger")), Path("docs/ledger.md"))
            console.print(f"wrote {target}")
        else:
            _experiment(console, find(name), rest)
    except (RunError, DataError) as error:
        console.print(f"error: {error}", style="bold red", markup=False, highlight=False)
        return 2
    return 0


def _list(console: Console) -> None:
    presets = ("smoke", "default", "paper")
    table = Table(title="experiments, with the time they take on two cores and their data")
    for column in ("name", "what it does", *presets):
        table.add_column(column, no_wrap=column == "name")
    for row in ROWS:
        further = [f"{name}: {told}" for name, told in row.presets.items() if name not in presets]
        line = "; ".join([row.line, *further])
        table.add_row(row.name, line, *(row.presets[preset] for preset in presets))
    console.print(table)
    console.print(_USAGE, markup=False, highlight=False)


def _experiment(console: Console, row: Row, arguments: list[str]) -> None:
    module = load(row)
    launch, config = _parse(row, module, arguments)
    ours = (launch.coordinator, launch.processes, launch.process)
    if not launch.distributed and ours == (None, None, None):
        _on_hosts(console, row, module, launch, config, arguments, Hosts())
        return
    with joined(
        row.hosts,
        coordinator=launch.coordinator,
        processes=launch.processes,
        process=launch.process,
    ) as hosts:
        shown = console if hosts.first else Console(quiet=True)
        _on_hosts(shown, row, module, launch, config, arguments, hosts)


def _on_hosts(
    console: Console,
    row: Row,
    module: Experiment,
    launch: Launch,
    config: Any,
    arguments: list[str],
    hosts: Hosts,
) -> None:
    """Run an experiment on all processes. The first one writes its folder."""
    given = launch.out or _default_folder(row.name, launch.preset, launch.resume)
    folder = given if hosts.count == 1 else Path(hosts.told(str(given.absolute())))
    report = {
        "experiment": row.name,
        "preset": launch.preset,
        "command": _command(row.name, arguments),
        "hardware": launch.hardware or describe_machine(),
        "versions": versions(),
    }
    about = {"config": config, "resume": launch.resume, "megabytes": row.megabytes}
    with own_folder(folder, hosts) as written:
        hosts.in_turn(
            lambda: prepare(folder, report=report, **about),
            lambda: follow(folder, written, resume=launch.resume),
        )
        run = Run(
            written,
            launch.data_dir,
            resume=launch.resume,
            console=console,
            save_every_s=launch.save_every_s,
            hosts=hosts,
            checkpoints=folder / "checkpoints",
        )
        with run, stopwatch() as seconds:
            done = {}
            try:
                done = {"results": module.run(config, run), "data": run.data_notes}
            finally:
                report = read_report(written)
                took = round(report["seconds"] + seconds(), 1)
                write_report(written, {**report, **done, "seconds": took})
        if hosts.first:
            _show(console, module, folder, took)


def _show(console: Console, module: Experiment, folder: Path, took: float) -> None:
    """Draw the figures of a run that has ended, and say what it found."""
    pictures = module.figures(folder)
    for sentence in say(module, read_report(folder)["results"]):
        console.print(f"- {sentence}", markup=False, highlight=False)
    written = ", ".join(path.name for path in pictures)
    console.print(f"{took:.0f} s; run.json, tables and {written} in {folder}", highlight=False)


def _parse(row: Row, module: Experiment, arguments: list[str]) -> tuple[Launch, Any]:
    """Return the options, those not given taken from the preset that the arguments name."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--preset")
    preset = early.parse_known_args(arguments)[0].preset or "default"
    if preset not in module.PRESETS:
        raise RunError(
            f"{row.name} has no preset {preset!r}; there are {', '.join(module.PRESETS)}"
        )
    config = module.PRESETS[preset]
    fields = [("launch", Launch, Launch()), ("config", type(config), config)]
    options = dataclasses.make_dataclass("Options", fields)
    parsed = tyro.cli(
        tyro.conf.OmitArgPrefixes[options],
        prog=f"python -m experiments {row.name}",
        description=_described(row),
        args=arguments,
    )
    return parsed.launch, parsed.config


def _described(row: Row) -> str:
    """Return what an experiment does, and the time and the data of each of its presets."""
    presets = "; ".join(f"{name} {told}" for name, told in row.presets.items())
    return f"{row.line[0].upper()}{row.line[1:]}. On two shared x86-64 cores: {presets}."


def _default_folder(name: str, preset: str, resume: bool) -> Path:
    """Return a new folder below `runs`, or the latest one of this experiment and preset."""
    folders = itertools.chain(
        [Path("runs") / f"{name}-{preset}"],
        (Path("runs") / f"{name}-{preset}-{i}" for i in itertools.count(2)),
    )
    taken = list(itertools.takewhile(Path.exists, folders))
    if resume and taken:
        return taken[-1]
    suffix = f"-{len(taken) + 1}" if taken else ""
    return Path("runs") / f"{name}-{preset}{suffix}"


def _command(name: str, arguments: list[str]) -> str:
    """Return the command that repeats a run elsewhere: without this machine's folders and name."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--data-dir", "--out", "--hardware", "--save-every-s"):
        early.add_argument(option)
    for option in ("--coordinator", "--processes", "--process"):
        early.add_argument(option)
    early.add_argument("--resume", action="store_true")
    own, rest = early.parse_known_args(arguments)
    folder = ["--data-dir", "DATA"] if own.data_dir else []
    return shlex.join(["python", "-m", "experiments", name, *rest, *folder])


def _draw_again(console: Console, folder: Path) -> None:
    for path in load(find(read_report(folder)["experiment"])).figures(folder):
        console.print(f"wrote {path}", highlight=False)


def _one(arguments: list[str], command: str) -> str:
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise RunError(f"{command} takes one folder, got {arguments}\n{_USAGE}")
    return arguments[0]


if __name__ == "__main__":
    sys.exit(main())
