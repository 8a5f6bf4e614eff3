"""The laws of running statistics hold for the linen batch norm."""

import functools
import operator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import ModifyScopeVariableError
from numpy.testing import assert_allclose, assert_array_equal

from jaxnorm.linen import BatchNorm
from jaxnorm.stats import Moments
from tests.linen.reference import relative_error, sample

EPS = float(jnp.finfo(jnp.float32).eps)
KEY = jax.random.key(0)
TRAIN = BatchNorm(use_running_average=False, momentum=0.9)


def trained(norm, x, variables=None, **options):
    """Returns the output of one training step and the statistics after it."""
    variables = norm.init(KEY, x) if variables is None else variables
    y, updated = norm.apply(variables, x, mutable=["batch_stats"], **options)
    return y, updated["batch_stats"]


def ema_of(x, decay=0.9, axes=0):
    """Returns the running statistics in float64 after one batch."""
    x = np.asarray(x, np.float64)
    return {"mean": (1 - decay) * x.mean(axes), "var": decay + (1 - decay) * x.var(axes)}


def assert_stats_close(stats, expected, rtol=4 * EPS):
    assert {*stats} == {*expected}
    for name in expected:
        assert_allclose(stats[name], expected[name], rtol=rtol, atol=rtol)


def test_running_statistics_are_the_moving_average_of_the_batch():
    x = sample(3.0, (16, 5))
    assert_stats_close(trained(TRAIN, x)[1], ema_of(x))


def test_initialization_takes_nothing_from_the_batch():
    stats = TRAIN.init(KEY, sample(5.0, (16, 5)))["batch_stats"]
    assert_array_equal(stats["mean"], np.zeros(5))
    assert_array_equal(stats["var"], np.ones(5))


@pytest.mark.nightly
def test_law_2_masked_shards_pooled_are_the_whole():
    x = sample(4.0, (2, 8, 3)) * np.array([1.0, 3.0])[:, None, None]
    mask = np.arange(8)[:, None] < np.array([[[8]], [[1]]])
    norm = BatchNorm(use_running_average=False, momentum=0.9, axis_name="shards")
    variables = norm.init(KEY, x[0])
    step = functools.partial(norm.apply, variables, mutable=["batch_stats"])
    y, updated = jax.vmap(lambda x, m: step(x, mask=m), axis_name="shards")(x, mask)
    valid = np.concatenate([x[0], x[1, :1]])
    expected = ema_of(valid)
    for stats in (jax.tree.map(lambda v, i=i: v[i], updated["batch_stats"]) for i in range(2)):
        assert_stats_close(stats, expected)
    whole = (valid - valid.mean(0, np.float64)) / np.sqrt(valid.var(0, np.float64) + 1e-5)
    assert relative_error(np.concatenate([y[0], y[1, :1]]), whole) < 4e-6


def test_law_2_flax_gives_each_shard_the_same_weight():
    x = sample(4.0, (2, 8, 3)) * np.array([1.0, 3.0], np.float32)[:, None, None]
    mask = np.arange(8)[:, None] < np.array([[[8]], [[1]]])
    norm = nn.BatchNorm(use_running_average=False, momentum=0.0, axis_name="shards")
    variables = norm.init(KEY, x[0])
    step = functools.partial(norm.apply, variables, mutable=["batch_stats"])
    _, updated = jax.vmap(lambda x, m: step(x, mask=m), axis_name="shards")(x, mask)
    true = np.concatenate([x[0], x[1, :1]]).mean(0)
    assert (np.abs(updated["batch_stats"]["mean"][0] - true) > 1).all()


@pytest.mark.parametrize("mask", [np.zeros((16, 1), bool), np.zeros((16, 1), np.float32)])
def test_law_4_a_wholly_masked_batch_changes_no_statistics(mask):
    y, stats = trained(TRAIN, sample(3.0, (16, 5)), mask=mask)
    assert np.isfinite(y).all()
    assert_stats_close(stats, {"mean": np.zeros(5), "var": np.ones(5)}, rtol=0)


def test_law_4_a_masked_feature_keeps_its_statistics():
    x = sample(3.0, (16, 5))
    _, stats = trained(TRAIN, x, mask=np.arange(5) > 0)
    expected = ema_of(x)
    expected["mean"][0], expected["var"][0] = 0.0, 1.0
    assert_stats_close(stats, expected)


