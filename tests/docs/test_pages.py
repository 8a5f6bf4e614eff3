"""What the pages of the normalizers are made of: formulas, pictures, words."""

import inspect
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import CATALOGUE
from tests.laws import members

formulas = pytest.importorskip("formulas")
pages = pytest.importorskip("members", reason="needs matplotlib")
blocks = pytest.importorskip("blocks", reason="needs matplotlib")

ROWS = {member.name: member for member in CATALOGUE}


def head(member):
    return inspect.getdoc(member.function).split("\nArgs:")[0]


def test_formulas_become_fractions_roots_and_greek_letters():
    latex = formulas.to_latex("y = (x - mean) / sqrt(var + epsilon) * scale + bias")
    assert latex == r"y = \frac{x - \mu}{\sqrt{\sigma^2 + \varepsilon}} \, \gamma + \beta"


@pytest.mark.parametrize(
    ("formula", "latex"),
    [
        ("v = x - sum_k w_k mean_k", r"v = x - \sum_{k} w_{k} \, \mu_{k}"),
        ("y = alpha x", r"y = \alpha \, x"),
        ("y = S^(-1/2) x", r"y = {S}^{-\frac{1}{2}} \, x"),
        ("a = 1 / (s t)", r"a = \frac{1}{s \, t}"),
        ("y[t] = var[t]", r"y_{t} = \sigma_{t}^2"),
        ("s <- a s + (1 - a) v", r"s \leftarrow a \, s + \left(1 - a\right) \, v"),
    ],
)
def test_a_formula_is_read(formula, latex):
    assert formulas.to_latex(formula) == latex


@pytest.mark.parametrize("formula", ["y = (x", "y = x +", "y = x ? 2", "y = )", "y = x = [1"])
def test_what_is_no_formula_is_refused(formula):
    with pytest.raises(ValueError, match=r"has|ends"):
        formulas.to_latex(formula)


@pytest.mark.parametrize("member", CATALOGUE, ids=lambda member: member.name)
def test_every_docstring_has_a_formula_that_is_read(member):
    found = formulas.find(head(member))
    assert found, f"{member.name}: the docstring has no formula such as `y = x * scale`"
    assert all(formulas.to_latex(formula) for formula in found)


def test_a_page_shows_how_the_function_and_both_modules_are_called():
    text = pages.page(ROWS["group_norm"], {})
    function, linen, nnx = (text.index(call) for call in (">>> group_norm(", "linen`", "nnx`"))
    assert function < linen < text.index(">>> layer.apply(") < nnx < text.index("rngs=nnx.Rngs(0))")


def test_the_only_formula_of_a_page_stands_on_it_once():
    text = pages.page(ROWS["group_norm"], {})
    assert text.count(r"\frac{x - \mu}") == 1 and "\n\nStatistics shape `(N, 1, 1, G)`" in text


def test_a_page_and_the_table_say_accuracies_in_percent():
    row = {"images_32_accuracy": "0.874", "images_2_accuracy": "0.5231", "text_16_loss": "2.3305"}
    text = pages.page(ROWS["batch_norm"], {"batch_norm": row})
    assert "images 87.4% at a batch of 32, 52.3% at a batch of 2, loss 2.330 nats" in text
    assert "`batch_norm` 87.4%" in pages.league_table({"batch_norm": row, "none": row})


def test_every_member_has_words_for_when_to_use_it_and_no_other_name_has():
    when = tomllib.loads(Path(formulas.__file__).with_name("when.toml").read_text("utf-8"))
    assert list(when) == [member.name for member in CATALOGUE]


@pytest.mark.slow
@pytest.mark.parametrize("member", members.ACTIVATIONS, ids=lambda member: member.name)
def test_the_blue_sample_is_what_the_output_depends_on(member):
    n, h, w, c = blocks.SHAPE
    x = jnp.asarray(np.random.default_rng(0).normal(size=blocks.SHAPE), jnp.float32)

    def first(v):
        return members.output(member, v)[0, 0, 0, 0]

    influence = np.abs(np.asarray(jax.grad(first)(x))) > 1e-7
    drawn = blocks.blocks(member).sample
    # An entry without influence may be in a sample, but none outside of it has any.
    assert not (influence.reshape(n, h * w, c) & ~drawn).any()
    assert influence.sum() > 0.5 * drawn.sum()


def test_statistics_are_counted_as_the_shape_says():
    index = blocks.statistic_of((4, 2, 2, 6), (2, 1, 1, 3))
    assert len(np.unique(index.reshape(-1, 4), axis=0)) == 6
    assert index[3, 1, 0, 5].tolist() == [1, 0, 0, 2]


@pytest.mark.parametrize(
    ("name", "symbols"),
    [
        ("batch_norm", "(1, 1, 1, C)"),
        ("ghost_batch_norm", "(N/B, 1, 1, C)"),
        ("group_norm", "(N, 1, 1, G)"),
        ("weight_norm", "(1, 1, 1, O)"),
        ("spectral_norm", ""),
    ],
)
def test_statistics_shapes_are_written_with_letters(name, symbols):
    assert blocks.symbols(ROWS[name]).replace("\u00a0", " ") == symbols
