"""One derivative rule in every mode, against plain autodiff of a naive reference in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import standardize
from tests.ops.reference import naive_standardize
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding, spread

SHAPE = (4, 2, 6)
GROUPS = (4, 1, 2)  # kept, reduced and grouped
FEATURES = (1, 1, 6)  # as batch norm: the scale is constant behind each statistic
EPSILON = 1e-2
# Third derivatives lose a few digits that first ones keep; a wrong term is off by far more.
BOUND = 100 * rounding(np.float64, 48)

pytestmark = pytest.mark.usefixtures("x64")


def arguments(names, seed=0, complex_x=False):
    """Returns the differentiable arguments of one call, or a tangent of them."""
    rng = np.random.default_rng(seed)
    everything = {
        "x": rng.normal(2, 1, SHAPE) + (1j * rng.normal(size=SHAPE) if complex_x else 0),
        "scale": rng.normal(1, 0.5, (2, 6)),
        "gain": rng.normal(1, 0.5, (6,)),
        "bias": rng.normal(size=(6,)),
        "epsilon": np.float64(rng.uniform(0.1, 1) if seed else EPSILON),
        "weights": rng.uniform(0.2, 1, SHAPE),
    }
    return {name.replace("gain", "scale"): everything[name] for name in names}


def library(given, stats_shape=GROUPS, mask=None, **options):
    y, taken = standardize(stats_shape=stats_shape, mask=mask, **given, **options)
    return y, taken.mean, taken.var, jnp.broadcast_to(taken.count, stats_shape)


def reference(given, stats_shape=GROUPS, mask=None, center=True):
    given = {"weights": 1.0, **given}
    if mask is not None:
        given["weights"] = given["weights"] * mask
        # As the library: an entry outside the sample that is not finite counts as zero.
        given["x"] = jnp.where(jnp.isfinite(given["x"]), given["x"], 0)
    y, taken = naive_standardize(stats_shape=stats_shape, center=center, **given)
    return y, *taken


def loss(outputs):
    """Returns a nonlinear function of output and moments, with cotangents for all of them."""
    y, mean, var, count = outputs
    total = jnp.sum(jnp.sin(2 * y.real) * y.real) + jnp.sum(y.imag**2 * y.real)
    total += jnp.sum(mean.real**2 * var) + jnp.sum(mean.imag**2)
    return total + jnp.sum(jnp.log(count) * var)


def derivatives(function, given, tangent):
    """Returns every derivative that a training or a second-order method asks for."""
    gradient = jax.grad(lambda given: loss(function(given)))

    @compiled
    def compute(given, tangent):
        outputs, forward = jax.jvp(function, (given,), (tangent,))
        linear = jax.linearize(function, given)[1](tangent)
        over_reverse = jax.jvp(gradient, (given,), (tangent,))[1]

        def slope(given):
            parts = jax.tree.map(lambda g, t: jnp.sum((g * t).real), gradient(given), tangent)
            return sum(jax.tree.leaves(parts))

        return {
            "value": outputs,
            "jvp": forward,
            "linearize": linear,
            "grad": gradient(given),
            "forward over reverse": over_reverse,
            "grad of grad": jax.grad(slope)(given),
        }

    return compute(given, tangent)


CASES = {
    "scale within a statistic": (("x", "scale", "bias", "epsilon"), {}),
    "scale for each statistic": (("x", "gain", "bias", "epsilon"), {"stats_shape": FEATURES}),
    "weights": (("x", "scale", "epsilon", "weights"), {"stats_shape": FEATURES}),
    "not centred, weights": (("x", "gain", "epsilon", "weights"), {"center": False}),
}


def assert_same(got, expected, bound=BOUND):
    for name in expected:
        have, want = jax.tree.leaves(got[name]), jax.tree.leaves(expected[name])
        for h, w in zip(have, want, strict=True):
            assert relative_error(h, w, 1.0) < bound, name


@pytest.mark.parametrize("case", CASES)
def test_every_mode_of_differentiation_agrees_with_plain_autodiff(case):
    names, options = CASES[case]
    given, tangent = arguments(names), arguments(names, seed=1)
    got = derivatives(lambda given: library(given, **options), given, tangent)
    expected = derivatives(lambda given: reference(given, **options), given, tangent)
    assert_same(got, expected)


def test_every_mode_agrees_under_a_mask_over_values_that_are_not_finite():
    names = ("x", "scale", "bias", "epsilon", "weights")
    given, tangent = arguments(names), arguments(names, seed=1)
    mask = np.random.default_rng(2).random(SHAPE) < 0.7
    given["x"] = np.where(mask, given["x"], np.resize([np.nan, np.inf, -np.inf], SHAPE))
    got = derivatives(lambda given: library(given, mask=mask), given, tangent)
    expected = derivatives(lambda given: reference(given, mask=mask), given, tangent)
    assert_same(got, expected)


@pytest.mark.parametrize("last", ["bias", "weights"])
def test_every_mode_agrees_for_samples_of_one_entry(last):
    """Their variance is zero, where a clamp at zero would have half of its derivative."""
    names = ("x", "scale", "epsilon", last)
    given, tangent = arguments(names), arguments(names, seed=1)
    mask = np.random.default_rng(2).random(SHAPE) < 0.7
    mask[0] = False
    mask[0, 1, 2] = mask[0, 0, 5] = True
    mask[1, :, :3], mask[1, 0, 1] = False, True
    got = derivatives(lambda given: library(given, mask=mask), given, tangent)
    expected = derivatives(lambda given: reference(given, mask=mask), given, tangent)
    assert_same(got, expected, bound=1e-10)  # terms of 1 / epsilon cancel


def test_first_derivatives_of_complex_arrays_agree_with_plain_autodiff():
    names = ("x", "scale", "weights", "epsilon")
    given, tangent = arguments(names, complex_x=True), arguments(names, seed=1, complex_x=True)

    def first(function):
        gradient = jax.grad(lambda given: loss(function(given)))

        @compiled
        def compute(given, tangent):
            return jax.jvp(function, (given,), (tangent,)), gradient(given)

        return jax.tree.leaves(compute(given, tangent))

    for have, want in zip(first(library), first(reference), strict=True):
        assert relative_error(have, want, 1.0) < BOUND


def test_the_hessian_is_that_of_plain_autodiff():
    given = arguments(("x", "scale", "epsilon"))

    def hessian(function):
        def of_x(x):
            return loss(function({**given, "x": x}))

        return compiled(jax.hessian(of_x))(given["x"])

    assert relative_error(hessian(library), hessian(reference)) < BOUND


def test_the_gradient_is_the_same_under_vmap_scan_and_remat():
    names = ("x", "scale", "bias", "epsilon", "weights")
    given = arguments(names)
    batch = np.stack([given["x"], given["x"] ** 2, np.cos(given["x"])])

    def gradient(function):
        def compute(x):
            value = jax.value_and_grad(lambda given: loss(function(given)))
            return value({**given, "x": x})

        return compute

    def scanned(x):
        return jax.lax.scan(lambda carry, x: (carry, gradient(library)(x)), 0, x)[1]

    @compiled
    def every(batch):
        vmapped = jax.vmap(gradient(library))(batch)
        rematerialized = jax.vmap(gradient(jax.checkpoint(library)))(batch)
        return jax.vmap(gradient(reference))(batch), (vmapped, rematerialized, scanned(batch))

    expected, variants = every(batch)
    for variant in variants:
        for have, want in zip(jax.tree.leaves(variant), jax.tree.leaves(expected), strict=True):
            assert relative_error(have, want, 1.0) < BOUND


def test_the_gradient_through_a_scan_that_applies_it_repeatedly_is_that_of_plain_autodiff():
    given = arguments(("x", "scale", "bias", "epsilon"))

    def repeated(function):
        def compute(given):
            def layer(x, _):
                return jnp.cos(function({**given, "x": x})[0]), None

            return jnp.sum(jax.lax.scan(layer, given["x"], length=3)[0] ** 2)

        return compiled(jax.grad(compute))(given)

    got, expected = jax.tree.leaves(repeated(library)), jax.tree.leaves(repeated(reference))
    for have, want in zip(got, expected, strict=True):
        assert relative_error(have, want, 1.0) < BOUND


def test_each_pivot_is_a_constant_for_derivatives():
    x = arguments(("x",))["x"]
    jacobian = compiled(jax.jacfwd(lambda x: library({"x": x, "epsilon": EPSILON})[1]))(x)
    blocks = spread(np.arange(8.0).reshape(GROUPS), SHAPE)
    expected = (blocks == np.arange(8).reshape(*GROUPS, 1, 1, 1)) / 6
    assert relative_error(jacobian, expected) < BOUND


def test_the_curvature_at_a_sample_of_one_entry_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    x, cotangent = rng.normal(2, 1, (4, 3)), rng.normal(size=(4, 3))
    weights = np.eye(4)[:, :3] / 2  # each variance is zero, and grows with any other weight

    def curvature(function):
        def of(weights):
            return jnp.sum(function(x, (1, 3), epsilon=EPSILON, weights=weights)[0] * cotangent)

        return compiled(jax.hessian(of))(weights)

    error = relative_error(curvature(standardize), curvature(naive_standardize), 1.0)
    assert error < BOUND
