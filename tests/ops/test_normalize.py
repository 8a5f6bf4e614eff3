"""Normalize with given moments: numbers, dtypes, gradients of every argument and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import normalize
from jaxnorm.stats import Moments
from tests.laws.implementations import implementation as implementation
from tests.ops.reference import naive_spread
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding, sample_sum, spread, wide

SHAPE = (4, 3, 6)
STATS_SHAPES = [(1, 1, 6), (4, 3, 1), (4, 1, 2), SHAPE]
BOUND = rounding(np.float32)
EPSILON = 1e-3


def arguments(stats_shape, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(2, 1, SHAPE).astype(dtype),
        "mean": rng.normal(1, 1, stats_shape).astype(dtype),
        "var": rng.gamma(2, 1, stats_shape).astype(dtype),
        "scale": rng.normal(1, 0.5, 6).astype(dtype),
        "bias": rng.normal(0, 1, (3, 1)).astype(dtype),
    }


def apply(given, epsilon=EPSILON, **options):
    moments = Moments(given["mean"], given["var"], jnp.ones(()))
    return normalize(
        given["x"], moments, scale=given["scale"], bias=given["bias"], epsilon=epsilon, **options
    )


def expected_output(given):
    given = {name: wide(value) for name, value in given.items()}
    mean, var = (spread(given[name], SHAPE) for name in ("mean", "var"))
    return (given["x"] - mean) / np.sqrt(var + EPSILON) * given["scale"] + given["bias"]


@pytest.mark.parametrize("stats_shape", STATS_SHAPES)
def test_the_output_is_that_of_float64(stats_shape):
    given = arguments(stats_shape)
    assert relative_error(compiled(apply)(given), expected_output(given)) < BOUND


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("stats_shape", STATS_SHAPES[1:3])
def test_every_derivative_of_every_argument_is_that_of_plain_autodiff(stats_shape):
    given = arguments(stats_shape, dtype=np.float64)
    tangent = arguments(stats_shape, seed=1, dtype=np.float64)

    def naive(given):
        mean, var = (naive_spread(given[name], SHAPE) for name in ("mean", "var"))
        return (given["x"] - mean) / jnp.sqrt(var + EPSILON) * given["scale"] + given["bias"]

    def derivatives(function):
        def loss(given):
            return jnp.sum(jnp.sin(function(given)))

        gradient = jax.grad(loss)

        @compiled
        def compute(given, tangent):
            forward = jax.jvp(function, (given,), (tangent,))[1]
            return forward, gradient(given), jax.jvp(gradient, (given,), (tangent,))[1]

        return jax.tree.leaves(compute(given, tangent))

    for have, want in zip(derivatives(apply), derivatives(naive), strict=True):
        assert relative_error(have, want) < rounding(np.float64, 72)


def test_only_x_the_moments_and_the_scale_are_kept_for_the_backward_pass():
    given = jax.tree.map(jnp.asarray, arguments((1, 1, 6)))
    given["x"] = given["x"].astype(jnp.bfloat16)

    def residuals(given):
        return jax.tree.leaves(jax.vjp(apply, given)[1])

    kept = sum(v.size * v.dtype.itemsize for v in jax.eval_shape(residuals, given))
    # The scale, the mean in two parts and the deviation, and room for epsilon and the count.
    assert kept <= given["x"].nbytes + 4 * 6 * 4 + 8


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_the_output_has_the_dtype_of_the_input_and_one_rounding_to_it(dtype):
    given = arguments((4, 3, 1))
    given["x"] = jnp.asarray(given["x"]).astype(dtype)
    y, expected = apply(given), expected_output(given)
    half_ulp = float(jnp.finfo(dtype).eps) / 2
    assert y.dtype == dtype
    assert np.all(np.abs(wide(y) - expected) <= half_ulp * np.abs(expected) + 1e-5)


def test_the_output_may_have_another_dtype():
    assert apply(arguments((4, 3, 1)), dtype=jnp.bfloat16).dtype == jnp.bfloat16


def test_mean_and_variance_may_have_different_shapes_that_broadcast():
    x = arguments((1, 1, 6))["x"]
    mean, var = jnp.zeros((1, 1, 1)), jnp.full((4, 1, 1), 4.0)
    y = normalize(x, Moments(mean, var, jnp.ones(())), epsilon=0.0)
    assert relative_error(y, x / 2) < BOUND


def test_complex_arrays_take_complex_means():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(2, 3)) + 1j * rng.normal(size=(2, 3))).astype(np.complex64)
    moments = Moments(jnp.full((2, 1), 1 - 2j), jnp.full((2, 1), 4.0), jnp.ones(()))
    y = normalize(x, moments, epsilon=0.0)
    assert y.dtype == np.complex64 and relative_error(y, (wide(x) - (1 - 2j)) / 2) < BOUND


def test_integers_are_refused_with_a_remedy():
    moments = Moments(jnp.zeros((2, 1)), jnp.ones((2, 1)), jnp.ones(()))
    with pytest.raises(TypeError, match=r"x must be floating .* int32 \[2, 3\]; convert it"):
        normalize(jnp.ones((2, 3), jnp.int32), moments, epsilon=0.0)


def test_moments_of_another_rank_are_refused_with_both_shapes():
    moments = Moments(jnp.zeros(3), jnp.ones(3), jnp.ones(()))
    with pytest.raises(ValueError, match=r"moments \[3\] must have one entry per axis of x \[2, 3"):
        normalize(jnp.ones((2, 3)), moments, epsilon=0.0)


def test_moments_that_do_not_divide_are_refused():
    moments = Moments(jnp.zeros((1, 2)), jnp.ones((1, 2)), jnp.ones(()))
    with pytest.raises(ValueError, match=r"asks for 2 groups along axis 1 of x \[2, 3\]"):
        normalize(jnp.ones((2, 3)), moments, epsilon=0.0)


@pytest.mark.parametrize("name", ["scale", "bias"])
def test_a_parameter_that_does_not_broadcast_is_refused_with_both_shapes(name):
    moments = Moments(jnp.zeros((1, 3)), jnp.ones((1, 3)), jnp.ones(()))
    with pytest.raises(ValueError, match=rf"{name} \[2\] does not broadcast to x \[2, 3\]"):
        normalize(jnp.ones((2, 3)), moments, epsilon=0.0, **{name: jnp.ones(2)})


LARGE = (8, 64, 96)  # large enough for the formulas that the CPU has of its own


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("stats_shape", [(1, 1, 96), (8, 64, 1), (8, 1, 4)])
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.sampled(6)
def test_gradients_and_tangents_of_large_arrays_are_those_of_float64(
    stats_shape, dtype, mean, implementation
):
    rng = np.random.default_rng(0)
    x, ct, d_x = (jnp.asarray(rng.normal(center, 1, LARGE), dtype) for center in (mean, 0.0, 0.0))
    given = mean + rng.normal(0, 0.1, stats_shape), rng.gamma(9, 0.1, stats_shape)
    affine = rng.normal(1, 0.5, 96), rng.normal(0, 1, 96)
    moments = [jnp.asarray(v, jnp.float32) for v in (*given, *affine)]

    def run(x, mean, var, scale, bias):
        return normalize(x, Moments(mean, var, jnp.ones(())), scale=scale, bias=bias, epsilon=0.1)

    @jax.jit
    def derivatives(*inputs):
        tangents = (d_x, *(v[1] * jnp.ones_like(v[0]) for v in zip(moments, (0.0, 0.0, 1.0, 2.0))))
        moved = jax.jvp(run, inputs, tangents)[1]
        return moved, jax.vjp(run, *inputs)[1](ct)

    moved, gradients = derivatives(x, *moments)
    average, var, scale, _ = map(wide, moments)
    rstd = 1 / np.sqrt(spread(var, LARGE) + 0.1)
    xhat = (wide(x) - spread(average, LARGE)) * rstd
    push = wide(ct) * scale * rstd
    want = [
        push,
        -sample_sum(push, stats_shape),
        -sample_sum(push * xhat * rstd, stats_shape) / 2,
        (wide(ct) * xhat).sum((0, 1)),
        wide(ct).sum((0, 1)),
    ]
    half = 0 if dtype == jnp.float32 else float(jnp.finfo(dtype).eps) / 2
    for have, value, bound in zip(gradients, want, [BOUND + half, *[10 * BOUND] * 4], strict=True):
        assert relative_error(have, value, at_least=1.0) < bound
    # In forward mode the affine part is rounded by itself.
    wanted = scale * rstd * wide(d_x) + xhat + 2
    assert relative_error(moved, wanted, at_least=1.0) < 10 * BOUND + 2 * half


def test_with_scale_and_bias_alike_no_more_is_kept():
    x, one = jnp.ones(LARGE, jnp.bfloat16), jnp.ones((1, 1, 96))

    def residuals(x, scale, bias):
        moments = Moments(one, one, jnp.ones(()))
        pull = jax.vjp(
            lambda *a: normalize(a[0], moments, scale=a[1], bias=a[2], epsilon=0.1), x, scale, bias
        )[1]
        return jax.tree.leaves(pull)

    kept = sum(
        v.size * v.dtype.itemsize for v in jax.eval_shape(residuals, x, one[0, 0], one[0, 0])
    )
    assert kept <= x.nbytes + 4 * one.nbytes
