"""Recurrent, L1 and batch group normalization: steps under scan, evaluation, and special groups."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from jaxnorm import (
    BatchStats,
    L1State,
    cumulative,
    ema,
    recurrent_batch_norm,
)
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

batch_group_norm = compiled(jaxnorm.batch_group_norm)
l1_batch_norm = compiled(jaxnorm.l1_batch_norm)

X = np.random.default_rng(0).normal(3, 2, (5, 6, 4)).astype(np.float32)  # [T, N, C]
STEPS = 3


def assert_right(y, want):
    assert relative_error(y, want) < rounding(np.float32, X.size)


def over_time(state, x=X, **how):
    """Returns the outputs of all steps, and the state behind the last, by a scan."""

    def step(state, now):
        y, state = recurrent_batch_norm(now[1], state, now[0], max_steps=STEPS, **how)
        return state, y

    state, y = jax.jit(lambda s: jax.lax.scan(step, s, (jnp.arange(len(x)), x)))(state)
    return y, state


def test_each_step_has_statistics_of_its_own_and_later_ones_share_the_last():
    y, state = over_time(
        cumulative().init((STEPS, 4)), use_running_average=False, estimator=cumulative()
    )
    wide = X.astype(np.float64)
    alone = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    assert_right(y, alone)
    np.testing.assert_array_equal(state.count[:, 0], [6, 6, 18])
    assert_right(state.mean, np.stack([wide[0].mean(0), wide[1].mean(0), wide[2:].mean((0, 1))]))
    assert_right(state.var, np.stack([wide[0].var(0), wide[1].var(0), wide[2:].var((0, 1))]))


def test_evaluation_reads_the_statistics_of_the_step():
    rng = np.random.default_rng(1)
    mean, var = rng.normal(size=(STEPS, 4)), rng.uniform(0.5, 2, (STEPS, 4))
    state = BatchStats(jnp.asarray(mean, jnp.float32), jnp.asarray(var, jnp.float32))
    y, _ = over_time(state, use_running_average=True)
    rows = [0, 1, 2, 2, 2]
    want = (X - np.float64(state.mean)[rows][:, None]) / np.sqrt(
        np.float64(state.var)[rows][:, None] + 1e-5
    )
    assert_right(y, want)


def test_the_module_starts_its_scale_at_a_tenth():
    layer = jaxnorm.linen.RecurrentBatchNorm(max_steps=2, use_running_average=False)
    variables = layer.init(jax.random.key(0), X[0], step=0)
    np.testing.assert_array_equal(variables["params"]["scale"], np.full(4, 0.1, np.float32))
    assert variables["batch_stats"]["mean"].shape == (2, 4)


def test_a_step_that_is_no_integer_is_refused():
    with pytest.raises(TypeError, match="step must be an integer, got float32"):
        recurrent_batch_norm(X[0], ema().init((2, 4)), 1.0, max_steps=2, use_running_average=False)


def test_l1_evaluation_is_by_the_running_deviation():
    state = L1State(jnp.full(4, 2.0), jnp.full(4, 0.5))
    y, _ = l1_batch_norm(X, state, use_running_average=True)
    assert_right(y, (np.float64(X) - 2) / (0.5 + 1e-5))


def test_l1_agrees_with_batch_normalization_for_gaussians():
    x = np.random.default_rng(0).normal(5, 3, (100_000, 1)).astype(np.float32)
    state = L1State(jnp.zeros(1), jnp.ones(1))
    y, new = l1_batch_norm(x, state, use_running_average=False, decay=0.0)
    # Both estimate the standard deviation; theirs differ by about 0.7 / sqrt(n) parts.
    assert abs(float(y.std()) - 1) < 4 / np.sqrt(len(x))
    assert abs(float(new.deviation[0]) - 3) < 12 / np.sqrt(len(x))


def test_l1_of_equal_values_is_the_bias_with_finite_gradients():
    state = L1State(jnp.zeros(2), jnp.ones(2))

    def loss(x):
        bias = jnp.full(2, 7.0)
        y, _ = jaxnorm.l1_batch_norm(x, state, None, bias, use_running_average=False)
        return y.sum(), y

    gradient, y = jax.jit(jax.grad(loss, has_aux=True))(jnp.full((4, 2), 3.0))
    np.testing.assert_array_equal(y, np.full((4, 2), 7.0))
    assert np.isfinite(gradient).all()


def test_a_wholly_masked_batch_changes_no_deviation():
    state = L1State(jnp.zeros(4), jnp.ones(4))
    _, new = l1_batch_norm(X, state, use_running_average=False, mask=np.zeros((5, 1, 1), bool))
    jax.tree.map(np.testing.assert_array_equal, new, state)


@pytest.mark.parametrize("axis", [-1, 1])
def test_as_many_groups_as_channels_are_batch_normalization(axis):
    x = np.moveaxis(X, -1, axis)
    how = {"axis": axis, "use_running_average": False}
    scale = np.arange(1.0, 5.0, dtype=np.float32)
    y, stats = batch_group_norm(x, ema().init((4,)), scale, num_groups=4, **how)
    want, wanted = jaxnorm.batch_norm(x, ema().init((4,)), scale, **how)
    assert_right(y, want)
    assert_right(stats.var, wanted.var)


def test_groups_that_do_not_divide_the_values_are_refused():
    message = r"num_groups=5 does not divide the 24 values of an example of x \[5, 6, 4\]"
    with pytest.raises(ValueError, match=message):
        batch_group_norm(X, ema().init((5,)), num_groups=5, use_running_average=False)


def test_evaluation_of_groups_is_by_their_running_statistics():
    stats = BatchStats(jnp.array([1.0, 2.0]), jnp.array([4.0, 9.0]))
    y, _ = batch_group_norm(X, stats, num_groups=2, use_running_average=True)
    mean, sd = np.repeat([1.0, 2.0], 2), np.sqrt(np.repeat([4.0, 9.0], 2) + 1e-5)
    assert_right(y, (X - mean) / sd)
