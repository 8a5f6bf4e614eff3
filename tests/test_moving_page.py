"""The code of docs/moving.md runs, where the frameworks that it shows are installed."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

from tests.test_readme import python_blocks

PAGE = Path(__file__).parents[1] / "docs/moving.md"
BLOCKS = python_blocks(PAGE.read_text("utf-8"))
FRAMEWORKS = ("torch", "haiku", "equinox", "keras")


def imported(code: str) -> list[str]:
    """Returns the frameworks that a block imports."""
    return [name for name in FRAMEWORKS if re.search(rf"^import {name}\b", code, re.MULTILINE)]


@pytest.mark.parametrize(("line", "code"), BLOCKS, ids=[f"line{line}" for line, _ in BLOCKS])
@pytest.mark.sampled(4)
def test_a_snippet_runs_and_prints_what_the_page_shows(line, code, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    for name in imported(code):
        pytest.importorskip(name, reason="needs the extra `parity`")
    exec(compile("\n" * (line - 1) + code, str(PAGE), "exec"), {"__name__": f"moving_{line}"})
    printed = capsys.readouterr().out
    assert printed in PAGE.read_text("utf-8")


def test_there_is_a_snippet_for_each_framework():
    shown = [name for _, code in BLOCKS for name in imported(code)]
    assert sorted(shown) == sorted(FRAMEWORKS)


# The columns of the table of defaults, and where each framework has its norms.
HOMES = {
    "PyTorch": "torch.nn",
    "Haiku": "haiku",
    "Equinox": "equinox.nn",
    "Keras": "keras.layers",
    "here": "jaxnorm.linen",
}
CLASSES = {
    "batch norm": ("BatchNorm", "BatchNorm1d", "BatchNormalization"),
    "layer norm": ("LayerNorm", "LayerNormalization"),
    "RMS norm": ("RMSNorm", "RMSNormalization"),
}


def defaults_on_the_page(option: str) -> dict[str, list[str]]:
    """Returns the cells of the rows of the table that are about an option, by norm."""
    lines = [line.strip("| ").split(" | ") for line in PAGE.read_text("utf-8").splitlines()]
    return {row[0].split(":")[0]: row[1:] for row in lines if row[0].endswith(f": {option}")}


@pytest.mark.parametrize("framework", HOMES)
def test_the_epsilons_on_the_page_are_the_defaults_of_the_framework(framework, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    pytest.importorskip(HOMES[framework].split(".")[0], reason="needs the extra `parity`")
    home = importlib.import_module(HOMES[framework])
    rows = defaults_on_the_page("epsilon by default")
    assert rows.keys() == CLASSES.keys()
    for norm, cells in rows.items():
        cls = next(getattr(home, name) for name in CLASSES[norm] if hasattr(home, name))
        options = inspect.signature(cls).parameters
        default = options["eps" if "eps" in options else "epsilon"].default
        cell = cells[[*HOMES].index(framework)]
        assert cell == "that of the dtype" if default is None else float(cell) == default
