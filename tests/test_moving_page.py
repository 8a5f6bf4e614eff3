"""The code of docs/moving.md runs, where the frameworks that it shows are installed."""

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
