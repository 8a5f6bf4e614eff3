"""Standardize over mapped axes: the whole array's numbers and derivatives, and few collectives."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnorm import standardize
from tests.ops.reference import naive_standardize, reference_gradient, reference_standardize
from tests.stats.programs import OPTIMIZED, compiled
from tests.stats.reference import relative_error, rounding

SHARDS = 8
SHAPE = (16, 3, 4)
STATS_SHAPE = (1, 1, 4)
EPSILON = 1e-2
BOUND32 = rounding(np.float32, 48)
BOUND64 = 100 * rounding(np.float64, 48)
# What an all-reduce may be written as in the compiled program.
COLLECTIVES = (" all-reduce(", " all-reduce-start(", " all-gather(", " all-gather-start(")
COLLECTIVES += (" reduce-scatter(", " all-to-all(", " collective-permute(")


def arguments(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    rows = np.arange(6).reshape(1, 2, 3)  # the shards hold 1, 1, 2, ... of 6 rows
    few = (rows <= np.arange(SHARDS)[:, None, None] - 1) | (rows == 0)
    return {
        "x": rng.normal(2, 1, SHAPE).astype(dtype),
        "weights": (rng.uniform(0.2, 1, SHAPE) * few.reshape(16, 3, 1)).astype(dtype),
        "scale": rng.normal(1, 0.5, 4).astype(dtype),
        "bias": rng.normal(size=4).astype(dtype),
    }


def loss(y, mean, var, count):
    return jnp.sum(jnp.sin(2 * y) * y) + jnp.sum(mean**2 * var) + jnp.sum(jnp.log(count) * var)


def whole_loss(given):
    y, (mean, var, count) = naive_standardize(
        given["x"],
        STATS_SHAPE,
        EPSILON,
        weights=given["weights"],
        scale=given["scale"],
        bias=given["bias"],
    )
    return loss(y, mean, var, count)


def shard(given, axis_name):
    y, (mean, var, count, _) = standardize(
        stats_shape=STATS_SHAPE, epsilon=EPSILON, axis_name=axis_name, **given
    )
    return y, mean, var, count


def vmapped_loss(given):
    """Returns the loss with one shard's moments standing for all."""
    axes = {"x": 0, "weights": 0, "scale": None, "bias": None}
    split = {k: v.reshape(SHARDS, 2, 3, 4) if axes[k] == 0 else v for k, v in given.items()}
    mapped = jax.vmap(functools.partial(shard, axis_name="a"), in_axes=(axes,), axis_name="a")
    y, mean, var, count = mapped(split)
    return loss(y.reshape(SHAPE), mean[3], var[5], count[0])


def shard_mapped_loss(given, check_vma=True, names=("a",)):
    sizes = (8,) if len(names) == 1 else (4, 2)
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(sizes), names)
    specs = {"x": P(names), "weights": P(names), "scale": P(), "bias": P()}
    mapped = jax.shard_map(
        functools.partial(shard, axis_name=names),
        mesh=mesh,
        in_specs=(specs,),
        out_specs=(P(names), P(), P(), P()),
        check_vma=check_vma,
    )
    return loss(*mapped(given))


VARIANTS = {
    "vmap": vmapped_loss,
    "shard_map": shard_mapped_loss,
    "shard_map over two axes": functools.partial(shard_mapped_loss, names=("a", "b")),
    "shard_map, check_vma=False": functools.partial(shard_mapped_loss, check_vma=False),
}


@functools.cache
def derivatives(function):
    """Returns the function of (arguments, tangent) that gives every derivative."""
    gradient = jax.grad(function)

    @compiled
    def compute(given, tangent):
        value, forward = jax.jvp(function, (given,), (tangent,))
        hvp = jax.jvp(gradient, (given,), (tangent,))[1]

        def slope(given):
            parts = jax.tree.map(lambda g, t: jnp.sum(g * t), gradient(given), tangent)
            return sum(jax.tree.leaves(parts))

        return value, forward, gradient(given), hvp, jax.grad(slope)(given)

    return compute


