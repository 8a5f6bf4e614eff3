"""Split and virtual batch normalization: what each example is normalized by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from jaxnorm import BatchStats
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

split_batch_norm = compiled(jaxnorm.split_batch_norm)
virtual_batch_norm = compiled(jaxnorm.virtual_batch_norm)

X = np.random.default_rng(0).normal(3, 2, (6, 4, 5)).astype(np.float32)
STATS = BatchStats(
    jnp.asarray(np.random.default_rng(1).normal(2, 1, (2, 5)), jnp.float32),
    jnp.asarray(np.random.default_rng(2).gamma(2, 1, (2, 5)), jnp.float32),
)
SCALE = np.random.default_rng(3).normal(size=(2, 5)).astype(np.float32)


def assert_right(y, want):
    assert relative_error(y, want) < rounding(np.float32, X.size)


def test_evaluation_uses_what_belongs_to_the_first_split_for_a_batch_of_any_size():
    y, _ = split_batch_norm(X[:5], STATS, SCALE, use_running_average=True)
    mean, var = (np.float64(v[0]) for v in STATS)
    assert_right(y, (X[:5] - mean) / np.sqrt(var + 1e-5) * SCALE[0])


def test_splits_that_do_not_divide_the_batch_are_refused():
    message = r"num_splits=2 does not divide the 5 examples of x \[5, 4, 5\]"
    with pytest.raises(ValueError, match=message):
        split_batch_norm(X[:5], STATS, use_running_average=False)


def test_a_scale_without_a_row_for_each_split_is_refused():
    message = r"scale \[5\] must have a row of features .* give it shape \[2, 5\]"
    with pytest.raises(ValueError, match=message):
        split_batch_norm(X, STATS, SCALE[0], use_running_average=False)


def test_features_may_stand_at_another_axis_than_the_first():
    y, _ = split_batch_norm(np.moveaxis(X, -1, 1), STATS, SCALE, axis=1, use_running_average=False)
    want, _ = split_batch_norm(X, STATS, SCALE, use_running_average=False)
    assert_right(np.moveaxis(np.asarray(y), 1, -1), want)
    with pytest.raises(ValueError, match=r"names axis 0, which is the batch"):
        split_batch_norm(X, STATS, axis=0, use_running_average=False)


def test_no_example_of_a_virtual_batch_depends_on_another():
    reference = X[::-1] + 1
    y, _ = virtual_batch_norm(X, reference)
    one = jax.vmap(lambda x: jaxnorm.virtual_batch_norm(x[None], reference)[0][0])
    alone = jax.jit(one)(X)
    assert_right(y, alone)


def test_an_entry_of_weight_two_in_the_reference_stands_there_twice():
    shares = np.array([1.0, 2.0, 1.0, 1.0], np.float32)[:, None]
    y, _ = virtual_batch_norm(X, X, reference_weights=shares)
    want, _ = virtual_batch_norm(X, X[:, [0, 1, 1, 2, 3]])
    assert_right(y, want)


def test_the_reference_batch_may_be_spread_over_shards():
    parts = X.reshape(3, 2, 4, 5)

    def shard(part):
        return jaxnorm.virtual_batch_norm(X, part, axis_name="shards")

    y, y_reference = jax.jit(jax.vmap(shard, axis_name="shards"))(parts)
    want, wanted = virtual_batch_norm(X, X)
    assert_right(y[1], want)
    assert_right(y_reference.reshape(X.shape), wanted)


def test_a_reference_with_other_features_is_refused():
    message = r"reference \[6, 4, 4\] must have the rank and the features of x \[6, 4, 5\]"
    with pytest.raises(ValueError, match=message):
        virtual_batch_norm(X, X[..., :4])


def test_the_module_passes_the_reference_batch_on():
    layer = jaxnorm.linen.VirtualBatchNorm()
    (y, y_reference), _ = jax.jit(layer.init_with_output)(jax.random.key(0), X, X + 1)
    want, wanted = virtual_batch_norm(X, X + 1)
    assert_right(y, want)
    assert_right(y_reference, wanted)