def test_law_4_flax_stores_nan_for_an_empty_sample():
    norm = nn.BatchNorm(use_running_average=False)
    _, stats = trained(norm, sample(3.0, (16, 5)), mask=np.zeros((16, 1), bool))
    assert np.isnan(stats["mean"]).all()


def test_law_8_evaluation_before_training_is_the_identity_statistics():
    x = sample(3.0, (16, 5))
    norm = BatchNorm(use_running_average=True)
    assert_allclose(norm.apply(norm.init(KEY, x), x), x / np.sqrt(1 + 1e-5), rtol=4 * EPS)


def test_law_10_running_statistics_in_bfloat16_stall_and_a_warning_tells():
    x = np.full((2, 1), 3.14, np.float32) + np.float32([[-1], [1]])
    norm = BatchNorm(
        use_running_average=False, force_float32_reductions=False, param_dtype=jnp.bfloat16
    )
    with pytest.warns(UserWarning, match="BatchNorm keeps running statistics in bfloat16"):
        variables = norm.init(KEY, x)
    stalled = jnp.full(1, 2.03125, jnp.bfloat16)
    variables["batch_stats"]["mean"] = stalled
    with pytest.warns(UserWarning, match="force_float32_reductions=True"):
        stats = trained(norm, x, variables)[1]
    assert stats["mean"] == stalled and stats["mean"].dtype == jnp.bfloat16


@pytest.mark.parametrize("use_running_average", [True, False])
def test_law_11_init_works_in_either_mode(use_running_average):
    variables = BatchNorm().init(KEY, sample(shape=(4, 5)), use_running_average=use_running_average)
    assert jax.tree.map(jnp.shape, variables) == {
        "batch_stats": {"mean": (5,), "var": (5,)},
        "params": {"bias": (5,), "scale": (5,)},
    }


def test_law_17_batch_statistics_normalize_without_an_update_where_batch_stats_is_immutable():
    x = sample(3.0, (16, 5))
    variables = TRAIN.init(KEY, x)
    assert_array_equal(TRAIN.apply(variables, x), trained(TRAIN, x, variables)[0])


def test_law_17_flax_refuses_to_leave_the_statistics_alone():
    x = sample(3.0, (16, 5))
    norm = nn.BatchNorm(use_running_average=False)
    with pytest.raises(ModifyScopeVariableError):
        norm.apply(norm.init(KEY, x), x)


