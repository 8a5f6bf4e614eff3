"""The benchmark over time: a small file per kept run, and a page that shows them.

`python -m experiments.bench.history keep RUN` writes the file of a run, and
`python -m experiments.bench.history page` writes `docs/history.md` and its figure from all files.
"""

import argparse
import datetime
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._figures import COLOURS, DASHES, legend, new_figure, save, subplots
from .._run import RunError, read_report
from .._tables import read_table, select
from ._cases import PASSES
from ._report import fastest

HISTORY = Path("experiments/results/bench/history")
PAGE = Path("docs/history.md")
_LIBRARIES = ("flax.linen", "jaxnorm", "jaxnorm (xla)", "torch")
_NAMES = {"forward": "forward", "both": "forward and backward"}

_HEAD = """\
# Speed over time

Each row is a kept run of the benchmark, which the page about [speed and memory](performance.md)
describes. A small file per run has its machine, its versions and the milliseconds of each case, in
`experiments/results/bench/history`.

Milliseconds of different machines do not compare. So the table and the figure show ratios: how many
times as fast as `flax.linen` in the same process, in turns with it. They are geometric means over
the {cases} inputs that all runs have. The machines were shared, so that the ratio of a single case
moves by some tens of per cent from run to run.

asv and pytest-benchmark time one function at a time. On a shared machine, two libraries that are
not timed in turns do not compare. So the benchmark has its own rounds, and these files keep its
results.

![Speed relative to flax.linen in each kept run](images/history.png)

"""
_TAIL = """
To add a run, and to write this page anew:

    python -m experiments bench --sizes models --rounds 9 --out RUN
    python -m experiments.bench.history keep RUN
    python -m experiments.bench.history page
"""


def entry(run: Path, *, commit: str, at: str) -> dict[str, Any]:
    """Return what the history keeps of a run.

    Args:
        run: the run's folder, with `run.json` and `bench.csv`.
        commit: the commit that was measured, shortened.
        at: when, as ISO 8601.

    Raises:
        RunError: the folder holds no complete run of the benchmark's times.
    """
    report = read_report(run)
    if report["experiment"] != "bench" or not report["results"] or not (run / "bench.csv").exists():
        raise RunError(f"{run} holds no complete run of bench with times; name the folder of one")
    table = read_table(run / "bench.csv")
    cases = dict.fromkeys(zip(table["member"], table["shape"], table["dtype"], strict=True))
    milliseconds: dict[str, dict[str, float]] = {}
    for member, shape, dtype in cases:
        for direction in PASSES:
            rows = select(table, member=member, shape=shape, dtype=dtype, direction=direction)
            times = {library: fastest(rows, library) for library in _LIBRARIES}
            times["jaxnorm (xla)"] = min(
                select(rows, library="jaxnorm (xla)")["milliseconds"], default=np.nan
            )
            milliseconds[f"{member} {shape} {dtype} {direction}"] = {
                library: float(f"{time:.4g}") for library, time in times.items() if time == time
            }
    results = report["results"]
    return {
        "at": at,
        "commit": commit,
        "command": report["command"],
        "hardware": report["hardware"],
        "versions": report["versions"],
        "copy_gigabytes_per_second": round(results["copy_gigabytes_per_second"], 2),
        "milliseconds": milliseconds,
        "steps_against_flax": results.get("steps_against_flax", {}),
    }


def keep(kept: dict[str, Any], history: Path) -> Path:
    """Write the file of an entry and return its path. Its name sorts by time."""
    history.mkdir(parents=True, exist_ok=True)
    when = datetime.datetime.fromisoformat(kept["at"]).astimezone(datetime.UTC)
    path = history / f"{when:%Y%m%d-%H%M%S}-{kept['commit']}.json"
    path.write_text(json.dumps(kept, indent=1) + "\n")
    return path


def read(history: Path) -> list[dict[str, Any]]:
    """Return the entries of all kept runs, the oldest first.

    Raises:
        RunError: there is none.
    """
    kept = [json.loads(path.read_text()) for path in sorted(history.glob("*.json"))]
    if not kept:
        raise RunError(f"{history} has no kept run; add one with `keep RUN`")
    return kept


