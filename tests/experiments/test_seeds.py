"""Numbers over seeds in words, and legends that say what a band is."""

import numpy as np
import pytest

from experiments import _registry, gan
from experiments._figures import BAND, draw_curves, legend, new_figure, subplots
from experiments._ledger import say
from experiments._seeds import last, per_seed, verdict

TABLE = {
    "norm": np.array(["a", "a", "a", "a", "b"]),
    "seed": np.array([0.0, 0.0, 1.0, 1.0, 0.0]),
    "step": np.array([1.0, 2.0, 1.0, 2.0, 5.0]),
    "loss": np.array([0.5, 0.25, 1.5, 0.75, 9.0]),
}


def test_the_last_rows_are_those_of_the_group_and_not_of_the_table():
    assert last(TABLE, "loss", norm="a") == [0.25, 0.75]
    assert last(TABLE, "loss") == [9.0]


def test_a_column_per_seed():
    assert [list(values) for values in per_seed(TABLE, "loss", norm="a")] == [
        [0.5, 0.25],
        [1.5, 0.75],
    ]


def test_a_legend_says_what_a_band_is_where_there_is_one():
    for norm, expected in (("a", ["A", BAND]), ("b", ["A"])):
        figure = new_figure(4, 3)
        axes = subplots(figure, 1, 1)[0, 0]
        rows = {name: column[TABLE["norm"] == norm] for name, column in TABLE.items()}
        draw_curves(axes, rows, y="loss", by="norm", labels={norm: "A"})
        legend(figure, axes)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == expected


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ({"x": True, "y": True}, "**Shown.** X; y."),
        ({"x": True, "y": False}, "**Shown in part.** Shown: x. Not shown at this size: y."),
        ({"x": False}, "**Not shown at this size.** The claim: x."),
    ],
)
def test_the_verdict_is_made_of_the_claims(shown, words):
    assert verdict(shown) == words


class Told:
    @staticmethod
    def summary(results):
        return ["1 of 2."]


def test_an_experiment_without_claims_is_a_measurement():
    assert say(Told, {}) == ["**A measurement.** Nothing is claimed.", "1 of 2."]  # type: ignore[reportArgumentType]  # a stand-in


def test_claims_about_networks_that_were_not_run_are_left_out():
    """The gan's run of one norm, and of two."""
    scores = {norm: {"score": [score]} for norm, score in (("none", 3.0), ("batch", 4.0))}
    claim = "with batch norm the generator learns in fewer steps than without a norm"
    assert gan.claims({"scores": scores}) == {claim: True}
    assert gan.claims({"scores": {"none": scores["none"]}}) == {}


def test_every_experiment_but_the_benchmarks_has_claims():
    without = [row.name for row in _registry.ROWS if not hasattr(_registry.load(row), "claims")]
    assert without == ["bench", "bench.tune"]
