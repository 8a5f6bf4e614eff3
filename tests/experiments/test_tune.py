"""The tuner measures where a GPU is, takes the fastest blocks, and the kernels then use them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments.__main__ import main
from experiments._run import Run
from experiments.bench import tune
from jaxnorm.ops.kernels.pallas import _blocks, _column_blocks, tuning
from jaxnorm.ops.kernels.pallas._blocks import Blocks, row_blocks
from jaxnorm.ops.kernels.pallas._column_blocks import ColumnBlocks, affine_grid, moments_grid
from jaxnorm.ops.kernels.pallas.tuning import KERNELS, Size, candidates
from tests.ops.reference import reference_standardize
from tests.stats.reference import relative_error

CHIP = "a chip"


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Returns the path of an empty table, which the kernels read."""
    path = tmp_path / "blocks.json"
    path.write_text("{}")
    monkeypatch.setattr(_blocks, "TABLE", path)
    monkeypatch.setattr(_blocks, "_chip", lambda: CHIP)
    _blocks.table.cache_clear()
    yield path
    _blocks.table.cache_clear()


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="a GPU is at hand")
def test_without_a_gpu_the_tuner_says_so_and_leaves_the_table_alone(tmp_path, capsys):
    before = _blocks.TABLE.read_bytes()
    assert main(["bench.tune", "--out", str(tmp_path / "run")]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "there is no GPU at hand: JAX computes on cpu" in said
    assert _blocks.TABLE.read_bytes() == before


def test_kernels_that_there_are_not_are_refused_with_those_there_are(tmp_path, capsys):
    assert main(["bench.tune", "--out", str(tmp_path / "run"), "--kernels", "diagonals"]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "['diagonals'] are unknown; use some of ['rows forward'" in said


def test_the_kernels_use_the_fastest_blocks_of_their_own_size_and_chip(table):
    size = Size(8192, 768, "bfloat16")
    by_rule = row_blocks("rows forward", "gpu", 8192, 768, 2)
    best = Blocks(2, 1024, 16)
    assert best != by_rule and best in set(candidates("rows forward", size))
    seconds = {blocks: 1.0 + (blocks != best) for blocks in candidates("rows forward", size)}
    row = tuning.measured("rows forward", size, seconds)
    assert row["GB/s"] == round(2 * 8192 * 768 * 2 / 1e9)
    tuning.write_rows(CHIP, [row], table)
    tuning.write_rows("another chip", [{**row, "warps": 1}], table)
    _blocks.table.cache_clear()
    assert row_blocks("rows forward", "gpu", 8192, 768, 2) == best
    assert row_blocks("rows forward", "gpu", 8192, 1000, 2) == best  # the same power of two
    assert row_blocks("rows forward", "gpu", 8192, 768, 4) != best
    assert row_blocks("rows backward", "gpu", 8192, 768, 2) != best


def test_the_kernels_over_columns_use_the_fastest_blocks_too(table):
    size = Size(100352, 256, "bfloat16")
    best = ColumnBlocks(4096, 128, 528, 8, 8)
    tried = set(candidates("columns forward", size))
    by_rule = _column_blocks.column_blocks("columns forward", 256, "bfloat16", "gpu")
    assert {best, by_rule} < tried
    seconds = {blocks: 1.0 + (blocks != best) for blocks in tried}
    row = tuning.measured("columns forward", size, seconds)
    assert row["GB/s"] == round(3 * 100352 * 256 * 2 / 1e9)
    tuning.write_rows(CHIP, [row], table)
    _blocks.table.cache_clear()
    sized = (1, 100352, 256, "bfloat16", "gpu")
    sums, entries = moments_grid(*sized), affine_grid(*sized)
    assert (sums.tile, sums.channels, sums.warps) == (32, 128, 8)
    assert sums.blocks * 2 <= 528 < (sums.blocks + 20) * 2
    assert (entries.tile, entries.tiles, entries.channels, entries.warps) == (32, 8, 128, 8)
    backward = moments_grid(*sized, "columns backward")
    assert backward == moments_grid(*sized, blocks=by_rule)
    assert moments_grid(*sized[:3], "float32", "gpu").channels == 32


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_candidate_fits_the_registers(kernel):
    for length in (*tune.Config().lengths, *tune.Config().channels):
        for blocks in candidates(kernel, Size(8, length, "float32")):
            if isinstance(blocks, ColumnBlocks):
                assert blocks.channels & (blocks.channels - 1) == 0
                assert blocks.entries >= blocks.channels
                assert blocks.entries <= 32 * 32 * blocks.warps
            else:
                assert blocks.length >= length
                assert blocks.rows * blocks.length <= 64 * 32 * blocks.warps


FEW = {
    "rows forward": [Blocks(2, 8, 1), Blocks(4, 8, 1)],
    "columns forward": [ColumnBlocks(16, 4, 2, 1, 4), ColumnBlocks(32, 8, 1, 2, 8)],
}


@pytest.mark.parametrize("kernel", FEW)
@pytest.mark.slow
def test_a_measurement_times_every_candidate_and_each_gives_the_same_numbers(monkeypatch, kernel):
    monkeypatch.setattr(tune, "candidates", lambda kernel, size: FEW[kernel])
    size = Size(7, 6, "float32")
    row = tune.fastest(kernel, size, 1, "gpu_interpreted")
    assert row["length"] == 6 and row["warps"] in {blocks.warps for blocks in FEW[kernel]}
    x = np.random.default_rng(0).normal(size=(1, 7, 6)).astype(np.float32)
    kept = (1, 7, 1) if kernel == "rows forward" else (1, 1, 6)
    want = reference_standardize(x, kept, 1e-6, scale=1.0, bias=1.0)
    for blocks in FEW[kernel]:
        y = tuning.timed_call(kernel, size, blocks, "gpu_interpreted")()[0]
        assert relative_error(y, want) < 4e-6
        assert y.dtype == jnp.float32


def test_a_backward_pass_over_columns_gives_the_cotangent_with_any_blocks():
    rng = np.random.default_rng(0)
    x, ct = (rng.normal(size=(1, 7, 6)) for _ in "ab")
    # Mean 0 and deviation 1 are given, whatever x is.
    want = ct - ct.mean(1, keepdims=True) - x * (ct * x).mean(1, keepdims=True)
    for blocks in FEW["columns forward"]:
        call = tuning.timed_call(
            "columns backward", Size(7, 6, "float32"), blocks, "gpu_interpreted"
        )
        d_x, sums = call()
        assert relative_error(d_x, want) < 4e-6
        assert relative_error(sums, np.stack([ct.sum(1), (ct * x).sum(1)], axis=1)) < 4e-6


def test_the_tuner_writes_what_it_measured_and_goes_on_where_it_was(table, tmp_path, monkeypatch):
    asked = []

    def fastest(kernel, size, rounds):
        asked.append((kernel, size.length))
        blocks = next(iter(candidates(kernel, size)), None)
        return None if blocks is None else tuning.measured(kernel, size, {blocks: 0.5})

    monkeypatch.setattr(tune, "fastest", fastest)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    config = tune.Config(lengths=(64, 16384), channels=(64,), dtypes=("bfloat16",))
    for resume in (False, True):
        with Run(tmp_path, tmp_path, resume=resume, console=Console(quiet=True)) as run:
            results = tune.run(config, run)
    jobs = ["rows forward", "rows backward", "columns forward", "columns backward"]
    # A row of 16384 entries is taken in steps backward: there is nothing to choose.
    assert asked[:6] == [(k, n) for k in jobs[:2] for n in (64, 16384)] + [
        (k, 64) for k in jobs[2:]
    ]
    assert asked[6:] == [("rows backward", 16384), ("columns backward", 64)]
    assert sorted(results["gigabytes_per_second"]) == [
        "columns backward 64 2",
        "columns forward 64 2",
        "rows backward 64 2",
        "rows forward 16384 2",
        "rows forward 64 2",
    ]
    _blocks.table.cache_clear()
    (rows,) = _blocks.table().values()
    assert len(rows) == 5
    assert any("columns forward on" in line for line in tune.summary(results))
