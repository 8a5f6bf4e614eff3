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


def held(cell: str) -> bool:
    """Tells whether a cell names a test, points at one in its row, or has a reason instead."""
    named = "::" in cell or re.search(r"\bthe (same test|test of linen|test beside)$", cell)
    return bool(named) or bool(re.match(r"- .{8,}", cell))


def test_the_tests_on_the_page_exist():
    assert len(NAMED) > 100
    assert [f"{file}::{test}" for file, test in NAMED if not is_there(file, test)] == []


def test_a_test_that_is_not_there_is_noticed():
    assert not is_there("nnx/test_idioms", "test_a_copy_shares_nothing")
    assert not is_there("nnx/test_nothing", "test_a_copy_shares_no_statistics")


def test_every_cell_names_its_test_or_says_why_there_is_none():
    operations = [row for row in ROWS if row[0] not in ("operation", "---|---|---|---")]
    assert operations and [row for row in operations if len(row) != 4] == []
    assert [cell for row in operations for cell in row[1:] if not held(cell)] == []


def test_a_cell_without_a_test_or_a_reason_is_noticed():
    assert held("`pool`: `stats/test_pool::test_it`") and held("- there is no tree to search")
    assert not held("`use_running_average=True`") and not held("-") and not held("- ")