class Encoder(nn.Module):
    """A model whose batch norm has a path."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x):
        return BatchNorm(use_running_average=False, axis_name=self.axis_name, name="norm")(x)


def test_law_20_a_missing_axis_names_the_layer_the_axis_and_the_remedy():
    x, model = sample(shape=(4, 5)), Encoder("devices")
    variables = model.init(KEY, x)
    with pytest.raises(ValueError, match=r"BatchNorm norm: .*'devices'.*axis_name=None"):
        model.apply(variables, x, mutable=["batch_stats"])


def test_law_21_one_value_per_feature_uses_the_running_statistics_and_says_so():
    x = sample(3.0, (1, 5))
    variables = TRAIN.init(KEY, x)
    with pytest.warns(UserWarning, match=r"one value per feature, x \[1, 5\]"):
        y, stats = trained(TRAIN, x, variables)
    assert_allclose(y, x / np.sqrt(1 + 1e-5), rtol=4 * EPS)
    assert_stats_close(stats, {"mean": np.zeros(5), "var": np.ones(5)}, rtol=0)


@pytest.mark.nightly
def test_law_21_one_value_per_shard_is_a_sample_of_all_shards():
    x = sample(3.0, (8, 1, 5))
    norm = BatchNorm(use_running_average=False, momentum=0.9, axis_name="shards")
    variables = norm.init(KEY, x[0])
    step = functools.partial(norm.apply, variables, mutable=["batch_stats"])
    _, updated = jax.vmap(step, axis_name="shards")(x)
    stats = jax.tree.map(operator.itemgetter(0), updated["batch_stats"])
    assert_stats_close(stats, ema_of(x[:, 0]))


def complex_sample():
    return sample(2.0, (16, 5)) + 1j * sample(-1.0, (16, 5), seed=1)


def test_law_22_no_update_changes_a_dtype_for_complex_inputs():
    x = complex_sample()
    variables = TRAIN.init(KEY, x)
    _, stats = trained(TRAIN, x, variables)
    kept = {"mean": "complex64", "var": "float32"}
    for state in (variables["batch_stats"], stats):
        assert {name: value.dtype for name, value in state.items()} == kept
    assert_allclose(stats["mean"], 0.1 * x.mean(0), rtol=4 * EPS)
    assert_allclose(stats["var"], 0.9 + 0.1 * x.var(0), rtol=4 * EPS)


def test_law_22_no_update_changes_a_dtype_for_float64_inputs(x64):
    x = np.float64(sample(2.0, (16, 5)))
    _, stats = trained(TRAIN, x)
    assert {v.dtype for v in jax.tree.leaves(stats)} == {jnp.dtype(jnp.float32)}


def test_law_22_flax_changes_the_dtype_of_the_running_mean():
    norm = nn.BatchNorm(use_running_average=False)
    variables = norm.init(KEY, complex_sample())
    _, stats = trained(norm, complex_sample(), variables)
    assert (variables["batch_stats"]["mean"].dtype, stats["mean"].dtype) == ("float32", "complex64")


def test_a_running_mean_that_flax_started_as_real_serves_complex_inputs():
    x = complex_sample()
    variables = nn.BatchNorm(use_running_average=False).init(KEY, x)
    assert_allclose(trained(TRAIN, x, variables)[1]["mean"], 0.1 * x.mean(0), rtol=4 * EPS)


def per_example_gradients(norm, x, weights):
    variables = norm.init(KEY, x[:1])

    def loss(example):
        y, _ = norm.apply(variables, example[None], mutable=["batch_stats"])
        return jnp.vdot(y, weights)

    return jax.vmap(jax.grad(loss))(x)


def test_law_23_per_example_gradients_in_training_are_those_of_evaluation_and_a_warning_tells():
    x, weights = sample(3.0, (4, 5)), sample(shape=(5,), seed=1)
    with pytest.warns(UserWarning, match="one value per feature"):
        gradients = per_example_gradients(TRAIN, x, weights)
    assert_allclose(gradients, np.tile(weights / np.sqrt(1 + 1e-5), (4, 1)), rtol=4 * EPS)


def test_law_23_per_example_gradients_of_flax_in_training_mode_are_zero():
    x, weights = sample(3.0, (4, 5)), sample(shape=(5,), seed=1)
    gradients = per_example_gradients(nn.BatchNorm(use_running_average=False), x, weights)
    assert_array_equal(gradients, np.zeros((4, 5)))


def test_law_27_remat_updates_once():
    x = sample(3.0, (16, 5))
    plain, saved = TRAIN, nn.remat(BatchNorm)(use_running_average=False, momentum=0.9)
    variables = plain.init(KEY, x)

    def loss(params, norm):
        y, updated = norm.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(y**3), updated["batch_stats"]

    gradients, stats = jax.grad(loss, has_aux=True)(variables["params"], saved)
    assert_stats_close(stats, ema_of(x))
    expected, _ = jax.grad(loss, has_aux=True)(variables["params"], plain)
    jax.tree.map(functools.partial(assert_allclose, rtol=1e-5, atol=1e-4), gradients, expected)


@pytest.mark.parametrize("axis", [(1, 3), (-1, 1), (-3, -1)])
def test_several_feature_axes_have_statistics_of_their_own(axis):
    x = sample(3.0, (6, 2, 5, 3))
    y, stats = trained(BatchNorm(use_running_average=False, momentum=0.9, axis=axis), x)
    assert_stats_close(stats, ema_of(x, axes=(0, 2)))
    wide = np.float64(x)
    mean, var = wide.mean((0, 2), keepdims=True), wide.var((0, 2), keepdims=True)
    assert relative_error(y, (wide - mean) / np.sqrt(var + 1e-5)) < 4e-6


def test_use_running_average_is_given_at_one_place_only():
    x = sample(shape=(4, 5))
    with pytest.raises(ValueError, match="use_running_average"):
        BatchNorm().init(KEY, x)
    with pytest.raises(ValueError, match="use_running_average"):
        TRAIN.init(KEY, x, use_running_average=True)


def test_vmapped_layers_keep_statistics_of_their_own():
    x = sample(3.0, (2, 16, 5)) * np.float32([1, 4])[:, None, None]
    many = nn.vmap(
        BatchNorm, variable_axes={"params": 0, "batch_stats": 0}, split_rngs={"params": True}
    )(use_running_average=False, momentum=0.9)
    _, stats = trained(many, x)
    assert_stats_close(stats, ema_of(x, axes=1))


def test_a_scan_over_steps_carries_the_statistics():
    batches = sample(3.0, (5, 16, 4))
    variables = TRAIN.init(KEY, batches[0])

    def step(stats, x):
        return trained(TRAIN, x, {**variables, "batch_stats": stats})[1], None

    stats, _ = jax.lax.scan(step, variables["batch_stats"], batches)
    mean = np.zeros(4)
    for x in np.float64(batches):
        mean = 0.9 * mean + 0.1 * x.mean(0)
    assert_allclose(stats["mean"], mean, rtol=16 * EPS)


def test_shapes_are_known_without_computing():
    shapes = jax.eval_shape(TRAIN.init, KEY, jax.ShapeDtypeStruct((16, 5), jnp.bfloat16))
    assert {v.shape for v in jax.tree.leaves(shapes)} == {(5,)}


def collected(norm, x, variables, **given):
    """Returns what a layer writes where `batch_moments` is mutable."""
    _, updated = norm.apply({**variables, **given}, x, mutable=["batch_stats", "batch_moments"])
    return updated


def test_batch_moments_take_the_batch_and_leave_the_running_statistics_alone():
    x = sample(3.0, (16, 5))
    variables = TRAIN.init(KEY, x)
    updated = collected(TRAIN, x, variables)
    moments, decay = updated["batch_moments"]["moments"], updated["batch_moments"]["decay"]
    assert isinstance(moments, Moments)
    assert_allclose(moments.mean, x.mean(0, np.float64), rtol=4 * EPS)
    assert_allclose(moments.var, x.var(0, np.float64), rtol=16 * EPS)
    assert_array_equal(moments.count, np.full(5, 16.0))
    assert (decay, decay.dtype, decay.shape) == (np.float32(0.9), jnp.float32, ())
    assert_stats_close(updated["batch_stats"], {"mean": np.zeros(5), "var": np.ones(5)}, rtol=0)


def test_batch_moments_that_were_passed_in_are_merged():
    x = sample(3.0, (16, 5)) * np.linspace(1, 2, 16, dtype=np.float32)[:, None]
    variables = TRAIN.init(KEY, x)
    first = collected(TRAIN, x[:4], variables)["batch_moments"]
    both = collected(TRAIN, x[4:], variables, batch_moments=first)["batch_moments"]["moments"]
    assert_allclose(both.mean, x.mean(0, np.float64), rtol=8 * EPS)
    assert_allclose(both.var, x.var(0, np.float64), rtol=32 * EPS)
    assert_array_equal(both.count, np.full(5, 16.0))


def test_batch_moments_do_not_change_the_output():
    x = sample(3.0, (16, 5))
    variables = TRAIN.init(KEY, x)
    y, _ = TRAIN.apply(variables, x, mutable=["batch_moments"])
    assert_array_equal(y, trained(TRAIN, x, variables)[0])


def test_batch_moments_are_not_made_by_init_nor_by_a_catch_all():
    x = sample(3.0, (16, 5))
    variables = TRAIN.init(KEY, x)
    _, updated = TRAIN.apply(variables, x, mutable=True)
    assert {*variables} == {*updated} == {"params", "batch_stats"}
    assert_stats_close(updated["batch_stats"], ema_of(x))


def test_variables_without_batch_stats_are_named_with_the_layer_and_the_remedy():
    model, x = (
        nn.Sequential([nn.Dense(5), BatchNorm(use_running_average=True)]),
        sample(3.0, (4, 5)),
    )
    params = model.init(KEY, x)["params"]
    message = (
        r"BatchNorm layers_1: the variables lack batch_stats/layers_1/mean, .*'params': \.\.\."
    )
    with pytest.raises(ValueError, match=message):
        model.apply({"params": params}, x)


def test_variables_without_batch_stats_start_them_where_they_may_be_made():
    x = sample(3.0, (16, 5))
    params = TRAIN.init(KEY, x)["params"]
    _, updated = TRAIN.apply({"params": params}, x, mutable=["batch_stats"])
    assert_stats_close(updated["batch_stats"], ema_of(x))


def test_statistics_of_other_features_than_those_of_the_input_are_named():
    variables = TRAIN.init(KEY, sample(3.0, (16, 5)))
    with pytest.raises(ValueError, match=r"BatchNorm: mean and var \[5\] .* features \[4\]"):
        TRAIN.apply(variables, sample(3.0, (16, 4)), mutable=["batch_stats"])
