"""The command line: the list, the refusals before any work, figures and ledger from files."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from experiments import _registry
from experiments.__main__ import main

ROOT = Path(__file__).parents[2]


def test_the_list_names_every_experiment(capsys):
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert [row.name for row in _registry.ROWS if row.name not in listed] == []


@pytest.mark.parametrize("row", _registry.ROWS, ids=lambda row: row.name)
def test_an_experiment_has_at_least_three_presets_and_says_its_command(row):
    module = _registry.load(row)
    assert set(module.PRESETS) == set(row.presets) >= {"smoke", "default", "paper"}
    doc = type(module.PRESETS["default"]).__doc__ or ""
    assert f"python -m experiments {row.name}" in doc
    assert "Expected:" in doc


@pytest.mark.parametrize("row", _registry.ROWS, ids=lambda row: row.name)
def test_the_time_of_a_preset_stands_in_the_list_alone(row):
    doc = type(_registry.load(row).PRESETS["default"]).__doc__ or ""
    assert re.findall(r"[Tt]ime on|(?:smoke|default|paper) (?:about )?\d+ (?:s|min|h)\b", doc) == []


@pytest.mark.parametrize("row", _registry.ROWS, ids=lambda row: row.name)
def test_the_time_of_a_kept_preset_is_that_of_the_kept_run(row):
    kept = ROOT / "experiments/results" / row.name / "run.json"
    if not kept.exists():
        pytest.skip("no run is kept yet")
    report = json.loads(kept.read_text())
    preset = _registry.load(row).PRESETS[report["preset"]]
    if report["config"] != json.loads(json.dumps(dataclasses.asdict(preset))):
        pytest.skip("the kept run has other options than its preset")
    told, unit = row.presets[report["preset"]].split(",")[0].split()
    seconds = float(told) * {"s": 1, "min": 60}[unit]
    # Minutes are rounded. A run does not count the seconds that starting up takes.
    assert abs(seconds - report["seconds"]) <= (30 if unit == "min" else 5)


def test_the_help_gives_the_times_of_the_list(capsys):
    with pytest.raises(SystemExit):
        main(["scaling", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    told = _registry.find("scaling").presets
    assert "; ".join(f"{name} {words}" for name, words in told.items()) in said


def test_a_preset_that_an_experiment_does_not_have_is_refused(capsys):
    assert main(["numpy_parity", "--preset", "tiny"]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "numpy_parity has no preset 'tiny'; there are smoke, default, paper" in said


def test_a_run_leaves_its_configuration_versions_results_and_picture(tmp_path):
    out = tmp_path / "run"
    assert main(["numpy_parity", "--out", str(out), "--batch", "7"]) == 0
    report = json.loads((out / "run.json").read_text())
    assert report["config"] == {"batch": 7}
    assert report["results"]["images"] == 7
    assert {"jax", "flax", "numpy", "jaxnorm", "python"} <= set(report["versions"])
    assert (out / "numpy_parity.png").read_bytes().startswith(b"\x89PNG")


def test_figures_are_made_again_from_the_files(tmp_path):
    main(["numpy_parity", "--out", str(tmp_path)])
    first = (tmp_path / "numpy_parity.png").read_bytes()
    (tmp_path / "numpy_parity.png").unlink()
    assert main(["figures", str(tmp_path)]) == 0
    assert (tmp_path / "numpy_parity.png").read_bytes() == first


def test_a_folder_with_a_run_is_not_overwritten(tmp_path, capsys):
    main(["numpy_parity", "--out", str(tmp_path)])
    before = (tmp_path / "run.json").read_bytes()
    assert main(["numpy_parity", "--out", str(tmp_path)]) == 2
    assert "--resume" in capsys.readouterr().out
    assert (tmp_path / "run.json").read_bytes() == before


def test_resuming_with_other_options_is_refused(tmp_path, capsys):
    main(["numpy_parity", "--out", str(tmp_path)])
    assert main(["numpy_parity", "--out", str(tmp_path), "--resume", "--batch", "3"]) == 2
    assert "batch was 10 and is 3" in " ".join(capsys.readouterr().out.split())


def test_a_folder_that_cannot_be_written_is_named_before_any_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["activations", "--out", str(tmp_path / "file" / "run")]) == 2
    assert "cannot be written" in " ".join(capsys.readouterr().out.split())


def test_a_full_disk_is_an_error_before_any_work(tmp_path, capsys, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert main(["activations", "--out", str(tmp_path / "run")]) == 2
    assert "1 MB free" in " ".join(capsys.readouterr().out.split())


def test_an_unknown_experiment_names_those_that_exist(capsys):
    assert main(["quickstrat"]) == 2
    assert "quickstart" in capsys.readouterr().out
