"""The descent against the closed form of a quadratic."""

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments import loss_surface
from experiments._run import Run
from experiments._tables import read_table, select


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loss_surface")
    with Run(folder, folder, resume=False, console=Console(quiet=True)) as run:
        results = loss_surface.run(loss_surface.PRESETS["smoke"], run)
    return folder, results


def test_the_steps_are_those_of_the_closed_form(smoke):
    # 7 * 0.91^n < 0.01 first at n = 70; 7 * 0.8^n at n = 30.
    assert smoke[1]["steps"] == {"stretched": 70, "round": 30} == smoke[1]["formula"]


@pytest.mark.parametrize(
    ("bowl", "factors"), [("stretched", (0.91, -0.8)), ("round", (-0.8, -0.8))]
)
def test_each_step_multiplies_each_coordinate_by_its_factor(smoke, bowl, factors):
    rows = select(read_table(smoke[0] / "paths.csv"), bowl=bowl)
    for name, start, factor in zip("xy", (-7.0, 2.0), factors, strict=True):
        expected = start * factor ** rows["step"]
        np.testing.assert_allclose(rows[name], expected, atol=1e-5)


def test_far_out_along_x_the_ratio_is_that_of_the_logarithms(smoke):
    assert smoke[1]["limit"] == pytest.approx(np.log(0.91) / np.log(0.8))
    assert smoke[1]["ratios"]["least"] == pytest.approx(smoke[1]["limit"], abs=0.02)


def test_a_descent_that_does_not_arrive_is_told():
    assert loss_surface.steps_needed(jnp.ones((3, 2)), 0.5) == -1


def test_the_figure_is_drawn_and_the_summary_has_the_numbers(smoke):
    assert [path.stat().st_size > 10_000 for path in loss_surface.figures(smoke[0])] == [True]
    assert loss_surface.summary(smoke[1])[0].startswith("70 steps on the stretched bowl, 30 on")
