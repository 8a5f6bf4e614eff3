"""Laws 7 to 9, 21 to 23, 25 and 27: running statistics, their dtypes, and what has no state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import batch_norm, cumulative, debiased, ema, frozen, guarded, window
from tests.laws.members import (
    ACTIVATIONS,
    SHAPE,
    array,
    claiming,
    epsilon,
    expected_output,
    once,
    output,
    over,
)
from tests.stats.programs import compiled
from tests.stats.reference import reference_moments, relative_error, rounding

BOUND = rounding(np.float32, np.prod(SHAPE))
FEATURES = SHAPE[-1:]
STREAMING = claiming("streaming")
ESTIMATORS = {
    "ema": ema(0.9),
    "debiased": debiased(0.9),
    "cumulative": cumulative(),
    "window": window(3),
    "guarded": guarded(ema(0.9)),
    "frozen": frozen(ema(0.9)),
}


def call(member, x, stats, estimator, use_running_average=False, **options):
    return member.function(
        x,
        stats,
        **{**member.options, **options},
        use_running_average=use_running_average,
        estimator=estimator,
    )


@over(STREAMING)
def test_estimates_are_right_at_step_1_2_10_and_1000(member):
    x = array(0, (1000, 4, 2, 4), 3.0)
    estimators = {name: ESTIMATORS[name] for name in ("ema", "debiased", "cumulative", "window")}

    @compiled
    def run(batches):
        def step(states, x):
            new = {n: call(member, x, states[n], e)[1] for n, e in estimators.items()}
            return new, {n: e.read(new[n]) for n, e in estimators.items()}

        return jax.lax.scan(step, {n: e.init((4,)) for n, e in estimators.items()}, batches)[1]

    readings = run(x)
    wide = x.astype(np.float64)
    means, variances = wide.mean((1, 2)), wide.var((1, 2))
    for steps in (1, 2, 10, 1000):
        shares = 0.9 ** np.arange(steps - 1, -1, -1)
        seen = {"cumulative": wide[:steps], "window": wide[max(0, steps - 3) : steps]}
        expected = {
            "ema": (
                0.1 * shares @ means[:steps],
                0.9**steps + 0.1 * shares @ variances[:steps],
            ),
            "debiased": (
                shares @ means[:steps] / shares.sum(),
                shares @ variances[:steps] / shares.sum(),
            ),
            **{n: (v.mean((0, 1, 2)), v.var((0, 1, 2))) for n, v in seen.items()},
        }
        for name, (mean, var) in expected.items():
            bound = rounding(np.float32, steps)
            assert relative_error(readings[name].mean[steps - 1], mean) < bound
            assert relative_error(readings[name].var[steps - 1], var) < bound


@over(STREAMING)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_evaluation_before_training_uses_mean_zero_and_variance_one(member, name):
    x, estimator = array(mean=3.0), ESTIMATORS[name]
    evaluate = functools.partial(call, member, estimator=estimator, use_running_average=True)
    y, _ = compiled(evaluate)(x, estimator.init(FEATURES))
    assert relative_error(y, x / np.sqrt(1 + epsilon(member))) < rounding(np.float32)


@over(STREAMING)
def test_a_bfloat16_network_keeps_float32_statistics_that_arrive(member):
    # Haiku's, kept in bfloat16, are frozen or NaN here (law 9).
    average = ema(0.999)
    x = jnp.asarray(array(mean=3.0)).astype(jnp.bfloat16)

    @compiled
    def run(x):
        def step(stats, _):
            return call(member, x, stats, average)[1], None

        return jax.lax.scan(step, average.init(FEATURES, x.dtype), length=3000)[0]

    stats = run(x)
    want = reference_moments(x.reshape(-1, 4), (1, 4))
    left = 0.999**3000
    assert (stats.mean.dtype, stats.var.dtype) == (np.float32, np.float32)
    assert relative_error(stats.mean, (1 - left) * want.mean[0]) < rounding(np.float32, 3000)
    assert relative_error(stats.var, left + (1 - left) * want.var[0]) < rounding("f4", 3000)


@over(STREAMING)
def test_complex_batches_change_no_dtype_of_the_state(member):
    x = (array(0) + 1j * array(1, mean=2.0)).astype(np.complex64)
    for estimator in ESTIMATORS.values():
        state = estimator.init(FEATURES, jnp.complex64)
        y, after = jax.eval_shape(functools.partial(call, member, estimator=estimator), x, state)
        before = jax.eval_shape(lambda state=state: state)
        assert jax.tree.map(lambda v: (v.shape, v.dtype), after) == jax.tree.map(
            lambda v: (v.shape, v.dtype), before
        )
        assert y.dtype == np.complex64


@over(STREAMING)
def test_complex_batches_give_the_numbers_of_their_definition(member):
    x = (array(0) + 1j * array(1, mean=2.0)).astype(np.complex64)
    population = cumulative()
    run = compiled(functools.partial(call, member, estimator=population))
    y, state = run(x, population.init(FEATURES, jnp.complex64))
    assert relative_error(y, expected_output(member, x)) < BOUND
    want = reference_moments(x.reshape(-1, 4), (1, 4))
    assert relative_error(state.mean, want.mean[0]) < BOUND
    assert relative_error(state.var, want.var[0]) < BOUND


def for_one_value(member):
    """Returns options with which each statistic of an array [1, C] has one value."""
    return {"ghost_batch_size": 1} if "ghost_batch_size" in member.options else {}


@over(STREAMING)
def test_one_value_per_channel_in_training_is_refused(member):
    with pytest.raises(ValueError, match="one value per feature.*its variance is zero"):
        call(member, array(shape=(1, 4)), ema().init((4,)), ema(), **for_one_value(member))


@over(STREAMING)
def test_per_example_gradients_through_training_mode_are_zero(member):
    # A batch of one equals its mean: what vmap(grad) finds is nothing, which the docstring says.
    stats = ema().init((4,))

    def loss(x):
        options = {"single_value": "allow", **for_one_value(member)}
        y, _ = call(member, x[None], stats, ema(), **options)
        return jnp.sum(jnp.sin(y + 1) * jnp.arange(4.0))

    gradients = compiled(jax.vmap(jax.grad(loss)))(array(shape=(5, 4)))
    # Two equal terms of size scale / sqrt(epsilon) cancel to at most one rounding.
    term = 3 / np.sqrt(epsilon(member))
    assert np.max(np.abs(gradients)) <= np.finfo(np.float32).eps * term


def test_the_documentation_of_batch_norm_says_so():
    assert "gradients by `vmap(grad)` are zero in training mode" in batch_norm.__doc__


@over(STREAMING)
def test_rematerialization_does_not_update_the_statistics_twice(member):
    # Law 27: PyTorch's do under checkpointing, where the forward pass runs again.
    average, x = ema(0.9), array(mean=3.0)

    @compiled
    @functools.partial(jax.grad, has_aux=True)
    def gradient(scale, stats):
        @jax.checkpoint
        def block(scale, stats):
            return call(member, x, stats, average, scale=scale)

        y, after = block(scale, stats)
        return jnp.sum(jnp.sin(y)), after

    _, stats = gradient(np.ones(FEATURES, np.float32), average.init(FEATURES))
    assert relative_error(stats.mean, 0.1 * x.astype(np.float64).mean((0, 1, 2))) < BOUND


@once
def program(member):
    return jax.jit(functools.partial(output, member))


@over(ACTIVATIONS)
@pytest.mark.sampled(6)
def test_no_shape_is_remembered_from_one_call_to_the_next(member):
    for shape in (SHAPE, (2, 5, 2, 6), (8, 2, 3, 4), SHAPE):
        x = array(shape=shape, mean=3.0)
        y = program(member)(x)
        assert relative_error(y, expected_output(member, x)) < BOUND
