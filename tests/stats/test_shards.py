"""Moments over mapped axes: all shards' samples are one, whatever each holds."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnorm.stats import Moments, moments, pool
from tests.stats.reference import reference_moments, relative_error, rounding

SHARDS = 8
SHAPE = (16, 3, 4)
STATS_SHAPE = (1, 1, 4)  # batch norm: the sharded axis is reduced
BOUND = rounding(np.float32, 48)


def sample(mean=3.0, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.normal(mean, 1, SHAPE)
    return (x + 1j * rng.normal(size=SHAPE) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def unequal_mask():
    """Returns a mask that leaves 0, 1, 2, ... rows of each shard."""
    rows = np.arange(2)[None, :, None] * 3 + np.arange(3)
    return (rows < np.arange(SHARDS)[:, None, None] - 1).reshape(16, 3, 1)


def assert_right(got, x, weights=None, stats_shape=STATS_SHAPE):
    expected = reference_moments(x, stats_shape, weights)
    for have, want in zip(got[:3], expected, strict=True):
        assert relative_error(jnp.broadcast_to(have, want.shape), want) < BOUND


def split(x, shards=SHARDS):
    return x.reshape(shards, -1, *x.shape[1:])


def mesh(*sizes):
    devices = np.array(jax.devices()[: np.prod(sizes)]).reshape(sizes)
    return Mesh(devices, tuple("ab"[: len(sizes)]))


@functools.cache
def in_shard_map(check_vma, axis_name, sizes, **arguments):
    """Returns the moments of an array whose first axis is sharded over all mesh axes."""
    part = P(("a", "b") if len(sizes) == 2 else "a")

    def shard(x, mask):
        return moments(x, STATS_SHAPE, mask=mask, axis_name=axis_name, **arguments)

    mapped = jax.shard_map(
        shard, mesh=mesh(*sizes), in_specs=(part, part), out_specs=P(), check_vma=check_vma
    )
    return jax.jit(mapped)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_a_named_vmap_sees_the_moments_of_the_whole(dtype):
    x = sample(dtype=dtype)
    mapped = jax.vmap(lambda x: moments(x, STATS_SHAPE, axis_name="a"), axis_name="a")
    mean, var, count, _ = jax.jit(mapped)(split(x))
    for shard in range(SHARDS):
        assert_right((mean[shard], var[shard], count[shard]), x)


def test_masked_shards_of_unequal_counts_are_pooled_by_their_counts():
    x, mask = sample(), unequal_mask()
    mapped = jax.vmap(
        lambda x, mask: moments(x, STATS_SHAPE, mask=mask, axis_name="a"), axis_name="a"
    )
    mean, var, count, _ = jax.jit(mapped)(split(x), split(mask))
    assert_right((mean[0], var[0], count[0]), x, mask)
    assert_right((mean[5], var[5], count[5]), x, mask)


def test_an_equally_weighted_average_of_shards_is_wrong_where_the_pool_is_right():
    # Law 2: shards with 8 and 1 valid rows. Averaged, mean and variance are 4.75 and 20.7; the
    # right ones are 1.44 and 11.8.
    x = np.concatenate([np.arange(8.0) - 3, np.full(8, 9.0)]).astype(np.float32)[:, None]
    mask = (np.arange(16) < 9)[:, None]
    expected = reference_moments(x, (1, 1), mask)
    mapped = jax.vmap(lambda x, m: moments(x, (1, 1), mask=m, axis_name="a"), axis_name="a")
    got = mapped(x.reshape(2, 8, 1), mask.reshape(2, 8, 1))
    assert relative_error(got.var[0], expected.var) < BOUND
    shards = [reference_moments(x[i : i + 8], (1, 1), mask[i : i + 8]) for i in (0, 8)]
    averaged = np.mean([m.var + m.mean**2 for m in shards]) - np.mean([m.mean for m in shards]) ** 2
    assert abs(averaged - expected.var[0, 0]) > 1


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize(("axis_name", "sizes"), [("a", (8,)), (("a", "b"), (4, 2))])
@pytest.mark.sampled(2)
def test_shard_map_sees_the_moments_of_the_whole(axis_name, sizes, check_vma):
    x, mask = sample(), unequal_mask()
    assert_right(in_shard_map(check_vma, axis_name, sizes)(x, mask), x, mask)


def test_one_of_two_mapped_axes_pools_along_that_axis_only():
    x = sample()
    mapped = jax.shard_map(
        lambda x: moments(x, STATS_SHAPE, axis_name="b"),
        mesh=mesh(4, 2),
        in_specs=P(("a", "b")),
        out_specs=Moments(P("a"), P("a"), P("a"), P("a")),
    )
    mean, var, *_ = jax.jit(mapped)(x)
    for i, part in enumerate(split(x, 4)):
        expected = reference_moments(part, STATS_SHAPE)
        assert relative_error(mean[i : i + 1], expected.mean) < BOUND
        assert relative_error(var[i : i + 1], expected.var) < BOUND


def test_shards_that_sit_at_an_offset_of_1e6_each_about_its_own_pivot_keep_their_digits():
    x = sample(mean=1e6)
    x += np.repeat(np.arange(SHARDS), 2)[:, None, None].astype(np.float32)
    got = in_shard_map(True, "a", (8,))(x, np.ones((16, 3, 1), bool))
    assert relative_error(got.var, reference_moments(x, STATS_SHAPE).var) < 4e-6


GROUPS = ((0, 3, 5, 6), (1, 2, 4, 7))


def test_index_groups_pool_within_each_group():
    x = sample()

    @functools.partial(jax.pmap, axis_name="a")
    def grouped(x):
        return moments(x, STATS_SHAPE, axis_name="a", axis_index_groups=GROUPS)

    mean, var, count, _ = grouped(split(x))
    for group in GROUPS:
        part = split(x)[list(group)].reshape(-1, *SHAPE[1:])
        for shard in group:
            assert_right((mean[shard], var[shard], count[shard]), part)


def test_index_groups_of_unequal_sizes_are_refused_with_their_sizes():
    def grouped(x):
        return moments(x, (1, 1), axis_name="a", axis_index_groups=[[0, 1, 2], [3]])

    with pytest.raises(ValueError, match=r"has groups of \[1, 3\] shards; make all groups equally"):
        jax.vmap(grouped, axis_name="a")(jnp.ones((4, 2, 3)))


@pytest.mark.parametrize("axis_name", ["rows", ("a", "rows")])
def test_an_axis_that_is_not_mapped_is_named_with_the_remedy(axis_name):
    mapped = jax.vmap(lambda x: moments(x, (1, 1), axis_name=axis_name), axis_name="a")
    with pytest.raises(ValueError, match=r"mapped axis 'rows', but no vmap.*axis_name=None"):
        mapped(jnp.ones((4, 2, 3)))


def test_pooling_over_shards_gives_the_moments_of_the_whole():
    x, mask = sample(), unequal_mask()

    def pooled(x, mask):
        return pool(moments(x, (2, 1, 4), mask=mask), STATS_SHAPE, axis_name="a")

    mapped = jax.shard_map(pooled, mesh=mesh(8), in_specs=P("a"), out_specs=P())
    assert_right(jax.jit(mapped)(x, mask), x, mask)


@pytest.mark.parametrize("check_vma", [True, False])
def test_the_gradient_through_pooled_shards_is_that_of_the_whole(check_vma):
    def loss(pooled):
        return jnp.sum(jnp.sin(pooled.mean) * pooled.var)

    def over_shards(x):
        return loss(pool(moments(x, (2, 1, 4)), STATS_SHAPE, axis_name="a"))

    mapped = jax.shard_map(
        over_shards, mesh=mesh(4), in_specs=P("a"), out_specs=P(), check_vma=check_vma
    )
    x = jnp.asarray(sample())
    expected = jax.jit(jax.grad(lambda x: loss(moments(x, STATS_SHAPE))))(x)
    assert relative_error(jax.jit(jax.grad(mapped))(x), expected) < BOUND


def test_an_axis_of_vmap_and_one_of_a_mesh_are_pooled_together():
    x = sample()

    def shard(x):
        rows = jax.vmap(
            lambda row: moments(row[None], STATS_SHAPE, axis_name=("rows", "a")), axis_name="rows"
        )
        return jax.tree.map(lambda v: v[0], rows(x))

    # JAX's own collectives take no axis of a vmap where `shard_map` checks what varies.
    mapped = jax.shard_map(shard, mesh=mesh(4), in_specs=P("a"), out_specs=P(), check_vma=False)
    assert_right(jax.jit(mapped)(x), x)


def test_under_jit_with_sharded_arrays_the_statistics_are_those_of_the_whole():
    x, mask = sample(), unequal_mask()
    sharded = jax.device_put((x, mask), NamedSharding(mesh(8), P("a")))
    got = jax.jit(lambda x, mask: moments(x, STATS_SHAPE, mask=mask))(*sharded)
    assert_right(got, x, mask)
