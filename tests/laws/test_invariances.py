"""Each row's invariances, and that what it does not claim does not hold."""

import functools

import jax
import numpy as np
import pytest

from tests.laws.members import CORE, SHAPE, array, claiming, once, output, over
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

BOUND = rounding(np.float32, np.prod(SHAPE))
# Multiples of 1/64, to which whole numbers add and by which powers of two multiply exactly.
EXACT = np.round(array(mean=0.5) * 64) / 64
CHANGES = {
    "scale": lambda x: 8 * x,
    "shift": lambda x: x + 1024,
}


@once
def without_epsilon(member):
    """Returns the compiled function to output and gradient, with nothing added to the variance."""

    @compiled
    def compute(x, cotangent):
        y, pullback = jax.vjp(functools.partial(output, member, epsilon=0.0), x)
        return y, pullback(cotangent)[0]

    return compute


@over(CORE)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.sampled(6)
def test_the_output_is_invariant_just_where_the_row_says_so(member, change, implementation):
    run = without_epsilon(member)
    y, _ = run(EXACT, array(1))
    changed, _ = run(CHANGES[change](EXACT), array(1))
    difference = relative_error(changed, np.asarray(y))
    if change in member.claims:
        assert difference < BOUND
    else:
        assert difference > 1e-2


@over(claiming("scale"))
def test_the_gradient_of_a_scaled_input_is_smaller_by_the_factor(member, implementation):
    # Of any loss of an invariant output: this is what makes large weights learn slowly.
    _, gradient = without_epsilon(member)(EXACT, array(1))
    _, scaled = without_epsilon(member)(8 * EXACT, array(1))
    assert relative_error(8 * scaled, np.asarray(gradient)) < BOUND


@over(claiming("scale"))
def test_the_gradient_is_orthogonal_to_an_input_whose_scale_does_not_matter(member, implementation):
    _, gradient = without_epsilon(member)(EXACT, array(1))
    product = np.asarray(gradient, np.float64) * EXACT
    assert abs(product.sum()) < BOUND * np.abs(product).sum()


@over(claiming("shift"))
def test_the_gradient_sums_to_zero_where_a_shift_does_not_matter(member, implementation):
    _, gradient = without_epsilon(member)(EXACT, array(1))
    gradient = np.asarray(gradient, np.float64)
    assert abs(gradient.sum()) < BOUND * np.abs(gradient).sum()
