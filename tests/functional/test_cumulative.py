"""Cumulative norms: causal, and step by step what they are for the whole sequence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import Moments, cumulative_group_norm, cumulative_layer_norm, stats
from tests.stats.reference import reference_moments, relative_error, rounding

SHAPE = (2, 7, 3, 4)


def drawn(offset=0.0):
    return jnp.asarray(np.random.default_rng(0).normal(offset, 1, SHAPE), jnp.float32)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_one_step_at_a_time_gives_the_numbers_of_the_whole_sequence(offset):
    x = drawn(offset)
    zero = jnp.zeros((2, 1, 1, 2))

    def step(before, x_t):
        y, seen = cumulative_group_norm(x_t[:, None], num_groups=2, before=before)
        return seen, y[:, 0]

    _, ys = jax.lax.scan(step, Moments(zero, zero, zero, zero), jnp.moveaxis(x, 1, 0))
    whole = cumulative_group_norm(x, num_groups=2)
    bound = rounding(np.float32, x.size)
    assert relative_error(np.moveaxis(np.asarray(ys), 0, 1), np.asarray(whole)) < bound


@pytest.mark.nightly
def test_no_step_depends_on_a_later_one():
    x = drawn()
    later = jnp.asarray(x).at[:, 4:].set(jnp.nan)
    got, want = cumulative_layer_norm(later), cumulative_layer_norm(x)
    bound = rounding(np.float32, x.size)
    assert relative_error(np.asarray(got[:, :4]), np.asarray(want[:, :4])) < bound
    gradient = jax.grad(lambda x: cumulative_layer_norm(x)[:, 3].sum())(x)
    assert not gradient[:, 4:].any()


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.sampled(2)
def test_prefix_moments_are_those_of_each_prefix(offset, center):
    x = np.random.default_rng(1).normal(offset, 1, SHAPE).astype(np.float32)
    weights = np.random.default_rng(2).uniform(0, 2, SHAPE).astype(np.float32)
    got = stats.prefix_moments(x, (2, 1, 1, 2), 1, weights=weights, center=center)
    for t in range(SHAPE[1]):
        past = slice(0, t + 1)
        want = reference_moments(x[:, past], (2, 1, 1, 2), weights[:, past], center)
        bound = rounding(np.float32, x[:, past].size)
        for have, expected in zip(got[:3], want, strict=True):
            assert relative_error(np.asarray(have)[:, t : t + 1], expected) < bound


@pytest.mark.nightly
def test_shards_of_the_channels_share_the_prefixes():
    x = drawn()
    halves = jnp.stack(jnp.split(x, 2, axis=-1))
    ys = jax.vmap(lambda x: cumulative_layer_norm(x, axis_name="i"), axis_name="i")(halves)
    got, want = np.concatenate(ys, -1), np.asarray(cumulative_layer_norm(x))
    assert relative_error(got, want) < rounding(np.float32, x.size)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match=r"x \[5, 4\] must have .*; use x\[None\]"):
        cumulative_layer_norm(jnp.ones((5, 4)))
    with pytest.raises(ValueError, match=r"before \[3\] must broadcast to .* pass the last step"):
        three = jnp.zeros(3)
        cumulative_layer_norm(jnp.ones((2, 5, 4)), before=Moments(three, three, three))
    with pytest.raises(ValueError, match=r"stats_shape \[2, 5, 1\] .* must have a 1 at the axis 1"):
        stats.prefix_moments(jnp.ones((2, 5, 4)), (2, 5, 1), 1)
