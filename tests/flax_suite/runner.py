"""Runs Flax's tests with our classes, in a process of their own, and reads its report."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.version import Version

from tests.conftest import IN_HASTE
from tests.flax_suite.differences import CLASSES, DIFFERENCES, ROUNDING, SELECTION, Difference
from tests.flax_suite.sources import flax_tests

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PYTEST = "-m pytest -q -p swap_plugin -p no:cacheprovider -p no:warnings --import-mode=importlib"


@dataclass(frozen=True)
class Orders:
    """What the plugin is to do."""

    rooms: tuple[str, ...]  # whose classes are replaced, of "linen" and "nnx"
    select: dict[str, str]  # file -> regular expression; a test runs if its source matches
    differences: dict[str, Difference] = field(default_factory=dict)  # test -> why it has to fail
    rounding: dict[str, float] = field(default_factory=dict)  # test -> units of epsilon allowed
    perturbation: float = 0.0  # what is added to all that our core returns
    only: tuple[str, ...] = ()  # if any: the tests to run of the selected files
    classes: tuple[str, ...] = CLASSES


class Report(NamedTuple):
    """What a run of Flax's tests came to."""

    exit_status: int
    outcomes: dict[str, str]  # test -> passed, failed, skipped, xfailed or broken
    messages: dict[str, str]  # failed test -> the end of its traceback
    calls: dict[str, int]  # class -> calls into our core
    idle: list[str]  # classes that made no such call
    unmatched: list[str]  # rows of the tables that no test of this Flax matches
    rounded: int  # comparisons that needed the allowance for rounding

    def having(self, outcome: str) -> list[str]:
        """Returns the tests with an outcome."""
        return [test for test, came in self.outcomes.items() if came == outcome]

    def summary(self) -> str:
        """Returns the outcomes and the calls in one line each."""
        counts = Counter(self.outcomes.values())
        outcomes = ", ".join(f"{counts[name]} {name}" for name in sorted(counts))
        return f"tests: {outcomes}\ncalls into our core: {self.calls}"

    def problems(self) -> list[str]:
        """Returns what keeps this run from being a success, one entry each."""
        found = [f"{test} failed:\n{self.messages[test]}" for test in self.having("failed")]
        found += [f"{name} made no call into our core" for name in self.idle]
        found += [f"no test of this Flax matches the row {row}" for row in self.unmatched]
        return found


def run(orders: Orders) -> Report:
    """Runs the tests of Flax that the orders name and returns what came of it."""
    tests = flax_tests()
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        places = orders.only or orders.select
        done = subprocess.run(
            [sys.executable, *PYTEST.split(), "-c", os.devnull, "--rootdir", str(tests)]
            + [str(tests / place) for place in places],
            cwd=scratch,
            env=environment({**asdict(orders), "report": str(report)}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
        )
        if not report.exists():
            raise RuntimeError(f"the run of Flax's tests broke off:\n{done.stdout}\n{done.stderr}")
        return Report(done.returncode, **json.loads(report.read_text()))


def run_room(room: str) -> Report:
    """Runs all that concerns a room, and notes as broken what fails with Flax's own classes too."""
    select = SELECTION[room]
    installed = Version(metadata.version("flax"))
    rows = DIFFERENCES[room].items()
    meant = {test: row for test, row in rows if Version(row.since) <= installed}
    report = run(Orders((room,), select, meant, ROUNDING[room]))
    failed = tuple(report.having("failed"))
    if failed:
        untouched = run(Orders((), select, only=failed))
        report.outcomes.update(dict.fromkeys(untouched.having("failed"), "broken"))
    return report


def environment(orders: dict) -> dict[str, str]:
    """Returns the variables for a run: those of this process, less what our own tests set.

    One device, as Flax runs them, and as little of the compiler's work as in our own tests.
    """
    ours = ("PYTEST_", "JAX_ENABLE_X64")
    variables = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    variables["XLA_FLAGS"] = IN_HASTE
    variables["FLAX_SWAP"] = json.dumps(orders)
    variables["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    inherited = variables.get("PYTHONPATH")
    paths = [str(HERE), str(ROOT), *([inherited] if inherited else [])]
    variables["PYTHONPATH"] = os.pathsep.join(paths)
    return variables