@pytest.mark.nightly
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("variant", VARIANTS)
def test_derivatives_over_shards_are_those_of_plain_autodiff_of_the_whole(variant):
    given, tangent = arguments(), arguments(seed=1)
    got = jax.tree.leaves(derivatives(VARIANTS[variant])(given, tangent))
    expected = jax.tree.leaves(derivatives(whole_loss)(given, tangent))
    for have, want in zip(got, expected, strict=True):
        assert relative_error(have, want, 1.0) < BOUND64


def mesh():
    return Mesh(np.array(jax.devices()[:SHARDS]), ("a",))


def batch_norm_of_shards(x, cotangent=None, **sample):
    """Returns the output over shards, and the gradient of `x` if there is a cotangent."""

    def run(x, sample):
        return standardize(x, STATS_SHAPE, epsilon=EPSILON, axis_name="a", **sample)[0]

    def both(x, sample, cotangent):
        y, pullback = jax.vjp(lambda x: run(x, sample), x)
        return y, pullback(cotangent)[0]

    function = run if cotangent is None else both
    given = (x, sample) if cotangent is None else (x, sample, cotangent)
    return jax.jit(jax.shard_map(function, mesh=mesh(), in_specs=P("a"), out_specs=P("a"))), given


def count_collectives(compiled):
    lines = compiled.as_text().splitlines()
    return sum(any(name in line for name in COLLECTIVES) for line in lines)


@pytest.mark.parametrize("masked", [False, True])
def test_synchronized_statistics_cost_one_collective_forward_and_two_with_the_backward(masked):
    given = arguments(dtype=np.float32)
    sample = {"mask": given["weights"] > 0} if masked else {}
    forward, inputs = batch_norm_of_shards(given["x"], **sample)
    program = forward.lower(*inputs).compile(OPTIMIZED)
    assert count_collectives(program) == 1
    # Mean, tail, variance and its unit of each channel and shard; counts where they may differ.
    (gathered,) = re.findall(r"= f32\[([\d,]+)\]\S* all-gather\(", program.as_text())
    assert math.prod(map(int, gathered.split(","))) == SHARDS * STATS_SHAPE[-1] * (4 + masked)
    both, inputs = batch_norm_of_shards(given["x"], np.cos(given["x"]), **sample)
    assert count_collectives(both.lower(*inputs).compile(OPTIMIZED)) == 2


def test_the_count_of_collectives_sees_those_of_a_naive_synchronization():
    def naive(x):
        mean = jax.lax.pmean(x.mean(axis=0), "a")
        return x - mean, jax.lax.pmean(((x - mean) ** 2).mean(axis=0), "a")

    mapped = jax.shard_map(naive, mesh=mesh(), in_specs=P("a"), out_specs=(P("a"), P()))
    compiled = jax.jit(mapped).lower(arguments(dtype=np.float32)["x"]).compile(OPTIMIZED)
    assert count_collectives(compiled) == 2


def test_statistics_within_a_shard_cost_no_collective():
    mapped = jax.shard_map(
        lambda x: standardize(x, (2, 3, 1), epsilon=EPSILON)[0],
        mesh=mesh(),
        in_specs=P("a"),
        out_specs=P("a"),
    )
    compiled = jax.jit(mapped).lower(arguments(dtype=np.float32)["x"]).compile(OPTIMIZED)
    assert count_collectives(compiled) == 0


@pytest.mark.parametrize("offset", [0, 1e6])
def test_output_and_gradient_over_shards_keep_their_digits_at_any_offset(offset):
    given = arguments(dtype=np.float32)
    cotangent = np.cos(given["x"])
    x = given["x"] + np.float32(offset)
    both, inputs = batch_norm_of_shards(x, cotangent, weights=given["weights"])
    y, dx = both(*inputs)
    sample = {"weights": given["weights"]}
    assert relative_error(y, reference_standardize(x, STATS_SHAPE, EPSILON, **sample)) < 4e-6
    expected = reference_gradient(x, cotangent, STATS_SHAPE, EPSILON, **sample)
    assert relative_error(dx, expected) < 4e-6


