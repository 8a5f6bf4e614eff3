"""Batch normalization against float64 NumPy and Flax, and its three switches."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from jaxnorm import BatchStats, cumulative, debiased, ema, frozen, guarded, window
from tests.stats.programs import compiled, without_type_checks
from tests.stats.reference import relative_error, rounding

batch_norm = compiled(jaxnorm.batch_norm)

X = np.random.default_rng(0).normal(3, 2, (8, 3, 6)).astype(np.float32)
SCALE = np.random.default_rng(1).normal(1, 0.5, 6).astype(np.float32)
BIAS = np.random.default_rng(2).normal(0, 1, 6).astype(np.float32)
RUNNING = BatchStats(
    np.random.default_rng(3).normal(2, 1, 6).astype(np.float32),
    np.random.default_rng(4).gamma(2, 1, 6).astype(np.float32),
)
EPSILON = 1e-5


def standardized(x, mean, var):
    return (x.astype(np.float64) - mean) / np.sqrt(var + EPSILON)


def by_batch(x, axes=(0, 1)):
    wide = x.astype(np.float64)
    return standardized(x, wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True))


def assert_right(y, want, n=24):
    assert relative_error(y, want) < rounding(np.float32, n)


def assert_kept(stats):
    for have, want in zip(stats, RUNNING, strict=True):
        np.testing.assert_array_equal(have, want)


def assert_moved(stats, decay=0.99):
    wide = X.astype(np.float64)
    assert_right(stats.mean, decay * RUNNING.mean + (1 - decay) * wide.mean((0, 1)))
    assert_right(stats.var, decay * RUNNING.var + (1 - decay) * wide.var((0, 1)))


def test_training_normalizes_by_the_batch_and_moves_the_statistics():
    y, stats = batch_norm(X, RUNNING, SCALE, BIAS, use_running_average=False)
    assert_right(y, by_batch(X) * SCALE + BIAS)
    assert_moved(stats)


def test_evaluation_normalizes_by_the_statistics_and_keeps_them():
    y, stats = batch_norm(X, RUNNING, SCALE, BIAS, use_running_average=True)
    assert_right(y, standardized(X, *RUNNING) * SCALE + BIAS)
    assert_kept(stats)


def test_the_batch_may_normalize_without_moving_the_statistics():
    y, stats = batch_norm(X, RUNNING, use_running_average=False, update_stats=False)
    assert_right(y, by_batch(X))
    assert_kept(stats)


def test_the_statistics_may_normalize_and_move():
    y, stats = batch_norm(X, RUNNING, use_running_average=True, update_stats=True)
    assert_right(y, standardized(X, *RUNNING))
    assert_moved(stats)


def test_numbers_and_statistics_are_those_of_flax():
    for use_running_average in (False, True):
        module = nn.BatchNorm(
            use_running_average=use_running_average, momentum=0.9, use_fast_variance=False
        )
        variables = {
            "params": {"scale": SCALE, "bias": BIAS},
            "batch_stats": RUNNING._asdict(),
        }
        flax_y, updated = module.apply(variables, X, mutable="batch_stats")
        y, stats = batch_norm(
            X, RUNNING, SCALE, BIAS, use_running_average=use_running_average, estimator=ema(0.9)
        )
        assert_right(y, np.asarray(flax_y))
        assert_right(stats.mean, np.asarray(updated["batch_stats"]["mean"]))
        assert_right(stats.var, np.asarray(updated["batch_stats"]["var"]))


@pytest.mark.parametrize("axis", [1, -2])
def test_features_may_stand_at_any_axis(axis):
    x = np.moveaxis(X, -1, 1)
    y, stats = batch_norm(x, RUNNING, SCALE, BIAS, axis=axis, use_running_average=False)
    assert_right(np.moveaxis(np.asarray(y), 1, -1), by_batch(X) * SCALE + BIAS)
    assert_moved(stats)


@pytest.mark.parametrize("axis", [(1, 2), (-1, 1)])
def test_there_may_be_several_feature_axes(axis):
    stats = ema(0.0).init((3, 6))
    scale = np.random.default_rng(5).normal(size=(3, 6)).astype(np.float32)
    y, stats = batch_norm(X, stats, scale, axis=axis, estimator=ema(0.0), use_running_average=False)
    assert_right(y, by_batch(X, 0) * scale)
    assert_right(stats.var, X.astype(np.float64).var(0))


@pytest.mark.parametrize("shape", [(24, 6), (4, 2, 3, 6), (2, 2, 2, 1, 3, 6)])
def test_the_dense_and_the_convolutional_batch_norm_are_one_thing(shape):
    y, stats = batch_norm(X.reshape(shape), RUNNING, SCALE, BIAS, use_running_average=False)
    assert_right(y.reshape(X.shape), by_batch(X) * SCALE + BIAS)
    assert_moved(stats)


def test_the_gradient_passes_through_the_batch_statistics_and_not_through_the_running_ones():
    def gradient(use_running_average):
        def loss(x, stats):
            y, _ = jaxnorm.batch_norm(x, stats, use_running_average=use_running_average)
            return jnp.sum(y**2)

        return compiled(jax.grad(loss))(X, RUNNING)

    # The sum of squares of a normalized batch is constant.
    assert np.max(np.abs(gradient(False))) < 1e-3
    evaluated = gradient(True)
    assert_right(evaluated, 2 * standardized(X, *RUNNING) / np.sqrt(RUNNING.var + EPSILON))


def test_the_gradient_of_the_running_statistics_is_there_for_those_who_ask():
    def loss(stats):
        return jnp.sum(jaxnorm.batch_norm(X, stats, use_running_average=True)[0])

    gradient = compiled(jax.grad(loss))(RUNNING)
    rstd = 1 / np.sqrt(RUNNING.var.astype(np.float64) + EPSILON)
    assert_right(gradient.mean, -24 * rstd)
    pull = -0.5 * rstd**2 * standardized(X, *RUNNING).sum((0, 1))
    assert relative_error(gradient.var, pull, 1.0) < rounding(np.float32, 24)


@pytest.mark.parametrize(
    "estimator",
    [debiased(0.9), cumulative(), window(3), guarded(ema(0.9)), ema(0.9, unbiased=True)],
    ids=["debiased", "cumulative", "window", "guarded", "unbiased"],
)
@pytest.mark.sampled(4)
def test_any_estimator_may_keep_the_statistics(estimator):
    state = estimator.init((6,))
    _, state = batch_norm(X, state, use_running_average=False, estimator=estimator)
    y, _ = batch_norm(X, state, SCALE, use_running_average=True, estimator=estimator)
    reading = estimator.read(state)
    wanted = standardized(X, np.asarray(reading.mean), np.asarray(reading.var)) * SCALE
    assert_right(y, wanted)


def test_a_frozen_estimator_trains_without_moving():
    y, stats = batch_norm(X, RUNNING, use_running_average=False, estimator=frozen(ema()))
    assert_right(y, by_batch(X))
    assert_kept(stats)


@pytest.mark.parametrize("use_running_average", [False, True])
def test_parameters_may_differ_per_example(use_running_average):
    scale = np.random.default_rng(5).normal(size=(8, 1, 6)).astype(np.float32)
    y, _ = batch_norm(X, RUNNING, scale, use_running_average=use_running_average)
    base = standardized(X, *RUNNING) if use_running_average else by_batch(X)
    assert_right(y, base * scale)


def test_a_masked_batch_moves_the_statistics_by_its_valid_entries():
    mask = np.random.default_rng(5).random((8, 3, 1)) < 0.5
    _, stats = batch_norm(
        X, RUNNING, mask=mask, use_running_average=False, estimator=ema(0.0, unbiased=True)
    )
    valid = X[mask[..., 0]].astype(np.float64)
    assert_right(stats.mean, valid.mean(0))
    assert_right(stats.var, valid.var(0, ddof=1))


def test_one_value_per_feature_is_refused_with_the_remedies():
    message = r"one value per feature, x \[1, 6\].*use_running_average=True, or single_value='runn"
    with pytest.raises(ValueError, match=message):
        batch_norm(X[:1, 0], RUNNING, use_running_average=False)


def test_one_value_per_feature_may_take_the_running_statistics_and_leave_them_alone():
    y, stats = batch_norm(X[:1, 0], RUNNING, use_running_average=False, single_value="running")
    assert_right(y, standardized(X[:1, 0], *RUNNING))
    assert_kept(stats)


def test_one_value_per_feature_may_be_allowed_and_gives_the_bias():
    y, stats = batch_norm(
        X[:1, 0], RUNNING, None, BIAS, use_running_average=False, single_value="allow"
    )
    np.testing.assert_array_equal(y, BIAS[None])
    assert_right(stats.var, 0.99 * RUNNING.var.astype(np.float64))


def test_one_value_per_feature_is_no_obstacle_to_evaluation():
    y, _ = batch_norm(X[:1, 0], RUNNING, use_running_average=True)
    assert_right(y, standardized(X[:1, 0], *RUNNING))


def test_one_value_per_feature_and_shard_is_a_batch_over_the_mapped_axis():
    mapped = jax.vmap(
        lambda x: jaxnorm.batch_norm(x, RUNNING, use_running_average=False, axis_name="i")[0],
        axis_name="i",
    )
    assert_right(compiled(mapped)(X[:, :1])[:, 0], by_batch(X[:, 0], 0))


def test_an_unknown_choice_for_single_values_is_refused():
    message = r"single_value='ignore' is unknown; use 'raise', 'warn', 'running'"
    with without_type_checks(), pytest.raises(ValueError, match=message):
        batch_norm(X[:1, 0], RUNNING, use_running_average=False, single_value="ignore")


def test_a_parameter_that_fits_neither_features_nor_input_is_refused():
    with pytest.raises(ValueError, match=r"scale \[3\] fits neither the features \[6\] on axes"):
        batch_norm(X, RUNNING, SCALE[:3], use_running_average=True)


def test_an_axis_that_is_not_mapped_is_named_with_the_remedy():
    with pytest.raises(ValueError, match=r"mapped axis 'batch', but no vmap.*axis_name=None"):
        batch_norm(X, RUNNING, use_running_average=False, axis_name="batch")


@pytest.mark.parametrize("average", [True, False])
def test_running_statistics_of_other_features_are_refused_with_their_shape(average):
    stats = ema().init((4,))
    with pytest.raises(ValueError, match=r"running statistics of shape \[4\]"):
        jaxnorm.batch_norm(X, stats, use_running_average=average)


def test_evaluation_ignores_an_axis_that_is_not_mapped():
    y, _ = batch_norm(X, RUNNING, use_running_average=True, axis_name="batch")
    assert_right(y, standardized(X, *RUNNING))


def test_one_value_per_feature_may_be_told_of_by_a_warning():
    with pytest.warns(UserWarning, match=r"one value per feature, x \[1, 6\]; it uses the running"):
        y, stats = jaxnorm.batch_norm(
            X[:1, 0], RUNNING, use_running_average=False, single_value="warn"
        )
    assert_right(y, (X[:1, 0].astype(np.float64) - RUNNING.mean) / np.sqrt(RUNNING.var + 1e-5))
    assert stats is RUNNING
