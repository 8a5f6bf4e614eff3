"""The ledger: what each experiment should show, and what its kept run did show.

A kept run is a folder with the run's `run.json`, small tables and figures. A `NOTES.md` in the
folder explains the numbers in words. All other numbers come from the run's files. Further runs of
an experiment with claims, of other options, are folders within that of its kept run.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ._registry import ROWS, Experiment, Row, load
from ._run import read_report
from ._seeds import sentence, verdict

_HEAD = """\
# Ledger of experiments

This page says of each experiment whether its run shows what the literature claims, then the
numbers, the reason, and the figure. Published numbers stand beside the measured ones, and no
experiment was tuned to match them. `python -m experiments ledger` writes this page from the runs in
`experiments/results`. `python -m experiments` lists the experiments.

| experiment | does it show? | preset | seeds | time |
|---|---|---|---|---|
"""


def write_ledger(kept: Path, target: Path) -> Path:
    """Write the ledger of the runs kept in `kept/<name>/` and return its path.

    Raises:
        RunError: a run's report cannot be read.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(ledger(kept, target.parent))
    return target


def ledger(kept: Path, below: Path) -> str:
    """Return the ledger as Markdown for a file in the folder `below`, in the registry's order."""
    rows = [row for row in ROWS if (kept / row.name / "run.json").exists()]
    reports = [read_report(kept / row.name) for row in rows]
    said = [say(load(row), report["results"]) for row, report in zip(rows, reports, strict=True)]
    lines = [
        f"| [{row.name}](#{row.name.replace('_', '-')}) | {sentences[0]} | {report['preset']} "
        f"| {_seeds(report)} | {_duration(report['seconds'])} |\n"
        for row, report, sentences in zip(rows, reports, said, strict=True)
    ]
    sections = [
        _section(row, report, sentences, kept / row.name, below)
        for row, report, sentences in zip(rows, reports, said, strict=True)
    ]
    return _HEAD + "".join(lines) + "\n" + "\n".join(sections)


def say(module: Experiment, results: dict[str, Any]) -> list[str]:
    """Return whether the claims showed, and then the numbers, in sentences."""
    claims = getattr(module, "claims", lambda _: {})
    return [verdict(claims(results)), *module.summary(results)]


def _section(
    row: Row, report: Mapping[str, Any], sentences: list[str], folder: Path, below: Path
) -> str:
    claim, *numbers = sentences
    claims = hasattr(load(row), "claims")
    what = "The claim" if claims else "What it measures"
    about = f"{sentence(row.line)}. {what}: {row.expected}. Reference: {row.reference}."
    parts = [f"## {row.name}", claim, about, *_found(row, report, numbers, folder, below)]
    for further in sorted(path.parent for path in folder.glob("*/run.json") if claims):
        report = read_report(further)
        claim, *numbers = say(load(row), report["results"])
        title = f"### {row.name}: {further.name.replace('_', ' ')}"
        parts += [title, claim, *_found(row, report, numbers, further, below)]
    return "\n\n".join(parts) + "\n"


def _found(
    row: Row, report: Mapping[str, Any], numbers: list[str], folder: Path, below: Path
) -> list[str]:
    """Return the paragraphs on what one run found, and how it was run."""
    notes = folder / "NOTES.md"
    here = Path(os.path.relpath(folder, below))
    figures = [f"![{row.name}: {p.stem}]({here / p.name})" for p in sorted(folder.glob("*.png"))]
    files = ", ".join(
        f"[{path.name}]({here / path.name})"
        for path in [folder / "run.json", *sorted(folder.glob("*.csv"))]
    )
    data = "; ".join(report["data"].values()) or "none"
    used = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return [
        "\n".join(f"- {number}" for number in numbers),
        *([notes.read_text().strip()] if notes.exists() else []),
        *figures,
        f"    {report['command']}",
        f"- Data: {data}.\n"
        f"- Hardware: {report['hardware']}, {_duration(report['seconds'])}.\n"
        f"- Versions: {used}.\n- Files: {files}.",
    ]


def _seeds(report: Mapping[str, Any]) -> str:
    config = report["config"]
    return ", ".join(str(seed) for seed in config.get("seeds", [config.get("seed", "-")]))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
