"""The pages say what the kept runs hold, in the same form everywhere."""

import re
from pathlib import Path

import pytest

from experiments._ledger import ledger
from experiments._tables import read_table
from experiments.bench._report import against_flax, steps_table, time

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "experiments/results"
LEDGER = (ROOT / "docs/ledger.md").read_text("utf-8")


def test_the_ledger_is_that_of_the_kept_runs():
    assert ledger(KEPT, ROOT / "docs") == LEDGER, "run `python -m experiments ledger`"


def test_every_row_says_first_whether_it_shows():
    verdicts = re.findall(r"^\| \[[^|]*\| ([^|]*) \|", LEDGER, re.MULTILINE)
    said = r"\*\*(Shown|Shown in part|Not shown at this size|A measurement)\.\*\* "
    assert len(verdicts) == LEDGER.count("\n## ")
    assert [verdict for verdict in verdicts if not re.match(said, verdict)] == []


def test_an_accuracy_is_in_percent_with_one_digit():
    measured = "\n".join(line for line in LEDGER.splitlines() if line.startswith("- "))
    assert re.findall(r"accuracy[^.;)\d]* 0\.\d{3}.*", measured) == []
    assert re.findall(r"accuracy[^.;]* \d+\.\d\d+%.*", measured) == []


def test_the_page_on_speed_has_the_tables_of_the_kept_run():
    page = (ROOT / "docs/performance.md").read_text("utf-8")
    assert against_flax(read_table(KEPT / "bench/bench.csv")) in page
    assert steps_table(read_table(KEPT / "bench/steps.csv")) in page


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [(1059.8, "1060"), (999.7, "1000"), (203.4, "203"), (0.00865, "0.00865"), (float("nan"), "-")],
)
def test_a_time_has_three_digits_and_no_power_of_ten(milliseconds, words):
    assert time(milliseconds) == words
