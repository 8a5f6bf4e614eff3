"""The trainer: points, rows and states of a training that is whole, cut off, or goes on."""

import signal
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest
from rich.console import Console

from experiments._run import Run
from experiments._trainer import Measured, Point, train


class Cut(Exception):
    """Stands for a kill."""


def trained(
    folder: Path,
    *,
    resume: bool = False,
    cut_at: int | None = None,
    signal_at: int | None = None,
    **options: Any,
) -> Any:
    """Trains a number that grows by its step; returns the last number and how often it grew."""
    grown = []

    def advance(state: Any) -> tuple[Any, dict[str, Any]]:
        grown.append(1)
        if len(grown) == signal_at:
            signal.raise_signal(signal.SIGTERM)
        return {"x": state["x"] * 2 + 1}, {"x": state["x"]}

    def measure(point: Point) -> Measured:
        if point.step == cut_at:
            raise Cut
        return Measured({"curves": [{"x": point.state["x"], "fresh": int(not point.metrics)}]})

    folder.mkdir(exist_ok=True)
    console = Console(quiet=True)
    with Run(folder, folder, resume=resume, console=console, save_every_s=0) as run:
        settings = {"points": [2, 4, 8], "where": {"seed": 0}, **options}
        state = train(run, "one", lambda: {"x": jnp.ones(())}, advance, measure, **settings)
    return float(state["x"]), len(grown)


def rows(folder: Path) -> list[str]:
    return (folder / "curves.csv").read_text().splitlines()


def test_a_row_per_point_and_the_state_of_the_last(tmp_path):
    assert trained(tmp_path) == (2.0**9 - 1, 8)
    assert rows(tmp_path) == ["seed,step,x,fresh", "0,2,7.0,0", "0,4,31.0,0", "0,8,511.0,0"]


@pytest.mark.parametrize("cut_at", [2, 4, 8])
@pytest.mark.sampled(2)
def test_a_training_that_is_cut_off_and_resumed_is_the_whole_one(tmp_path, cut_at):
    whole = trained(tmp_path / "whole")
    folder = tmp_path / "cut"
    with pytest.raises(Cut):
        trained(folder, cut_at=cut_at)
    value, grown = trained(folder, resume=True)
    assert value == whole[0]
    assert grown == {2: 8, 4: 6, 8: 4}[cut_at]
    assert rows(folder) == rows(tmp_path / "whole")


@pytest.mark.parametrize("signal_at", [1, 5, 8])
@pytest.mark.sampled(2)
def test_sigterm_saves_where_the_training_is_and_not_one_step_is_taken_twice(tmp_path, signal_at):
    whole = trained(tmp_path / "whole")
    folder = tmp_path / "ended"
    with pytest.raises(SystemExit, match="143"):
        trained(folder, signal_at=signal_at)
    assert trained(folder, resume=True) == (whole[0], 8 - signal_at)
    assert rows(folder) == rows(tmp_path / "whole")


def test_rows_after_the_last_checkpoint_are_measured_again_and_others_stay(tmp_path):
    trained(tmp_path, points=[2])
    with (tmp_path / "curves.csv").open("a") as file:
        file.write("0,4,99.0,0\n1,4,5.0,0\n0,8,")  # the last line is cut off
    trained(tmp_path, resume=True)
    assert rows(tmp_path)[1:] == ["0,2,7.0,0", "1,4,5.0,0", "0,4,31.0,0", "0,8,511.0,0"]


def test_a_training_that_has_ended_gives_its_last_state_back(tmp_path):
    first = trained(tmp_path)
    assert trained(tmp_path, resume=True) == (first[0], 0)
    assert len(rows(tmp_path)) == 4


def test_the_start_is_a_point_and_training_begins_where_the_state_is(tmp_path):
    value, grown = trained(tmp_path, points=[10, 14], begin=10, steps=2)
    assert (value, grown) == (7.0, 2)
    assert rows(tmp_path)[1:] == ["0,10,1.0,1", "0,14,7.0,0"]


def test_a_table_whose_first_line_is_cut_off_is_written_anew(tmp_path):
    (tmp_path / "curves.csv").write_text("seed,st")
    trained(tmp_path, resume=True)
    assert len(rows(tmp_path)) == 4


def test_columns_may_come_in_the_order_of_the_file(tmp_path):
    (tmp_path / "curves.csv").write_text("x,seed,step,fresh\n1.0,7,1,0\n")
    trained(tmp_path)
    assert rows(tmp_path)[:3] == ["x,seed,step,fresh", "1.0,7,1,0", "7.0,0,2,0"]
