"""A benchmark that is cut off goes on where it was, and has every row once."""

import contextlib
import itertools

import pytest
from rich.console import Console

from experiments import bench
from experiments._run import Run
from experiments._tables import drop_last_group

LIBRARIES = ("flax.linen", "jaxnorm")


class Cut(Exception):
    """Stands for a kill."""


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Returns a function that runs the benchmark with a fake clock, until a case is cut off."""
    seen = []

    def rows(config, case, dtype, direction, bandwidth, torch):
        if len(seen) == cut["at"]:
            raise Cut
        seen.append((case.label, dtype, direction))
        about = {"member": case.member, "shape": case.size, "dtype": dtype, "direction": direction}
        facts = dict.fromkeys(("times_best_rival", "times_floor", "residual_bytes"), 1.0)
        facts |= dict.fromkeys(("peak_bytes", "error", "milliseconds"), 1.0)
        return [{**about, "library": library, **facts} for library in LIBRARIES]

    cut = {}
    monkeypatch.setattr(bench, "_rows", rows)
    monkeypatch.setattr(bench, "copy_bandwidth", lambda size, rounds: 1e9)
    config = bench.Config(sizes="tiny", steps=False, torch=False)

    def run(*, resume, cut_at=None):
        seen.clear()
        cut["at"] = cut_at
        with (
            Run(tmp_path, tmp_path, resume=resume, console=Console(quiet=True)) as running,
            contextlib.suppress(Cut),
        ):
            bench.run(config, running)
        return list(seen), (tmp_path / "bench.csv").read_text()

    return run


def test_a_resumed_benchmark_has_every_row_once_and_measures_the_last_case_again(measured):
    whole, table = measured(resume=False)
    assert len(table.splitlines()) == 1 + len(whole) * len(LIBRARIES)
    again, same = measured(resume=True)
    assert (again, same) == (whole[-1:], table)


@pytest.mark.parametrize("cut_at", [1, 3])
def test_a_benchmark_that_is_cut_off_goes_on(measured, cut_at, tmp_path):
    measured(resume=False, cut_at=cut_at)
    with (tmp_path / "bench.csv").open("a") as file:
        file.write("layer,8x64,floa")  # the last line is cut off
    rest, table = measured(resume=True)
    assert len(rest) == 8 - (cut_at - 1)
    keys = [tuple(line.split(",")[:5]) for line in table.splitlines()[1:]]
    wanted = itertools.product(
        [("layer", "8x64"), ("batch", "8x64")], ("float32", "bfloat16"), bench.PASSES, LIBRARIES
    )
    assert keys == [(*case, *rest) for case, *rest in wanted]


def test_a_table_without_its_first_line_begins_anew(tmp_path):
    path = tmp_path / "bench.csv"
    assert drop_last_group(path, ("member",)) == set()
    path.write_text("member,sha")
    assert drop_last_group(path, ("member",)) == set()
    assert not path.exists()
