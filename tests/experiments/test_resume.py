"""Every experiment is killed on its way, and resumed to the same tables and the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments import _registry
from experiments.__main__ import main

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# What makes the smoke preset smaller still; one seed where the number of seeds adds nothing.
OPTIONS = {
    "activations": "--steps 600 --seeds 0 1",
    "adaptation": "--seeds 0 1",
    "cifar": "--epochs 2",
    "gan": "--norms none batch",
    "inception": "--models Inception BN-x5",
    "initialization": "--epochs 4",
    "league": "--members instance_norm weight_norm",
    "optimizers": "--steps 100 --seeds 0",
    "overfitting": "--epochs 20",
    "quickstart": "--norms none batch",
    "recurrent": "--epochs 4",
    "regularization": "--epochs 8",
    "saturation": "--steps 40",
    "scaling": "--steps 2000",
    "search": "--scan-rates 4 --seeds 0",
}
TIMES = ("seconds", "_s", "speedup", "us_per_step")


def command(name: str, out: Path, *options: str) -> list[str]:
    own = OPTIONS.get(name, "").split()
    return [name, "--preset", "smoke", "--out", str(out), "--save-every-s", "0", *own, *options]


def written(folder: Path) -> int:
    """Returns how many bytes of rows there are."""
    tables = [*folder.glob("*.csv"), *folder.glob("*.jsonl")]
    return sum(path.stat().st_size for path in tables)


def kill_half_way(name: str, out: Path, rows: int) -> None:
    """Kills a run that has written half of its rows, or that is done if it writes them once."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments", *command(name, out)],
        cwd=out.parent,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and written(out) < rows / 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not k.endswith(TIMES)}
        return {name: without_times(entry) for name, entry in kept.items()}
    return [without_times(entry) for entry in value] if isinstance(value, list) else value


def tables(folder: Path) -> dict[str, list[str]]:
    """Returns the lines of each table. The league's table holds times, its results the rest."""
    found = {path.name: path.read_text().splitlines() for path in folder.glob("*.csv")}
    found.pop("league.csv", None)
    return found


def parameters(folder: Path) -> dict[str, np.ndarray]:
    arrays = {}
    for path in sorted((folder / "checkpoints").rglob("default")):
        restored = ocp.StandardCheckpointer().restore(path.resolve())
        where = path.relative_to(folder)
        arrays |= {f"{where}{name}": np.asarray(array) for name, array in restored.items()}
    return arrays


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", [row.name for row in _registry.ROWS if "bench" not in row.name])
def test_killing_and_resuming_gives_the_same_tables_results_and_bits(name, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(command(name, whole)) == 0
    kill_half_way(name, killed, written(whole))
    assert main(command(name, killed, "--resume")) == 0
    assert tables(killed) == tables(whole)
    ours, theirs = (
        without_times(json.loads((folder / "run.json").read_text())["results"])
        for folder in (killed, whole)
    )
    assert ours == theirs
    ours, theirs = parameters(killed), parameters(whole)
    assert list(ours) == list(theirs)
    for array, bits in theirs.items():
        np.testing.assert_array_equal(ours[array], bits)
