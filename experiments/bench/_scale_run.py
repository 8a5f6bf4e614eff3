"""The run that counts what train steps exchange on slices of many chips."""

from collections.abc import Sequence
from typing import Any

from .._run import Run, RunError
from .._tables import read_table
from ._ahead import compiler
from ._large import LARGE
from ._scale import CHIPS, LAYOUTS, counted, flops_of_image
from ._scale_table import compiled_table, plan, plan_table, sentences

_JOB = ("model", "layout", "chips")  # columns that tell what was compiled


def at_scale(target: str, models: Sequence[str], chips: Sequence[int], run: Run) -> dict[str, Any]:
    """Count what each model and layout exchanges. The table `scale` has a row for each of them.

    Args:
        target: the chip.
        models: names of `LARGE`.
        chips: of the slices.
        run: takes the tables. A resumed run compiles what it has not.
    """
    if unknown := sorted({*chips} - {*CHIPS[target].slices}):
        there_are = sorted(CHIPS[target].slices)
        raise RunError(f"chips={unknown} are no slices of {target} here; use some of {there_are}")
    if unknown := sorted({*models} - {model.name for model in LARGE}):
        raise RunError(f"models={unknown} are unknown; use some of {[m.name for m in LARGE]}")
    jobs = [(name, layout, n) for n in chips for name in models for layout in LAYOUTS]
    present = run.recorded("scale", _JOB)
    with compiler(target) as call, run.progress("scale", len(jobs), "programs") as progress:
        for done, (name, layout, n) in enumerate(jobs, 1):
            if (name, layout, str(n)) not in present:
                run.record("scale", [call(counted, target, name, layout, n)])
            progress(done, f"{name}, {layout}, {n} chips")
        flops = {name: call(flops_of_image, name) for name in models}
    rows = sorted(_rows(run), key=lambda row: [row[name] for name in _JOB])
    plans = [
        plan(target, _nearest(rows, name, layout, n), flops[name], n)
        for name, layout in dict.fromkeys((name, layout) for name, layout, _ in jobs)
        for n in CHIPS[target].slices
    ]
    (run.folder / "scale.md").write_text(
        f"{plan_table(target, plans)}\nCounted in the programs of the short models:\n\n"
        f"{compiled_table(rows)}"
    )
    return {"aot": target, "flops_of_image": flops, "plans": plans}


def _nearest(rows: list[dict[str, Any]], name: str, layout: str, chips: int) -> dict[str, Any]:
    """Return the row of a slice, or that of the largest one that was compiled for."""
    own = {row["chips"]: row for row in rows if (row["model"], row["layout"]) == (name, layout)}
    return own.get(chips, own[max(own)])


def _rows(run: Run) -> list[dict[str, Any]]:
    """Return the rows of the table, whole numbers as such."""
    table = read_table(run.table("scale"))
    columns = [
        [int(v) if isinstance(v, float) and v == int(v) else v for v in column.tolist()]
        for column in table.values()
    ]
    return [dict(zip(table, row, strict=True)) for row in zip(*columns, strict=True)]


def scale_summary(results: dict[str, Any]) -> list[str]:
    """Say when batch norm's exchanges cost little."""
    return sentences(results["plans"])
