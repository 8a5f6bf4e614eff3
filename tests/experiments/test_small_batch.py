"""Batch sizes from 32 to 2: ghost batch norm as a layer, and what is taken from the runs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments import small_batch
from experiments._run import Run, RunError
from experiments._tables import read_table, select
from jaxnorm.linen import BatchNorm

pytestmark = pytest.mark.slow
X = np.asarray(jax.random.normal(jax.random.key(0), (4, 3, 3, 2))) * 2 + 5


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(small_batch)


def ghost(use_running_average=False, size=2):
    return small_batch.GhostBatchNorm(size, use_running_average=use_running_average, decay=0.75)


def test_ghost_layer_normalizes_each_part_of_the_batch_and_averages_over_all_of_it():
    variables = ghost().init(jax.random.key(0), X)
    y, changed = ghost().apply(variables, X, mutable=["batch_stats"])
    pairs = X.astype(np.float64).reshape(2, 2, 3, 3, 2)
    mean, var = (f(pairs, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.var))
    expected = ((pairs - mean) / np.sqrt(var + 1e-5)).reshape(X.shape)
    np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-5)
    stats = changed["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.25 * X.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.75 + 0.25 * X.var((0, 1, 2)), rtol=1e-5)


def test_ghost_layer_is_batch_norm_where_the_batch_is_no_larger_and_in_evaluation():
    variables = {
        "params": {"scale": jnp.array([1.5, 0.5]), "bias": jnp.array([-1.0, 2.0])},
        "batch_stats": {"mean": jnp.array([4.0, 5.0]), "var": jnp.array([2.0, 3.0])},
    }
    for average, size in ((False, 8), (True, 2)):
        batch = BatchNorm(use_running_average=average, momentum=0.75)
        got = ghost(average, size).apply(variables, X, mutable=["batch_stats"])
        wanted = batch.apply(variables, X, mutable=["batch_stats"])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, wanted)


def test_running_statistics_forget_as_much_per_image_at_every_batch_size():
    config = small_batch.Config(decay=0.9)
    at_2, at_32 = (small_batch.norm_of(config, "batch", size / 32) for size in (2, 32))
    assert at_2.keywords["momentum"] ** 16 == pytest.approx(at_32.keywords["momentum"])


def test_with_equal_steps_every_batch_size_takes_as_many_at_one_rate(tmp_path):
    config = dataclasses.replace(small_batch.PRESETS["smoke"], norms=("batch",), steps=6)
    with Run(tmp_path, tmp_path, resume=False, console=Console(quiet=True)) as run:
        small_batch.run(config, run)
    rows = read_table(tmp_path / "curves.csv")
    assert dict(zip(rows["network"].tolist(), rows["step"], strict=True)) == {
        "batch-32": 6,
        "batch-2": 6,
    }
    shares = [small_batch.plan_of(config, size, 640).share for size in (32, 2)]
    assert shares == [1.0, 1.0]


def test_steps_that_measurements_do_not_divide_are_refused():
    config = small_batch.Config(epochs=8, evaluate_every=4, steps=501)
    with pytest.raises(RunError, match="multiple of the 2 measurements"):
        small_batch.plan_of(config, 2, 2000)


@pytest.mark.parametrize(
    "norm", ["batch_renorm", "filter_response", "evo_s0", "standardized_group"]
)
def test_a_further_contender_is_a_network_of_two_images(norm):
    config = small_batch.PRESETS["smoke"]
    images = {"inputs": jnp.zeros((4, 8, 8, 1), jnp.uint8), "labels": jnp.zeros(4, int)}
    classifier = small_batch._classifier(config, norm, 2, images, images, classes=3, white=16)
    state = jax.eval_shape(classifier.start, jax.random.key(0))
    jax.eval_shape(classifier.advance, state)


def test_kernels_are_standardized_for_the_contender_that_says_so_alone():
    config = small_batch.PRESETS["smoke"]
    kernel_norms = [
        small_batch.network_of(config, norm, 1.0, 3).kernel_norm
        for norm in ("standardized_group", "group")
    ]
    assert kernel_norms == ["weight_standardization", None]


def test_every_batch_size_sees_the_same_images_and_learns(smoke):
    folder, results = smoke
    table = read_table(folder / "curves.csv")
    for norm in ("batch", "group"):
        for size in (32, 2):
            rows = select(table, network=f"{norm}-{size}", seed=0.0)
            assert rows["step"][-1] * size == 2 * 640
            error = results["errors"][norm][str(size)]
            assert error == [1 - rows["validation_accuracy"][-1]]
            assert error[0] < 0.8, "chance is 0.9"


def test_the_figure_is_drawn(smoke):
    assert small_batch.figures(smoke[0])[0].stat().st_size > 10_000


def test_the_summary_says_what_the_smallest_batch_costs():
    results = {
        "batch_sizes": [32, 8, 2],
        "errors": {"batch": {"32": [0.2, 0.22], "8": [0.25, 0.25], "2": [0.3, 0.36]}},
    }
    batch, published = small_batch.summary(results)
    assert "21.0% at a batch size of 32, 33.0% at 2: +12.0 points (+10.0 to +14.0" in batch
    assert "23.6% at 32, 34.7% at 2" in published
