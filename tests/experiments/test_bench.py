"""The benchmark measures every library at the same inputs; its ratios are those of its table."""

import numpy as np
import pytest

from experiments import bench
from experiments._tables import read_table, select
from experiments.bench._steps import Model, ViT, measure_steps

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(bench)


@pytest.fixture(scope="module")
def table(smoke):
    return read_table(smoke[0] / "bench.csv")


def test_every_library_is_right_where_it_is_timed(table):
    right = table["error"][~np.isnan(table["error"])]
    assert {"flax.linen", "flax.nnx", "jaxnorm", "jaxnorm (xla)"} <= set(table["library"])
    assert right.max() < 1e-5


def test_far_from_zero_only_shifted_statistics_are_right(table):
    batch = select(table, member="batch", direction="forward")
    error = dict(zip(batch["library"], batch["error_at_mean_1000"], strict=True))
    assert error["jaxnorm"] < 4e-6 < 0.01 < error["flax.linen"]


def test_x_the_scale_and_three_numbers_per_statistic_are_kept_and_flax_keeps_more(table):
    for member, statistics in (("layer", 8), ("batch", 64)):  # of an array (8, 64) in float32
        rows = select(table, member=member, direction="both")
        kept = dict(zip(rows["library"], rows["residual_bytes"], strict=True))
        assert kept["jaxnorm"] <= 4 * (8 * 64 + 64 + 3 * statistics) < kept["flax.linen"]


def test_the_ratios_are_those_of_the_table(smoke, table):
    rows = select(table, member="layer", direction="both")
    time = dict(zip(rows["library"], rows["milliseconds"], strict=True))
    ratio = smoke[1]["times_faster_than_flax"]["layer 8x64 float32 both"]
    assert ratio == pytest.approx(time["flax.linen"] / time["jaxnorm"], abs=1e-3)


def test_the_picture_is_made_from_the_table(smoke):
    assert [path.name for path in bench.figures(smoke[0])] == ["bench.png"]


def test_a_train_step_is_measured_with_each_library():
    tiny = Model("ViT", "LayerNorm", lambda norm: ViT(norm, 1, 8, 2), (2, 8, 8, 3))
    rows = {row["library"]: row for row in measure_steps(tiny, rounds=1)}
    assert list(rows) == ["flax.linen", "jaxnorm (xla)", "jaxnorm"]
    assert rows["jaxnorm"]["residual_bytes"] < rows["flax.linen"]["residual_bytes"]


def test_sizes_that_there_are_not_are_refused_with_those_there_are(smoke):
    with pytest.raises(ValueError, match=r"sizes='huge' is unknown; use one of \['core'"):
        bench.run(bench.Config(sizes="huge"), None)


def test_the_summary_gives_the_least_and_the_greatest_ratio_over_the_sizes():
    results = {
        "copy_gigabytes_per_second": 20.0,
        "times_faster_than_flax": {"layer 8x64 float32 both": 3.0, "layer 2x2 float32 both": 2.0},
        "times_faster_than_torch": {"layer 8x64 float32 both": 1.5},
        "steps_against_flax": {},
    }
    assert bench.summary(results)[1] == (
        "layer, float32, forward and backward: 2.00 to 3.00 times as fast as flax.linen, "
        "1.50 times as fast as PyTorch."
    )
