"""The history of the benchmark: what is kept of a run, and the page of all runs."""

import json
from pathlib import Path

import pytest

from experiments._run import RunError
from experiments.bench import history

ROOT = Path(__file__).parents[2]
ABOUT = {
    "experiment": "bench",
    "command": "python -m experiments bench",
    "hardware": "a machine",
    "versions": {"jax": "0.0.1"},
    "results": {"copy_gigabytes_per_second": 20.004},
}


def a_run(folder: Path, times: dict[str, float], **about: object) -> Path:
    (folder / "run.json").write_text(json.dumps({**ABOUT, **about}))
    head = "member,shape,dtype,direction,library,milliseconds\n"
    lines = [
        f"layer,8x64,float32,{each},{name},{t}\n"
        for each in ("forward", "both")
        for name, t in times.items()
    ]
    (folder / "bench.csv").write_text(head + "".join(lines))
    return folder


def test_an_entry_keeps_the_fastest_variant_of_each_library(tmp_path):
    times = {"flax.linen": 3.0, "torch": 9.0, "torch (nhwc)": 2.0, "jaxnorm (xla)": 1.5}
    run = a_run(tmp_path, {**times, "jaxnorm": 1.0, "equinox": 7.0})
    kept = history.entry(run, commit="abc1234", at="2026-01-02T03:04:05+00:00")
    assert kept["milliseconds"]["layer 8x64 float32 both"] == {
        "flax.linen": 3.0,
        "jaxnorm": 1.0,
        "jaxnorm (xla)": 1.5,
        "torch": 2.0,
    }
    assert (kept["commit"], kept["hardware"]) == ("abc1234", "a machine")


def test_files_sort_by_time_whatever_the_zone(tmp_path):
    run = a_run(tmp_path, {"flax.linen": 3.0, "jaxnorm": 1.0})
    times = ("2026-01-02T01:00:00+02:00", "2026-01-01T23:30:00+00:00")
    for commit, at in zip("ba", times, strict=True):
        history.keep(history.entry(run, commit=commit, at=at), tmp_path / "history")
    assert [each["commit"] for each in history.read(tmp_path / "history")] == ["b", "a"]


def test_a_run_that_ended_early_is_refused(tmp_path):
    run = a_run(tmp_path, {"flax.linen": 3.0}, results=None)
    with pytest.raises(RunError, match="no complete run of bench"):
        history.entry(run, commit="a", at="2026-01-01T00:00:00+00:00")


def test_speeds_are_over_the_cases_that_all_runs_have(tmp_path):
    first = {"milliseconds": {"a": {"flax.linen": 8.0, "jaxnorm": 2.0}, "b": {"flax.linen": 1.0}}}
    second = {"milliseconds": {"a": {"flax.linen": 1.0, "jaxnorm": 2.0}}}
    cases = history.common_cases([first, second])
    assert cases == ["a"]
    assert [history.speed(run, cases) for run in (first, second)] == pytest.approx([4.0, 0.5])


def test_the_page_of_the_documentation_is_that_of_the_kept_runs():
    kept = history.read(ROOT / history.HISTORY)
    assert (ROOT / history.PAGE).read_text("utf-8") == history.page(kept)


@pytest.mark.slow
def test_the_figure_is_drawn(tmp_path):
    kept = history.read(ROOT / history.HISTORY)
    assert history.draw(kept, tmp_path / "history.png").stat().st_size > 10_000