def common_cases(kept: Sequence[dict[str, Any]]) -> list[str]:
    """Return the cases that all runs have, for jaxnorm and for flax.linen."""
    having = [
        {
            case
            for case, times in run["milliseconds"].items()
            if {"jaxnorm", "flax.linen"} <= {*times}
        }
        for run in kept
    ]
    return [case for case in kept[0]["milliseconds"] if all(case in cases for cases in having)]


def speed(run: dict[str, Any], cases: Sequence[str]) -> float:
    """Return the geometric mean over cases of how many times as fast as flax.linen jaxnorm is.

    Examples:
        >>> a, b = {"flax.linen": 2.0, "jaxnorm": 1.0}, {"flax.linen": 8.0, "jaxnorm": 1.0}
        >>> speed({"milliseconds": {"a": a, "b": b}}, ["a", "b"])
        4.0
    """
    times = [run["milliseconds"][case] for case in cases]
    return float(np.exp(np.mean([np.log(each["flax.linen"] / each["jaxnorm"]) for each in times])))


def page(kept: Sequence[dict[str, Any]]) -> str:
    """Return the page of all kept runs as Markdown."""
    cases = common_cases(kept)
    inputs = {case.rsplit(" ", 1)[0] for case in cases}
    lines = [
        "| run | machine | jax | copy, GB/s | forward | forward and backward | ResNet-18 step: "
        "time, peak memory |\n",
        "|---|---|---|---|---|---|---|\n",
    ]
    for run in kept:
        by_pass = [speed(run, [c for c in cases if c.endswith(f" {each}")]) for each in PASSES]
        step = run["steps_against_flax"].get("ResNet-18")
        against = f"{step['milliseconds']:.2f}, {step['peak_bytes']:.2f}" if step else "-"
        lines.append(
            f"| {run['at'][:10]} {run['commit']} | {run['hardware']} | {run['versions']['jax']} | "
            f"{run['copy_gigabytes_per_second']:.0f} | {by_pass[0]:.2f} | {by_pass[1]:.2f} | "
            f"{against} |\n"
        )
    return _HEAD.format(cases=len(inputs)) + "".join(lines) + _TAIL


def draw(kept: Sequence[dict[str, Any]], path: Path) -> Path:
    """Draw the speed of each member in each kept run, and return the picture's path."""
    cases = common_cases(kept)
    members = list(dict.fromkeys(case.split()[0] for case in cases))
    figure = new_figure(10.0, 4.2)
    grid = subplots(figure, 1, 2, sharey=True)[0]
    for axes, direction in zip(grid, PASSES, strict=True):
        for position, member in enumerate(members):
            own = [c for c in cases if c.split()[0] == member and c.endswith(f" {direction}")]
            axes.plot(
                [speed(run, own) for run in kept],
                marker="o",
                color=COLOURS[position],
                ls=DASHES[position % len(DASHES)],
                label=f"{member} norm",
            )
        axes.axhline(1, color="black", lw=0.8)
        labels = [f"{run['at'][:10]}\n{run['commit']}" for run in kept]
        axes.set_xticks(range(len(kept)), labels, fontsize=7)
        axes.set(title=_NAMES[direction], xlabel="kept run", ylim=(0, None))
    grid[0].set_ylabel("speed, times flax.linen")
    legend(figure, grid[0])
    return save(figure, path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0, or 2 for a request that cannot be met."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m experiments.bench.history"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    adding = commands.add_parser("keep", help="write the file of a run")
    adding.add_argument("run", type=Path, help="the run's folder")
    adding.add_argument("--commit", help="the commit that was measured; by default the current one")
    commands.add_parser("page", help="write the page and its figure")
    options = parser.parse_args(arguments)
    try:
        if options.command == "keep":
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            kept = entry(options.run, commit=options.commit or _commit(), at=now)
            sys.stdout.write(f"wrote {keep(kept, HISTORY)}\n")
        else:
            runs = read(HISTORY)
            PAGE.write_text(page(runs))
            sys.stdout.write(f"wrote {PAGE} and {draw(runs, PAGE.parent / 'images/history.png')}\n")
    except RunError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if done.returncode:
        raise RunError("this is no git checkout; name the commit that was measured with --commit")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
