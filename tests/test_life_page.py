"""The page of the life of statistics names tests that exist, and leaves no cell empty."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/life.md").read_text("utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
NAMED = re.findall(r"`(\w+/\w+)::(test_\w+)`", PAGE)


def is_there(file: str, test: str) -> bool:
    """Tells whether a test file has a test of a name."""
    path = ROOT / "tests" / f"{file}.py"
    return path.is_file() and f"\ndef {test}(" in path.read_text("utf-8")


def test_the_tests_on_the_page_exist():
    assert len(NAMED) > 100
    assert [f"{file}::{test}" for file, test in NAMED if not is_there(file, test)] == []


def test_a_test_that_is_not_there_is_noticed():
    assert not is_there("nnx/test_idioms", "test_a_copy_shares_nothing")
    assert not is_there("nnx/test_nothing", "test_a_copy_shares_no_statistics")


def test_every_cell_says_how_or_why_not():
    assert ROWS and [row for row in ROWS if len(row) != 4 or not all(row)] == []
    silent = [row for row in ROWS if any(cell.strip() == "-" for cell in row)]
    assert silent == []
