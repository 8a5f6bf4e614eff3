"""Runs Flax's tests with our classes, in a process of their own, and reads its report."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tests.flax_suite import differences
from tests.flax_suite.sources import flax_tests

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Report(NamedTuple):
    """What a run of Flax's tests came to."""

    exit_status: int
    outcomes: dict[str, str]  # test -> passed, failed, skipped or xfailed
    messages: dict[str, str]  # failed test -> the end of its traceback
    calls: dict[str, int]  # class -> calls into our core
    idle: list[str]  # classes that made no such call
    unmatched: list[str]  # rows of the tables that no test of this Flax matches
    rounded: dict[str, int]  # row of the rounding table -> comparisons that needed it

    def summary(self) -> str:
        """Returns the outcomes and the calls in one line each."""
        counts = Counter(self.outcomes.values())
        outcomes = ", ".join(f"{counts[name]} {name}" for name in sorted(counts))
        return f"tests: {outcomes}\ncalls into our core: {self.calls}"

    def problems(self) -> list[str]:
        """Returns what keeps this run from being a success, one line each."""
        found = [
            f"{test} failed:\n{self.messages.get(test, '')}"
            for test, outcome in self.outcomes.items()
            if outcome == "failed"
        ]
        found += [f"{name} made no call into our core" for name in self.idle]
        found += [f"no test of this Flax matches the row {row}" for row in self.unmatched]
        found += [
            f"nothing needs the allowance of {row}" for row, n in self.rounded.items() if not n
        ]
        if self.exit_status and not found:
            found.append(f"pytest exited with {self.exit_status}")
        return found


def run(
    rooms: tuple[str, ...],
    select: dict[str, str] | None = None,
    *,
    meant: dict[str, str] | None = None,
    rounding: dict[str, float] | None = None,
    perturbation: float = 0.0,
) -> Report:
    """Runs Flax's tests with our classes in the place of Flax's and returns what came of it.

    Args:
        rooms: which classes are replaced, of "linen" and "nnx".
        select: file -> regular expression of the tests to run; the rooms' selections by default.
        meant: test -> reason for those that have to fail; the rooms' tables by default.
        rounding: test -> units of epsilon allowed; by default the table of a room swapped alone.
        perturbation: what is added to all that our core returns.
    """
    alone = len(rooms) == 1
    orders = {
        "rooms": rooms,
        "classes": differences.CLASSES,
        "select": merged(differences.SELECTION, rooms) if select is None else select,
        "differences": merged(differences.DIFFERENCES, rooms) if meant is None else meant,
        "rounding": (merged(differences.ROUNDING, rooms) if alone else {})
        if rounding is None
        else rounding,
        "perturbation": perturbation,
    }
    tests = flax_tests()
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "swap_plugin",
            "-p",
            "no:cacheprovider",
        ]
        command += ["-p", "no:warnings", "--import-mode=importlib", "-c", os.devnull]
        command += ["--rootdir", str(tests), *(str(tests / file) for file in orders["select"])]
        done = subprocess.run(
            command,
            cwd=scratch,
            env=environment({**orders, "report": str(report)}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
        )
        if not report.exists():
            raise RuntimeError(f"the run of Flax's tests broke off:\n{done.stdout}\n{done.stderr}")
        return Report(done.returncode, **json.loads(report.read_text()))


def merged(table: dict[str, dict], rooms: tuple[str, ...]) -> dict:
    """Returns the rows of several rooms as one table."""
    return {key: value for room in rooms for key, value in table[room].items()}


def environment(orders: dict) -> dict[str, str]:
    """Returns the variables for a run: those of this process, less what our own tests set."""
    ours = ("PYTEST_", "XLA_FLAGS", "JAX_ENABLE_X64")
    variables = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    variables["FLAX_SWAP"] = json.dumps(orders)
    variables["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    inherited = variables.get("PYTHONPATH")
    paths = [str(HERE), str(ROOT), *([inherited] if inherited else [])]
    variables["PYTHONPATH"] = os.pathsep.join(paths)
    return variables
