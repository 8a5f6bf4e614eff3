"""The tuner measures where a GPU is, takes the fastest blocks, and the kernels then use them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench import tune
from jaxnorm.ops.kernels.pallas import _blocks, tuning
from jaxnorm.ops.kernels.pallas._blocks import Blocks, row_blocks
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
def test_without_a_gpu_the_tuner_says_so_and_leaves_the_table_alone(capsys):
    before = _blocks.TABLE.read_bytes()
    assert tune.main() == 2
    assert "There is no GPU at hand: JAX computes on cpu" in capsys.readouterr().out
    assert _blocks.TABLE.read_bytes() == before


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


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_candidate_fits_the_registers(kernel):
    for length in tune.LENGTHS:
        for blocks in candidates(kernel, Size(8, length, "float32")):
            assert blocks.length >= length
            assert blocks.rows * blocks.length <= 64 * 32 * blocks.warps


def test_a_measurement_of_small_rows_times_every_candidate(monkeypatch):
    few = [Blocks(2, 8, 1), Blocks(4, 8, 1)]
    monkeypatch.setattr(tune, "candidates", lambda kernel, size: few)
    row = tune.fastest("rows forward", Size(5, 6, "float32"), "gpu_interpreted")
    assert row["rows"] in (2, 4) and row["length"] == 6
    run = tuning.timed_call("rows forward", Size(5, 6, "float32"), few[0], "gpu_interpreted")
    x = np.random.default_rng(0).normal(size=(1, 5, 6)).astype(np.float32)
    want = reference_standardize(x, (1, 5, 1), 1e-6, scale=1.0, bias=1.0)
    assert relative_error(run()[0], want) < 4e-6
    assert run()[0].dtype == jnp.float32
