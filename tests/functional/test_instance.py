"""Instance normalization against float64 NumPy and Flax."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

instance_norm = compiled(jaxnorm.instance_norm)

X = np.random.default_rng(0).normal(3, 2, (4, 5, 3, 6)).astype(np.float32)
SCALE = np.random.default_rng(1).normal(1, 0.5, 6).astype(np.float32)
BIAS = np.random.default_rng(2).normal(0, 1, 6).astype(np.float32)


def expected(x, axes, epsilon=1e-6):
    x = x.astype(np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def assert_right(y, want):
    assert relative_error(y, want) < rounding(np.float32, 15)


def test_each_channel_of_each_example_is_normalized_over_its_positions():
    assert_right(instance_norm(X, SCALE, BIAS), expected(X, (1, 2)) * SCALE + BIAS)


def test_channels_may_come_first():
    x = np.moveaxis(X, -1, 1)
    y = instance_norm(x, SCALE, BIAS, feature_axes=1)
    want = expected(x, (2, 3)) * SCALE[:, None, None] + BIAS[:, None, None]
    assert_right(y, want)


def test_there_may_be_several_feature_axes():
    assert_right(instance_norm(X, feature_axes=(-1, 1)), expected(X, 2))


def test_the_numbers_are_those_of_flax():
    module = nn.InstanceNorm(use_fast_variance=False)
    y = module.apply({"params": {"scale": SCALE, "bias": BIAS}}, X)
    assert_right(instance_norm(X, SCALE, BIAS), np.asarray(y))


def test_the_batch_axis_cannot_be_a_feature_axis():
    with pytest.raises(ValueError, match=r"feature_axes=\(0, 3\) of x \[4, 5, 3, 6\] names axis 0"):
        instance_norm(X, feature_axes=(0, 3))


@pytest.mark.parametrize("shape", [(4, 6), (4, 1, 6), (4, 1, 1, 6), (6,)])
def test_one_value_per_channel_is_refused_with_the_remedies(shape):
    if len(shape) == 1:
        message = r"names axis 0"
    else:
        message = r"got one value per channel of each example, x \[4.*; give x a spatial axis .*'al"
    with pytest.raises(ValueError, match=message):
        instance_norm(np.ones(shape, np.float32))


def test_one_value_per_channel_may_be_allowed_and_gives_the_bias():
    y = instance_norm(X[:, :1, :1], SCALE, BIAS, single_value="allow")
    np.testing.assert_array_equal(y, np.broadcast_to(BIAS, (4, 1, 1, 6)))


def test_one_value_per_channel_and_shard_is_a_sample_of_the_mapped_axis():
    x = X[:, :, :1]
    mapped = jax.vmap(
        lambda x: jaxnorm.instance_norm(x, axis_name="rows"),
        in_axes=1,
        out_axes=1,
        axis_name="rows",
    )
    assert_right(compiled(mapped)(jnp.expand_dims(x, 2)).reshape(x.shape), expected(x, (1, 2)))
