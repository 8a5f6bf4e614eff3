"""Standardize: numbers, dtypes, parameters, empty samples and errors."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from jaxnorm.stats import moments
from tests.ops.reference import reference_gradient, reference_standardize
from tests.stats.programs import compiled, without_type_checks
from tests.stats.reference import reference_moments, relative_error, rounding

SHAPE = (4, 3, 6)
STATS_SHAPES = [(1, 1, 6), (4, 1, 2), (2, 3, 3)]
BOUND = rounding(np.float32, 72)
EPSILON = 1e-3
EPS32 = float(np.finfo(np.float32).eps)


def standardize(x, stats_shape, **options):
    """Returns output and moments of one compiled program."""
    return compiled(lambda x, **given: jaxnorm.standardize(x, stats_shape, **given))(x, **options)


def arrays(*shapes, seed=0, mean=3.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(mean, 1, SHAPE).astype(np.float32)
    return x, *(rng.normal(1, 0.5, shape).astype(np.float32) for shape in shapes)


def both(function):
    """Returns the compiled function to output and gradient of `x`."""

    @compiled
    def compute(x, cotangent):
        y, pullback = jax.vjp(function, x)
        return y, pullback(cotangent)[0]

    return compute


def results(x, cotangent, center=True, **arguments):
    """Returns output, gradient of `x` and moments for every statistics shape."""

    @compiled
    def compute(x, cotangent, arguments):
        def one(stats_shape):
            def run(x):
                options = {"center": center, "epsilon": EPSILON, **arguments}
                return jaxnorm.standardize(x, stats_shape, **options)

            y, pullback, taken = jax.vjp(run, x, has_aux=True)
            return y, pullback(cotangent)[0], taken

        return [one(s) for s in STATS_SHAPES]

    return compute(x, cotangent, arguments)


def assert_right(got, x, cotangent, weights=None, center=True, scale=1.0, bias=0.0):
    for s, (y, dx, taken) in zip(STATS_SHAPES, got):
        sample = {"weights": weights, "center": center, "scale": scale}
        expected = reference_standardize(x, s, EPSILON, bias=bias, **sample)
        gradient = reference_gradient(x, cotangent, s, EPSILON, **sample)
        moments_expected = reference_moments(x, s, weights, center)
        assert relative_error(y, expected) < BOUND
        assert relative_error(dx, gradient) < BOUND
        for have, want in zip(taken[:3], moments_expected, strict=True):
            assert relative_error(jnp.broadcast_to(have, s), want, 1.0) < BOUND


@pytest.mark.parametrize("center", [True, False])
def test_output_gradient_and_moments_are_those_of_float64(center):
    x, cotangent = arrays(SHAPE)
    assert_right(results(x, cotangent, center), x, cotangent, center=center)


@pytest.mark.parametrize("variance", ["two_pass", "fast"])
def test_every_variance_gives_the_same_numbers_near_zero(variance):
    x, cotangent = arrays(SHAPE)

    def run(x):
        return jaxnorm.standardize(x, (4, 1, 2), epsilon=EPSILON, variance=variance)[0]

    y, dx = both(run)(x, cotangent)
    expected = reference_standardize(x, (4, 1, 2), EPSILON)
    assert relative_error(y, expected) < 10 * BOUND  # (mean / std)^2 for "fast"
    gradient = reference_gradient(x, cotangent, (4, 1, 2), EPSILON)
    assert relative_error(dx, gradient) < 10 * BOUND


@pytest.mark.parametrize("center", [True, False])
def test_masks_and_weights_enter_output_gradient_and_moments(center):
    x, cotangent, weights = arrays(SHAPE, SHAPE)
    mask = np.random.default_rng(1).random(SHAPE) < 0.7
    weights = np.abs(weights)
    got = results(x, cotangent, center, mask=mask, weights=weights)
    assert_right(got, x, cotangent, mask * weights, center)


@pytest.mark.parametrize(
    ("scale", "bias"), [((6,), (6,)), ((4, 1, 6), (3, 1)), (SHAPE, SHAPE), ((), (4, 1, 1))]
)
@pytest.mark.sampled(2)
def test_scale_and_bias_may_be_anything_that_broadcasts(scale, bias):
    x, cotangent, scale, bias = arrays(SHAPE, scale, bias)
    got = results(x, cotangent, scale=scale, bias=bias)
    assert_right(got, x, cotangent, scale=scale, bias=bias)


def test_gradients_of_scale_and_bias_have_their_own_shapes_and_the_sums_of_float64():
    x, cotangent, scale, bias = arrays(SHAPE, (4, 1, 6), (3, 1))

    @compiled
    def gradients(scale, bias):
        def loss(scale, bias):
            y, _ = jaxnorm.standardize(x, (4, 1, 2), scale=scale, bias=bias, epsilon=EPSILON)
            return jnp.vdot(y, cotangent)

        return jax.grad(loss, argnums=(0, 1))(scale, bias)

    d_scale, d_bias = gradients(scale, bias)
    xhat = reference_standardize(x, (4, 1, 2), EPSILON)
    assert relative_error(d_scale, (cotangent * xhat).sum(axis=1, keepdims=True)) < BOUND
    expected = cotangent.astype(np.float64).sum(axis=(0, 2)).reshape(3, 1)
    assert relative_error(d_bias, expected) < BOUND


def test_epsilon_may_differ_per_statistic():
    x, _ = arrays(SHAPE)
    epsilon = np.linspace(0, 2, 6).astype(np.float32)
    y, _ = standardize(x, (1, 1, 6), epsilon=epsilon)
    assert relative_error(y, reference_standardize(x, (1, 1, 6), epsilon)) < BOUND


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64])
def test_the_output_has_the_dtype_of_the_input_and_the_moments_are_float32(dtype):
    y, taken = standardize(jnp.ones((2, 3), dtype), (2, 1), scale=jnp.ones(3), epsilon=EPSILON)
    assert (y.dtype, taken.var.dtype) == (dtype, np.float32)


def test_the_output_may_have_another_dtype_without_losing_digits_on_the_way():
    x = jnp.asarray(arrays()[0]).astype(jnp.bfloat16)
    y, _ = standardize(x, (4, 3, 1), epsilon=EPSILON, dtype=jnp.float32)
    expected = reference_standardize(x, (4, 3, 1), EPSILON)
    assert y.dtype == np.float32 and relative_error(y, expected) < BOUND


@pytest.mark.parametrize("center", [True, False])
def test_complex_arrays_are_divided_by_the_root_of_their_mean_square_modulus(center):
    rng = np.random.default_rng(0)
    x = (rng.normal(2, 1, SHAPE) + 1j * rng.normal(-1, 2, SHAPE)).astype(np.complex64)
    scale = (rng.normal(size=6) + 1j * rng.normal(size=6)).astype(np.complex64)
    y, taken = standardize(x, (4, 1, 2), center=center, scale=scale, epsilon=EPSILON)
    expected = reference_standardize(x, (4, 1, 2), EPSILON, center=center, scale=scale)
    assert relative_error(y, expected) < BOUND
    assert relative_error(taken.var, reference_moments(x, (4, 1, 2), None, center).var) < BOUND


def test_the_moments_are_those_of_the_statistics_room():
    x, _ = arrays(SHAPE)
    mask = np.random.default_rng(1).random(SHAPE) < 0.7
    _, taken = standardize(x, (4, 1, 2), mask=mask, epsilon=EPSILON)

    def take(x, mask):
        return moments(x, (4, 1, 2), mask=mask)

    chex.assert_trees_all_close(taken, compiled(take)(x, mask), rtol=BOUND, atol=4 * EPS32)


def test_an_empty_sample_passes_x_with_a_factor_of_one_and_a_finite_gradient():
    x, cotangent = arrays(SHAPE)
    mask = np.ones((4, 1, 1), bool)
    mask[2] = False

    def run(x):
        return jaxnorm.standardize(x, (4, 1, 2), mask=mask, epsilon=0.0)[0]

    y, dx = both(run)(x, cotangent)
    np.testing.assert_array_equal(y[2], x[2])
    np.testing.assert_array_equal(dx[2], cotangent[2])


def test_epsilon_has_no_gradient_where_there_is_no_sample():
    x, cotangent = arrays(SHAPE)
    mask = np.ones((4, 1, 1), bool)
    mask[2] = False

    @compiled
    @jax.grad
    def gradient(epsilon):
        y, _ = jaxnorm.standardize(x, (4, 1, 2), mask=mask, epsilon=epsilon)
        return jnp.vdot(y, cotangent)

    got = gradient(np.full((4, 1, 2), EPSILON, np.float32))
    assert not np.any(got[2]) and np.all(np.asarray(got)[[0, 1, 3]] != 0)


def test_an_array_without_entries_is_no_error():
    y, taken = standardize(jnp.zeros((0, 3)), (1, 3), epsilon=EPSILON)
    assert y.shape == (0, 3) and taken.mean.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("value", [0.0, 0.1, -3e4, 1e30])
def test_a_constant_array_becomes_exactly_the_bias_with_no_gradient_but_the_centred_one(value):
    bias = jnp.array([1.0, -2.0, 0.3])
    y, taken = standardize(jnp.full((5, 3), value), (1, 3), bias=bias, epsilon=1e-6)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (5, 3)))
    assert not np.any(taken.var)


def test_the_plain_implementation_can_be_asked_for():
    (x,) = arrays()
    forced, _ = standardize(x, (4, 3, 1), epsilon=EPSILON, implementation="xla")
    assert relative_error(forced, reference_standardize(x, (4, 3, 1), EPSILON)) < BOUND


def test_an_unknown_implementation_is_refused_with_those_there_are():
    message = r"implementation='cuda' is unknown; use .*'xla'"
    with without_type_checks(), pytest.raises(ValueError, match=message):
        standardize(jnp.ones((2, 3)), (2, 1), epsilon=0.1, implementation="cuda")


def test_integers_are_refused_with_a_remedy():
    with pytest.raises(TypeError, match=r"x must be floating .* int32 \[2, 3\]; convert it"):
        standardize(jnp.ones((2, 3), jnp.int32), (2, 1), epsilon=EPSILON)


@pytest.mark.parametrize("name", ["scale", "bias"])
@pytest.mark.parametrize("shape", [(5,), (2, 6), (1, 4, 3, 6)])
def test_a_parameter_that_does_not_broadcast_is_refused_with_both_shapes(name, shape):
    (x,) = arrays()
    with pytest.raises(ValueError, match=rf"{name} \[.*\] does not broadcast to x \[4, 3, 6\]"):
        standardize(x, (4, 3, 1), epsilon=EPSILON, **{name: np.ones(shape, np.float32)})


def test_a_statistics_shape_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"asks for 4 groups along axis 2 of x \[4, 3, 6\]"):
        standardize(arrays()[0], (4, 3, 4), epsilon=EPSILON)


def test_an_axis_that_is_not_mapped_is_named_with_the_remedy():
    with pytest.raises(ValueError, match=r"mapped axis 'batch', but no vmap.*axis_name=None"):
        standardize(arrays()[0], (1, 1, 6), epsilon=EPSILON, axis_name="batch")
