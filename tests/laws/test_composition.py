"""The law of composition: `standardize(x, s)` is `normalize(x, moments(x, s))`, at every offset.

So is every other way to the same statistics: pooled from finer ones, from shards or from
micro-batches, with masks and weights, and with the gradient that goes through the statistics.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxnorm import merge, moments, normalize, pool, standardize
from tests.laws.members import FEW, SAMPLED, epsilon, once, over, whole_axis
from tests.ops.reference import reference_gradient, reference_standardize
from tests.stats.programs import OPTIMIZED
from tests.stats.reference import relative_error

LAW = 4e-6
OFFSETS = [0.0, 1.0, 1e3, 1e4, 1e5, 1e6]
SHAPE = (4, 4, 8, 64)
SAMPLES = {"masked": ("mask",), "whole": (), "weighted": ("weights",)}
EVERY_SAMPLE = pytest.mark.parametrize(
    "sample",
    ["masked", *(pytest.param(s, marks=pytest.mark.nightly) for s in ("whole", "weighted"))],
)
SHARDS = 4


def cut(values, axis, parts):
    """Returns `values` with their parts along `axis` on an axis in front."""
    return jnp.stack(jnp.split(values, parts, axis=axis))


def ways(stats_shape, epsilon, axis, center=True):
    """Returns the ways from x to the same output; the last two cut the sample along `axis`."""
    fine = tuple(n if a == axis else s for a, (n, s) in enumerate(zip(SHAPE, stats_shape)))
    given = {"center": center}

    def composed(x, sample):
        return normalize(x, moments(x, stats_shape, **given, **sample), epsilon=epsilon)

    def at_once(x, sample):
        return standardize(x, stats_shape, epsilon=epsilon, **given, **sample)[0]

    def pooled(x, sample):
        finer = moments(x, fine, **given, **sample)
        return normalize(x, pool(finer, stats_shape), epsilon=epsilon)

    def merged(x, sample):
        halves = jax.tree.map(lambda v: cut(v, axis, 2), (x, sample))
        first, second = (jax.tree.map(lambda v, i=i: v[i], halves) for i in range(2))
        parts = [moments(v, stats_shape, **given, **part) for v, part in (first, second)]
        return normalize(x, merge(*parts), epsilon=epsilon)

    return {"at once": at_once, "composed": composed, "pooled": pooled, "merged": merged}


def with_gradient(functions, options=None):
    """Returns the compiled function to the output and the gradient of each of `functions`."""

    @functools.partial(jax.jit, compiler_options=options)
    def compute(x, cotangent, sample):
        def both(function):
            y, pullback = jax.vjp(lambda x: function(x, sample), x)
            return y, pullback(cotangent)[0]

        return {name: both(function) for name, function in functions.items()}

    return compute


@functools.cache
def arrays(offset, sample):
    """Returns x, a cotangent and the sample, exact in float32."""
    rng = np.random.default_rng(0)
    x = rng.normal(offset, 1, SHAPE).astype(np.float32)
    cotangent = rng.normal(size=SHAPE).astype(np.float32)
    drawn = {
        "mask": rng.random(SHAPE) < 0.8,
        "weights": rng.uniform(0.2, 1, SHAPE).astype(np.float32),
    }
    return x, cotangent, {name: drawn[name] for name in SAMPLES[sample]}


def assert_law(run, sample, stats_shape, epsilon, center=True):
    """Checks that every output and gradient of `run` is within the law at every offset."""
    found = {}
    for offset in OFFSETS:
        x, cotangent, given = arrays(offset, sample)
        reference = {
            "stats_shape": stats_shape,
            "epsilon": epsilon,
            "weights": next(iter(given.values()), None),
            "center": center,
        }
        wanted = (
            reference_standardize(x, **reference),
            reference_gradient(x, cotangent, **reference),
        )
        for way, got in run(x, cotangent, given).items():
            for name, have, want in zip(("y", "dx"), got, wanted):
                found[f"{way}, {name} at {offset:.0e}"] = relative_error(have, want)
    wrong = {where: f"{error:.0e}" for where, error in found.items() if not error < LAW}
    assert not wrong, wrong


@once
def composed_of(member, sample):
    functions = ways(member.stats_shape(SHAPE), epsilon(member), axis_of(member), member.center)
    # Without a mask it is the program that users run, with all of the compiler's work.
    return with_gradient(functions, OPTIMIZED if sample == "whole" else None)


def axis_of(member):
    return whole_axis(member, SHAPE)


@over(SAMPLED, FEW)
@EVERY_SAMPLE
def test_every_way_to_the_same_statistics_gives_the_numbers_of_float64(member, sample):
    run = composed_of(member, sample)
    assert_law(run, sample, member.stats_shape(SHAPE), epsilon(member), member.center)


INSTANCE = (4, 1, 1, 64)
COARSER = {
    "group": (4, 1, 1, 4),
    "layer": (4, 1, 1, 1),
    "batch": (1, 1, 1, 64),
    "batch-group": (1, 1, 1, 4),
}


@functools.cache
def from_instances(sample):
    def pooled(coarse, x, sample):
        finer = moments(x, INSTANCE, **sample)
        return normalize(x, pool(finer, coarse), epsilon=1e-5)

    return with_gradient({n: functools.partial(pooled, s) for n, s in COARSER.items()})


@EVERY_SAMPLE
@pytest.mark.parametrize("name", COARSER)
def test_the_statistics_of_instances_pool_to_those_of_every_coarser_norm(name, sample):
    def run(*given):
        return {name: from_instances(sample)(*given)[name]}

    assert_law(run, sample, COARSER[name], 1e-5)


def sharded_ways(member):
    """Returns three ways that share the statistics of the shards of an axis."""
    stats_shape, center = member.stats_shape(SHAPE), member.center
    given = {"center": center, "axis_name": "shards"}

    def at_once(x, sample):
        return standardize(x, stats_shape, epsilon=epsilon(member), **given, **sample)[0]

    def composed(x, sample):
        return normalize(x, moments(x, stats_shape, **given, **sample), epsilon=epsilon(member))

    def pooled(x, sample):
        mine = moments(x, stats_shape, center=center, **sample)
        whole = pool(mine, stats_shape, axis_name="shards")
        return normalize(x, whole, epsilon=epsilon(member))

    return {"at once": at_once, "composed": composed, "pooled": pooled}


def over_vmap(member, function):
    axis = axis_of(member)

    def run(x, sample):
        parts = cut(x, axis, SHARDS), {k: cut(v, axis, SHARDS) for k, v in sample.items()}
        y = jax.vmap(function, axis_name="shards")(*parts)
        return jnp.concatenate(list(y), axis=axis)

    return run


def over_shard_map(member, function):
    part = P(*[None] * axis_of(member), "shards")
    mesh = Mesh(np.array(jax.devices()[:SHARDS]), ("shards",))
    return jax.shard_map(function, mesh=mesh, in_specs=(part, part), out_specs=part)


MAPS = {"vmap": over_vmap, "shard_map": over_shard_map}
MAPPED_SAMPLES = [
    ("shard_map", "weighted"),
    *(
        pytest.param(*pair, marks=pytest.mark.nightly)
        for pair in (
            ("vmap", "whole"),
            ("vmap", "masked"),
            ("vmap", "weighted"),
            ("shard_map", "whole"),
            ("shard_map", "masked"),
        )
    ),
]


@once
def sharded(member, sample, name):
    functions = sharded_ways(member)
    return with_gradient({n: MAPS[name](member, f) for n, f in functions.items()})


@over([m for m in SAMPLED if "shards" in m.claims], FEW)
@pytest.mark.parametrize(("name", "sample"), MAPPED_SAMPLES)
def test_shards_pooled_are_the_whole(member, sample, name):
    run = sharded(member, sample, name)
    assert_law(run, sample, member.stats_shape(SHAPE), epsilon(member), member.center)


@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
@pytest.mark.parametrize("center", [True, False])
def test_without_a_sample_every_way_passes_x_with_a_factor_of_one(epsilon, center):
    # One example of four has no valid entry; where the statistics are of one example it is empty.
    stats_shape = (4, 1, 1, 2)
    mask = np.ones((4, 1, 1, 1), bool)
    mask[2] = False
    x, cotangent, _ = arrays(1e3, "whole")
    sample = {"mask": np.broadcast_to(mask, SHAPE)}
    functions = ways(stats_shape, epsilon, 1, center)
    for name, (y, dx) in with_gradient(functions)(x, cotangent, sample).items():
        np.testing.assert_array_equal(y[2], x[2], err_msg=name)
        np.testing.assert_array_equal(dx[2], cotangent[2], err_msg=name)
        kept = np.array([0, 1, 3])
        want = reference_standardize(x[kept], (3, 1, 1, 2), epsilon, center=center)
        assert relative_error(y[kept], want) < LAW, name


@over(SAMPLED, FEW)
def test_under_a_mask_of_nothing_every_way_passes_x_and_its_gradient(member):
    x, cotangent, _ = arrays(1e3, "whole")
    sample = {"mask": np.zeros(SHAPE, bool)}
    for name, (y, dx) in composed_of(member, "masked")(x, cotangent, sample).items():
        np.testing.assert_array_equal(y, x, err_msg=name)
        np.testing.assert_array_equal(dx, cotangent, err_msg=name)


@pytest.mark.parametrize("offset", OFFSETS)
def test_rows_of_a_transformer_keep_their_digits_through_the_algebra(offset):
    # The numbers of the first report: 5e-4 at an offset of 1e4, 3e-2 at 1e6.
    x = np.random.default_rng(0).normal(offset, 1, (64, 1024)).astype(np.float32)
    y = jax.jit(lambda x: normalize(x, moments(x, (64, 1)), epsilon=1e-6))(x)
    assert relative_error(y, reference_standardize(x, (64, 1), 1e-6)) < LAW


def test_the_running_statistics_keep_the_mean_of_a_batch_as_one_float():
    # What composes is the moments; what is stored is Flax's mean and variance, rounded once.
    x, _, _ = arrays(1e6, "whole")
    taken = jax.jit(lambda x: moments(x, (1, 1, 1, 64)))(x)
    want = x.astype(np.float64).mean((0, 1, 2))
    error = np.abs(np.asarray(taken.mean, np.float64).ravel() - want)
    assert np.all(error <= np.spacing(np.float32(1e6)) * (0.5 + 1e-3))
    assert math.prod(taken.mean.shape) == 64
