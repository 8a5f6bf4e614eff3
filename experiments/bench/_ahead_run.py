"""The runs that compile for a chip that need not be there, and time nothing."""

from typing import Any

from .._run import Run, RunError
from ._ahead import TARGETS, compiler, why_not
from ._ahead_table import collectives, counted, errors, functions, table
from ._cases import PASSES, Case
from ._registers import count_registers
from ._scale import CHIPS
from ._scale_run import at_scale


def ahead(config: Any, cases: tuple[Case, ...], run: Run) -> dict[str, Any]:
    """Count what is compiled for a chip. The table `ahead` has a row per case and library."""
    known = {"programs": TARGETS, "registers": ("h100",), "scale": CHIPS}
    if config.count not in known:
        raise RunError(f"count={config.count!r} is unknown; use one of {sorted(known)}")
    if config.aot not in known[config.count]:
        raise RunError(f"aot={config.aot!r} is unknown; use one of {sorted(known[config.count])}")
    if (reason := why_not(config.aot)) is not None:
        raise RunError(reason)
    if config.count == "scale":
        return at_scale(config.aot, config.models, config.chips, run)
    if config.count == "registers":
        return count_registers(config.dtypes, run)
    rows: list[dict[str, Any]] = []
    jobs = [
        (case, dtype, name) for case in cases for dtype in config.dtypes for name in functions(case)
    ]
    with (
        compiler(config.aot) as call,
        run.progress("ahead", len(jobs), "programs") as progress,
    ):
        for done, (case, dtype, name) in enumerate(jobs):
            found = errors(config.aot, case, name)
            for direction in PASSES:
                about = {"case": case.label, "dtype": dtype, "direction": direction}
                asked = (config.aot, case, dtype, direction, name)
                counts = call(counted, *asked)._replace(collectives=call(collectives, *asked))
                rows.append({**about, "library": name, **counts._asdict(), **found})
            progress(done + 1, case.label)
    run.replace("ahead", rows)
    (run.folder / "ahead.md").write_text(table(rows))
    return {
        "aot": config.aot,
        "programs": {
            f"{row['case']} {row['dtype']} {row['direction']} {row['library']}": row["programs"]
            for row in rows
        },
        "conditionals": sum(row["conditionals"] for row in rows if row["library"] == "jaxnorm"),
    }


def ahead_summary(results: dict[str, Any]) -> list[str]:
    """Say the programs of each normalizer beside those of Flax and of two passes."""
    programs = results["programs"]
    ours = {k.removesuffix(" jaxnorm"): n for k, n in programs.items() if k.endswith(" jaxnorm")}
    lines = [
        f"{key}: {n} programs on {results['aot']}, flax.linen "
        f"{programs.get(f'{key} flax.linen', 'none')}, two passes {programs[f'{key} two passes']}."
        for key, n in ours.items()
    ]
    return [*lines, f"Branches on the data in jaxnorm's programs: {results['conditionals']}."]
