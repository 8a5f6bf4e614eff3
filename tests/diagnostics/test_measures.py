"""The measures against NumPy and closed forms."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm.models.nnx
import jaxnorm.nnx
from jaxnorm.diagnostics import (
    LayerRow,
    Report,
    diagnose,
    draw_percentiles,
    draw_report,
    drift,
    percentiles,
    saturation,
    statistics_distance,
)
from jaxnorm.linen import BatchNorm
from jaxnorm.models import MLP
from jaxnorm.surgery import recalibrate, with_variables

RNG = np.random.default_rng(0)


def test_percentiles_are_taken_over_all_but_the_units():
    x = RNG.normal(size=(7, 3, 2)).astype(np.float32)
    expected = np.percentile(x.reshape(21, 2), [15, 50, 85], axis=0)
    np.testing.assert_allclose(percentiles(x), expected, rtol=1e-5, atol=1e-6)


def test_drift_is_the_mean_change_in_units_of_the_spread():
    history = RNG.normal(size=(6, 3, 4)).astype(np.float32)
    spread = np.mean(history.max(1) - history.min(1), axis=0)
    found = drift(history)
    np.testing.assert_allclose(
        found.per_step, np.abs(np.diff(history, axis=0)).mean(0) / spread, rtol=1e-5
    )
    np.testing.assert_allclose(found.range, np.ptp(history, axis=0) / spread, rtol=1e-5)


def test_drift_does_not_change_with_scale_and_offset():
    history = RNG.normal(size=(6, 3)).astype(np.float32)
    np.testing.assert_allclose(drift(3 * history + 5).per_step, drift(history).per_step, rtol=1e-4)


def test_a_unit_that_stays_has_no_drift_even_without_spread():
    assert drift(np.ones((4, 3))).per_step.tolist() == [0, 0, 0]
    assert drift(np.ones((4, 3)) * np.arange(4)[:, None]).range.tolist() == [math.inf] * 3


def test_drift_needs_two_evaluations():
    with pytest.raises(ValueError, match=r"got \[1, 3\]"):
        drift(np.ones((1, 3)))


def test_a_sigmoid_saturates_where_its_slope_is_a_twentieth_of_the_steepest():
    edge = math.log((1 + math.sqrt(0.95)) / (1 - math.sqrt(0.95)))  # s(1 - s) = 0.05 / 4
    z = jnp.asarray([[-2 * edge, 0.0], [edge * 0.999, edge * 1.001]])
    found = saturation(z, nn.sigmoid)
    assert found.saturated.tolist() == [0.5, 0.5]
    assert found.dead.tolist() == [False, False]


def test_a_relu_passes_the_share_of_positive_inputs():
    z = RNG.normal(size=(50, 3)).astype(np.float32) + np.array([0, -100, 100], np.float32)
    found = saturation(z, nn.relu)
    np.testing.assert_allclose(found.passed, (z > 0).mean(0), rtol=1e-6)
    assert found.dead.tolist() == [False, True, False]


def test_a_uniform_input_of_a_sigmoid_passes_the_mean_slope():
    z = jnp.linspace(-5, 5, 20001)[:, None]
    expected = (1 / (1 + math.exp(-5)) - 1 / (1 + math.exp(5))) / 10
    np.testing.assert_allclose(saturation(z, nn.sigmoid).passed[0], expected, rtol=1e-4)


def stats(mean, var):
    return {"block": {"norm": {"mean": jnp.asarray(mean), "var": jnp.asarray(var)}}}


def test_the_distance_of_statistics_is_in_standard_deviations_and_symmetric():
    one, other = stats([1.0, 0.0], [4.0, 1.0]), stats([4.0, 0.0], [5.0, 1.0])
    [found], [back] = (statistics_distance(*pair).values() for pair in ((one, other), (other, one)))
    np.testing.assert_allclose(found.shift, math.sqrt((9 / 4.5) / 2), rtol=1e-6)
    np.testing.assert_allclose(found.log_ratio, math.log(5 / 4) / math.sqrt(2), rtol=1e-6)
    assert found == back


def test_the_distance_does_not_change_with_scale():
    one, other = stats([1.0, 2.0], [4.0, 1.0]), stats([4.0, 0.0], [5.0, 3.0])
    scaled = [
        jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf * (100 if path[-1].key == "mean" else 1e4), each
        )
        for each in (one, other)
    ]
    np.testing.assert_allclose(
        statistics_distance(*scaled)["block/norm"],
        statistics_distance(one, other)["block/norm"],
        rtol=1e-5,
    )


def test_features_that_both_find_constant_are_at_no_distance():
    same = stats([1.0], [0.0])
    assert statistics_distance(same, same)["block/norm"] == (0, 0)


def test_statistics_of_other_layers_are_refused():
    with pytest.raises(ValueError, match="'block/norm'"):
        statistics_distance(stats([1.0], [0.0]), {})


X = jnp.asarray(RNG.normal(2.0, 3.0, (64, 5)), jnp.float32)
MODEL = MLP(features=(6,), num_outputs=2, norm=BatchNorm, activation=nn.sigmoid)
VARIABLES = MODEL.init(jax.random.key(0), X)


def report(kind: str = "linen") -> Report:
    options = {"activation": nn.sigmoid}
    if kind == "nnx":
        made = jaxnorm.models.nnx.MLP(
            5, (6,), 2, norm=jaxnorm.nnx.BatchNorm, activation=nn.sigmoid, rngs=nnx.Rngs(0)
        )
        model = with_variables(made, VARIABLES)
        return diagnose(model, X, squared, population=recalibrate(model, [X]), **options)
    apply = functools.partial(MODEL.apply, train=True)
    population = recalibrate(apply, VARIABLES, [X])["batch_stats"]
    return diagnose(MODEL.apply, VARIABLES, X, squared, population=population, **options)


def squared(y):
    return jnp.mean(y**2)


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_a_report_has_the_measures_of_each_layer(kind):
    found = report(kind)
    hidden, norm, output = found.rows
    assert [row.layer for row in found.rows] == ["hidden_0", "norm_0", "output"]
    z = np.asarray(X, np.float64) @ np.asarray(
        VARIABLES["params"]["hidden_0"]["kernel"], np.float64
    )
    shift = np.sqrt(np.mean(z.mean(0) ** 2 / ((1 + z.var(0)) / 2)))
    np.testing.assert_allclose(norm.shift, shift, rtol=1e-3)
    np.testing.assert_allclose(hidden.low, np.median(np.percentile(z, 15, axis=0)), rtol=1e-3)
    assert math.isnan(hidden.shift) and norm.saturated == 0 and hidden.saturated > 0
    assert output.gap > 0.1 and found.eval_loss != found.train_loss


def test_the_table_has_a_line_for_each_layer_and_aligned_columns():
    head, *lines, losses = report().to_text().splitlines()
    assert [line.split()[0] for line in lines] == ["hidden_0", "norm_0", "output"]
    assert len({len(line) for line in (head, *lines)}) == 1
    assert losses.startswith("loss in train mode")


def test_a_figure_leaves_out_what_applies_to_no_layer():
    row = LayerRow("norm", -1.0, 0.0, 1.0, 0.25, *[math.nan] * 2, 0.2, *[math.nan] * 3)
    figure = draw_report(Report((row,), 0.5, 0.5))
    assert [axes.get_xlabel().split("\n")[0] for axes in figure.axes][1:] == [
        "dead units",
        "gradient of the parameters",
    ]


def test_percentiles_are_drawn_as_they_are():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    history = RNG.normal(size=(4, 3))
    draw_percentiles(axes, np.arange(4), history)
    drawn = np.stack([line.get_ydata() for line in axes.lines], axis=1)
    np.testing.assert_array_equal(drawn, history)
