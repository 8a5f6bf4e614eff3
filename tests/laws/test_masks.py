"""Laws 4, 5, 6 and 14: what is masked out may hold anything, be everything, and have any shape."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import ema, guarded
from tests.laws.members import (
    SHAPE,
    array,
    claiming,
    expected_gradients,
    expected_output,
    once,
    output,
    over,
)
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding, sample_sum, spread

BOUND = rounding(np.float32, np.prod(SHAPE))


@once
def trained(member):
    """Returns the compiled function to output and gradients of `x`, scale and bias."""

    @compiled
    def compute(x, scale, bias, cotangent, mask):
        def run(x, scale, bias):
            return output(member, x, scale, bias, mask=mask)

        y, pullback = jax.vjp(run, x, scale, bias)
        return y, pullback(cotangent)

    return compute


def parameters():
    return array(3, SHAPE[-1:], 1.0), array(4, SHAPE[-1:])


@over(claiming("mask"))
@pytest.mark.sampled(2)
def test_gradients_are_those_of_the_valid_entries_over_nan_and_inf(member):
    mask = np.random.default_rng(2).random(SHAPE) < 0.7
    x, (scale, bias) = array(mean=3.0), parameters()
    dirty = np.where(mask, x, np.resize([np.nan, np.inf, -np.inf, 3e38], SHAPE))
    cotangent = np.where(mask, array(1), 0).astype(np.float32)
    dirty = dirty.astype(np.float32)
    y, gradients = trained(member)(dirty, scale, bias, cotangent, mask)
    expected = expected_output(member, x, scale, bias, weights=mask)
    assert relative_error(np.where(mask, y, 0), np.where(mask, expected, 0)) < BOUND
    wanted = expected_gradients(member, x, cotangent, scale, bias, weights=mask)
    for have, want in zip(gradients, wanted, strict=True):
        assert relative_error(have, want) < BOUND


@over(claiming("mask"))
def test_the_gradient_stays_finite_even_where_the_loss_reads_invalid_entries(member):
    mask = np.random.default_rng(2).random(SHAPE) < 0.7
    dirty = np.where(mask, array(mean=3.0), np.nan).astype(np.float32)
    y, gradients = trained(member)(dirty, *parameters(), array(1), mask)
    assert all(np.all(np.isfinite(v)) for v in (y, *gradients))


def test_flax_fails_this_law_where_it_masks():
    x, mask = array(mean=3.0), np.random.default_rng(2).random(SHAPE) < 0.7
    dirty = np.where(mask, x, np.nan).astype(np.float32)
    norm = nn.LayerNorm(use_bias=False, use_scale=False)

    def loss(x):
        return jnp.sum(jnp.where(mask, norm.apply({}, x, mask=mask), 0) ** 3)

    assert not np.all(np.isfinite(compiled(jax.grad(loss))(dirty)[mask]))


@over(claiming("mask"))
def test_where_all_is_masked_output_and_gradients_are_finite(member):
    x, (scale, bias) = array(mean=3.0), parameters()
    y, gradients = trained(member)(x, scale, bias, array(1), np.zeros(SHAPE, bool))
    assert all(np.all(np.isfinite(v)) for v in (y, *gradients))
    # No statistics: where the oracle standardizes, it passes x with a factor of one.
    expected = expected_output(member, x, scale, bias, weights=np.zeros(SHAPE))
    assert relative_error(y, expected) < BOUND


@over(claiming("mask", "streaming"))
def test_where_all_is_masked_the_statistics_are_unchanged(member):
    average = ema(0.9)
    stats = average.init(SHAPE[-1:])._replace(mean=jnp.arange(4.0))
    _, after = updated(member, average)(array(), stats, np.zeros(SHAPE, bool))
    for have, want in zip(after, stats, strict=True):
        np.testing.assert_array_equal(have, want)


def test_flaxs_statistics_are_nan_for_good_where_all_is_masked():
    norm = nn.BatchNorm(use_running_average=False, use_bias=False, use_scale=False)
    _, updated = norm.init_with_output(jax.random.key(0), array())
    _, updated = norm.apply(updated, array(), mask=np.zeros(SHAPE, bool), mutable=["batch_stats"])
    assert np.all(np.isnan(updated["batch_stats"]["mean"]))


def updated(member, estimator):
    call = functools.partial(member.function, **member.options)

    @compiled
    def compute(x, stats, mask=None):
        return call(x, stats, use_running_average=False, estimator=estimator, mask=mask)

    return compute


@over(claiming("mask", "streaming"))
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_guarded_estimator_keeps_the_statistics_of_before_a_bad_batch(member, bad):
    average = guarded(ema(0.9))
    x, run = array(mean=3.0), updated(member, average)
    _, before = run(x, average.init(SHAPE[-1:]))
    dirty = x.copy()
    dirty[1, 2, 0, 3] = bad
    _, after = run(dirty, before)
    assert (int(before.skipped), int(after.skipped)) == (0, 1)
    np.testing.assert_array_equal(after.inner.mean, before.inner.mean)
    np.testing.assert_array_equal(after.inner.var, before.inner.var)
    _, recovered = run(x, after)
    assert np.all(np.abs(recovered.inner.mean - before.inner.mean) > 0.1)


RANK_3 = (4, 3, 4)
MASK_SHAPES = [
    *itertools.product((1, 4), (1, 3), (1, 4)),
    (3, 1),
    (4,),
    (),
]


@pytest.mark.nightly
@over(claiming("mask"))
def test_a_mask_of_every_broadcastable_shape_is_its_broadcast(member):
    x = array(shape=RANK_3, mean=3.0)
    masks = [
        np.asarray(np.random.default_rng(i).random(s) < 0.7) for i, s in enumerate(MASK_SHAPES)
    ]
    run = compiled(lambda x, masks: [output(member, x, mask=mask) for mask in masks])
    for mask, y in zip(masks, run(x, masks)):
        whole = np.broadcast_to(mask, RANK_3)
        valid = whole & sampled(member, whole)
        expected = expected_output(member, x, weights=whole)
        assert relative_error(np.where(valid, y, 0), np.where(valid, expected, 0)) < BOUND


def sampled(member, mask):
    """Returns where a statistic has a sample at all."""
    return spread(sample_sum(mask.astype(float), member.stats_shape(mask.shape)), mask.shape) > 0


def test_flaxs_group_norm_fails_this_law():
    x, mask = array(), np.ones((*SHAPE[:-1], 1), bool)
    norm = nn.GroupNorm(num_groups=2, use_bias=False, use_scale=False)
    with pytest.raises((TypeError, ValueError)):
        norm.apply({}, x, mask=mask)
