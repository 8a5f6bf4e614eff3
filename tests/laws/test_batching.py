"""Laws of samples: how they are batched, masked, weighted, cut and pooled does not matter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import cumulative
from jaxnorm.stats import moments, pool
from tests.laws.implementations import MOSTLY_KERNELS
from tests.laws.members import (
    ACTIVATIONS,
    FEW,
    KERNELS,
    SAMPLED,
    SHAPE,
    array,
    claiming,
    expected_gradient,
    expected_output,
    once,
    output,
    over,
    whole_axis,
)
from tests.stats.programs import compiled
from tests.stats.reference import reference_moments, relative_error, rounding

BOUND = rounding(np.float32, np.prod(SHAPE))


@once
def trained(member):
    """Returns the compiled function to output, gradient of `x` and moments of a weighted sample."""

    @compiled
    def compute(x, cotangent, sample):
        y, pullback = jax.vjp(lambda x: output(member, x, **sample), x)
        taken = moments(x, member.stats_shape(x.shape), center=member.center, **sample)
        return y, pullback(cotangent)[0], taken

    return compute


def assert_same(got, expected):
    have, want = jax.tree.leaves(got), jax.tree.leaves(expected)
    for h, w in zip(have, want, strict=True):
        assert relative_error(h, np.asarray(w), 1e-3) < BOUND


@over([*ACTIVATIONS, *KERNELS])
@MOSTLY_KERNELS
@pytest.mark.sampled(2)
def test_jit_gives_what_eager_gives(member, implementation):
    x = array(mean=3.0)
    assert_same(jax.jit(functools.partial(output, member))(x), output(member, x))


@over([*ACTIVATIONS, *KERNELS])
@pytest.mark.sampled(4)
def test_vmap_gives_what_a_loop_gives(member, implementation):
    batch = array(shape=(3, *SHAPE), mean=3.0)
    run = compiled(functools.partial(output, member))
    mapped = compiled(jax.vmap(functools.partial(output, member), in_axes=1, out_axes=1))
    looped = np.stack([run(x) for x in batch], axis=1)
    assert_same(mapped(np.moveaxis(batch, 0, 1)), looped)


@over(claiming("mask"))
@pytest.mark.sampled(2)
def test_a_masked_sample_is_the_array_without_its_invalid_entries(member):
    axis = whole_axis(member)
    keep = np.arange(SHAPE[axis]) != 1
    mask = keep.reshape([-1 if a == axis else 1 for a in range(len(SHAPE))])
    x, cotangent = array(mean=3.0), np.where(mask, array(1), 0).astype(np.float32)
    y, dx, taken = trained(member)(x, cotangent, {"mask": mask})
    compact, c = (np.compress(keep, v, axis=axis) for v in (x, cotangent))
    expected = expected_output(member, compact)
    assert relative_error(np.compress(keep, y, axis=axis), expected) < BOUND
    gradient = expected_gradient(member, compact, c)
    assert relative_error(np.compress(keep, dx, axis=axis), gradient) < BOUND
    assert not np.any(np.compress(~keep, dx, axis=axis))
    want = reference_moments(compact, member.stats_shape(compact.shape), None, member.center)
    assert relative_error(taken.var, want.var) < BOUND


@over(claiming("mask"), FEW)
@pytest.mark.sampled(2)
def test_any_mask_gives_the_numbers_of_its_definition(member):
    x, cotangent = array(mean=3.0), array(1)
    mask = np.random.default_rng(2).random(SHAPE) < 0.7
    y, dx, _ = trained(member)(x, cotangent, {"mask": mask})
    assert relative_error(y, expected_output(member, x, weights=mask)) < BOUND
    assert relative_error(dx, expected_gradient(member, x, cotangent, weights=mask)) < BOUND


@over(claiming("weights"), FEW)
@pytest.mark.sampled(2)
def test_integer_weights_are_repetitions(member):
    axis = whole_axis(member)
    times = np.array([2, 0, 3, 1])[: SHAPE[axis]]
    weights = times.reshape([-1 if a == axis else 1 for a in range(len(SHAPE))])
    x = array(mean=3.0)
    y, _, taken = trained(member)(x, array(1), {"weights": weights.astype(np.float32)})
    repeated = np.repeat(x, times, axis=axis)
    expected = expected_output(member, repeated)
    assert relative_error(np.repeat(y, times, axis=axis), expected) < BOUND
    want = reference_moments(repeated, member.stats_shape(repeated.shape), None, member.center)
    assert relative_error(taken.var, want.var) < BOUND
    assert np.max(taken.count) == want.count.max()


@pytest.mark.nightly
@over(claiming("shards"))
def test_unequal_masked_shards_give_what_the_whole_gives(member):
    axis = whole_axis(member)
    shape = tuple(2 * n if a == axis else n for a, n in enumerate(SHAPE))
    x, cotangent = array(0, shape, 3.0), array(1, shape)
    mask = np.random.default_rng(2).random(shape) < 0.7
    # The first shard keeps one valid slice, the second all but what chance took.
    np.moveaxis(mask, axis, 0)[1 : SHAPE[axis]] = False

    @functools.partial(jax.vmap, in_axes=axis, out_axes=axis, axis_name="shards")
    def sharded(x, cotangent, mask):
        run = functools.partial(output, member, mask=mask, axis_name="shards")
        y, pullback = jax.vjp(run, x)
        return y, pullback(cotangent)[0]

    def split(v):
        return v.reshape(*v.shape[:axis], 2, SHAPE[axis], *v.shape[axis + 1 :])

    y, dx = compiled(sharded)(split(x), split(cotangent), split(mask))
    expected = expected_output(member, x, weights=mask)
    assert relative_error(y.reshape(shape), expected) < BOUND
    gradient = expected_gradient(member, x, cotangent, weights=mask)
    assert relative_error(dx.reshape(shape), gradient) < BOUND


@over(SAMPLED)
@pytest.mark.sampled(2)
def test_micro_batches_pooled_are_the_batch(member):
    axis, x = whole_axis(member), array(mean=3.0)
    stats_shape, center = member.stats_shape(SHAPE), member.center

    @compiled
    def pooled(x):
        parts = jnp.split(x, [1], axis=axis)
        taken = [moments(part, stats_shape, center=center) for part in parts]
        counted = [m._replace(count=jnp.broadcast_to(m.count, stats_shape)) for m in taken]
        stacked = jax.tree.map(lambda *v: jnp.stack(v), *counted)
        return jax.tree.map(lambda v: v[0], pool(stacked, (1, *stats_shape)))

    want = reference_moments(x, stats_shape, None, center)
    for have, expected in zip(pooled(x)[:3], want, strict=True):
        assert relative_error(have, expected, 1e-3) < BOUND


@over(claiming("streaming"))
def test_statistics_collected_over_micro_batches_are_those_of_all_examples(member):
    batches = array(0, (5, *SHAPE), 3.0)
    population = cumulative()

    @compiled
    def collected(batches):
        def step(state, x):
            call = functools.partial(member.function, **member.options)
            y, state = call(x, state, use_running_average=False, estimator=population)
            return state, y

        return jax.lax.scan(step, population.init(SHAPE[-1:]), batches)[0]

    state = population.read(collected(batches))
    want = reference_moments(batches.reshape(-1, SHAPE[-1]), (1, SHAPE[-1]))
    assert relative_error(state.mean, want.mean[0]) < BOUND
    assert relative_error(state.var, want.var[0]) < BOUND


@over(SAMPLED)
@pytest.mark.sampled(4)
def test_coarser_moments_come_from_finer_ones(member):
    axis, x = whole_axis(member), array(mean=3.0)
    coarse, center = member.stats_shape(SHAPE), member.center
    fine = tuple(n if a == axis else s for a, (n, s) in enumerate(zip(SHAPE, coarse)))
    got = compiled(lambda x: pool(moments(x, fine, center=center), coarse))(x)
    want = reference_moments(x, coarse, None, center)
    for have, expected in zip(got[:3], want, strict=True):
        assert relative_error(jnp.broadcast_to(have, coarse), expected, 1e-3) < BOUND
