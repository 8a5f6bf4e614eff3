"""The league: who takes part and why not, what is measured, and a run that is cut off."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments import league
from experiments._run import Run
from jaxnorm import linen

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(league)


def test_a_row_per_training_and_a_column_per_contest(smoke):
    folder, results = smoke
    config = league.PRESETS["smoke"]
    rows = league.read_measurements(folder / "measurements.jsonl")
    # Two norms and none in images; all but instance norm in text.
    assert len(rows) == (3 + 2) * len(config.seeds)
    for row in rows:
        assert np.isfinite(row["loss"])
        assert 0 <= row["accuracy"] <= 1
        assert row["seconds_per_step"] > 0
        assert row["kept_bytes"] > 4 * row["parameters"] / 2
    assert json.loads((folder / "league.json").read_text()) == results["members"]
    assert (folder / "league.csv").read_text().count("\n") == 1 + 3


def test_a_member_is_left_out_with_its_reason(smoke):
    left_out = smoke[1]["left_out"]
    assert left_out["instance_norm"] == {
        "text": "in evaluation, the output of a position depends on later positions"
    }
    assert "depends on other examples" in left_out["pair_norm"]["images"]
    assert left_out["film"]["text"] == "norm 'film' needs condition"


def test_a_run_that_is_cut_off_trains_only_what_is_missing(smoke, tmp_path, monkeypatch):
    source = (smoke[0] / "measurements.jsonl").read_text().splitlines(keepends=True)
    # The file ends within its last line.
    (tmp_path / "measurements.jsonl").write_text("".join(source)[:-9])
    trained = []
    original = league._trainer

    def counted(task, *norms):
        trained.append(task.name)
        return original(task, *norms)

    monkeypatch.setattr(league, "_trainer", counted)
    with Run(tmp_path, tmp_path, resume=True, console=Console(quiet=True)) as run:
        league.run(league.PRESETS["smoke"], run)
    assert trained == ["text"]
    again = league.read_measurements(tmp_path / "measurements.jsonl")
    keys = [league.key_of(row) for row in league.read_measurements(smoke[0] / "measurements.jsonl")]
    assert [league.key_of(row) for row in again] == keys
    last = json.loads(source[-1])
    assert again[-1]["loss"] == last["loss"], "a seed gives the same training"


def test_the_figure_is_drawn(smoke):
    assert league.figures(smoke[0])[0].stat().st_size > 10_000


def test_kept_bytes_are_those_of_the_arrays_that_the_derivative_needs():
    x = jnp.ones((5, 3))

    def loss(w, x):
        hidden = jnp.tanh(x @ w)
        return hidden.sum(), None

    # The input for the kernel's gradient, and 1 - tanh^2 or tanh for the activation's.
    assert league.kept_bytes(loss, jnp.ones((3, 4)), x) >= x.nbytes + 4 * 20


def test_means_are_absent_where_a_seed_has_none():
    common = {"member": "a", "batch_size": 4, "accuracy": 0.5, "kept_bytes": 8}
    rows = [
        {**common, "task": "text", "seed": seed, "loss": loss, "diverged": loss is None,
         "seconds_per_step": 1e-6 * (seed + 1)}
        for seed, loss in enumerate([1.0, None, 3.0])
    ]  # fmt: skip
    (row,) = league.table_of(rows)
    assert row["text_4_loss"] is None
    assert row["text_4_us_per_step"] == 2.0
    assert row["text_4_diverged"] == pytest.approx(1 / 3, abs=1e-4)


def test_the_summary_names_the_best_and_those_left_out():
    results = {
        "members": [
            {"member": "none", "images_2_accuracy": 0.5, "images_2_diverged": 0.0},
            {"member": "a", "images_2_accuracy": 0.7, "images_2_diverged": 0.5},
            {"member": "b", "images_2_accuracy": None, "images_2_diverged": 1.0},
        ],
        "left_out": {"film": {"images": "needs condition", "text": "needs condition"}},
    }
    images, film = league.summary(results)
    assert images == (
        "images at a batch size of 2, accuracy: best of 2 a 70.0%, none 50.0%; none 50.0%; "
        "diverged for some seed: a, b."
    )
    assert film == "film is left out of images and text: needs condition."


def test_a_later_position_is_seen_through_statistics_over_positions():
    x = jax.random.normal(jax.random.key(0), (2, 6, 4))
    changed = x.at[:, -1].multiply(-3.0)
    for name, expected in (("layer_norm", False), ("instance_norm", True), ("batch_norm", False)):
        norm, _ = league.norms_of(name)
        assert league._reaches(norm, x, changed, (slice(0, 2), 0)) is expected


def test_a_file_that_is_absent_has_no_measurements(tmp_path: Path):
    assert league.read_measurements(tmp_path / "measurements.jsonl") == []


def test_running_statistics_forget_within_a_training_where_a_member_has_some():
    assert league.norms_of("batch_norm", 0.9)[0].keywords == {"momentum": 0.9}
    assert league.norms_of("ghost_batch_norm", 0.9)[0].keywords["decay"] == 0.9
    assert league.norms_of("layer_norm", 0.9)[0] is linen.LayerNorm
