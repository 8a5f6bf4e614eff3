"""What the tests of the experiments share: a run in a folder of its own, and no network."""

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from experiments._run import Run


@pytest.fixture(scope="session")
def run_smoke(tmp_path_factory) -> Callable[[Any], tuple[Path, dict[str, Any]]]:
    """Returns a function that runs a module's smoke preset: (its folder, its results)."""

    def smoke(experiment: Any) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path_factory.mktemp(experiment.__name__.rsplit(".")[-1])
        with Run(folder, folder, resume=False, console=Console(quiet=True)) as run:
            return folder, experiment.run(experiment.PRESETS["smoke"], run)

    return smoke


@pytest.fixture
def no_network(monkeypatch):
    """Lets every download fail at once."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