def test_a_wholly_masked_shard_takes_the_statistics_of_the_others_and_stays_finite():
    x, mask = arguments(dtype=np.float32)["x"], np.ones((16, 1, 1), bool)
    mask[:4] = False
    x[:4] = np.nan
    both, inputs = batch_norm_of_shards(x, np.ones_like(x), mask=mask)
    y, dx = both(*inputs)
    assert relative_error(y[4:], reference_standardize(x[4:], STATS_SHAPE, EPSILON)) < BOUND32
    assert np.all(np.isfinite(dx)) and np.all(np.isfinite(y))


def test_index_groups_normalize_within_each_group():
    groups = ((0, 3, 5, 6), (1, 2, 4, 7))
    given = arguments(dtype=np.float32)
    x, cotangent = (v.reshape(SHARDS, 2, 3, 4) for v in (given["x"], np.cos(given["x"])))

    @functools.partial(jax.pmap, axis_name="a")
    def grouped(x, cotangent):
        def run(x):
            return standardize(
                x, STATS_SHAPE, epsilon=EPSILON, axis_name="a", axis_index_groups=groups
            )[0]

        y, pullback = jax.vjp(run, x)
        return y, pullback(cotangent)[0]

    y, dx = map(np.asarray, grouped(x, cotangent))
    for group in map(list, groups):
        part, c = x[group].reshape(8, 3, 4), cotangent[group].reshape(8, 3, 4)
        expected = reference_standardize(part, STATS_SHAPE, EPSILON)
        gradient = reference_gradient(part, c, STATS_SHAPE, EPSILON)
        assert relative_error(y[group].reshape(8, 3, 4), expected) < BOUND32
        assert relative_error(dx[group].reshape(8, 3, 4), gradient) < BOUND32


@pytest.mark.parametrize("check_vma", [True, False])
def test_index_groups_of_a_shard_map_have_the_gradients_of_each_group(check_vma):
    given = arguments(dtype=np.float32)
    x, cotangent = given["x"], np.cos(given["x"])

    def run(x):
        groups = ((0, 1, 2, 3), (4, 5, 6, 7))
        options = {"axis_name": "a", "axis_index_groups": groups}
        return standardize(x, STATS_SHAPE, epsilon=EPSILON, **options)[0]

    mapped = jax.shard_map(run, mesh=mesh(), in_specs=P("a"), out_specs=P("a"), check_vma=check_vma)
    dx = jax.jit(jax.grad(lambda x: jnp.sum(mapped(x) * cotangent)))(x)
    halves = zip(*(np.split(np.asarray(v), 2) for v in (dx, x, cotangent)))
    for have, part, c in halves:
        assert relative_error(have, reference_gradient(part, c, STATS_SHAPE, EPSILON)) < BOUND32


def test_under_jit_with_sharded_arrays_the_numbers_are_those_of_the_whole():
    given = arguments(dtype=np.float32)
    sharding = NamedSharding(mesh(), P("a"))
    x, cotangent = jax.device_put((given["x"], np.cos(given["x"])), sharding)

    @jax.jit
    def both(x, cotangent):
        y, pullback = jax.vjp(lambda x: standardize(x, STATS_SHAPE, epsilon=EPSILON)[0], x)
        return y, pullback(cotangent)[0]

    y, dx = both(x, cotangent)
    assert y.sharding.is_equivalent_to(sharding, 3)
    assert relative_error(y, reference_standardize(x, STATS_SHAPE, EPSILON)) < BOUND32
    assert relative_error(dx, reference_gradient(x, cotangent, STATS_SHAPE, EPSILON)) < BOUND32
