"""Programs that XLA partitions: kernels on each shard, one device's numbers, few collectives.

The compiled programs are read: what they exchange, and that no shard ever holds the whole array.
"""

import functools
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnorm import show_config, standardize
from jaxnorm.ops import fused_standardize
from jaxnorm.ops.kernels import _native
from jaxnorm.stats import moments
from tests.ops.reference import reference_gradient, reference_standardize
from tests.stats.programs import OPTIMIZED
from tests.stats.reference import blocks, relative_error, rounding, sample_sum, spread

EPSILON = 1e-3
SHAPE = (24, 4, 8, 24)
KERNELS = pytest.mark.skipif(_native.why_not() is not None, reason="the kernels are not built")
KINDS = pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")

# Statistics shapes for x [24, 4, 8, 24].
LAYER, BATCH, INSTANCE = (24, 4, 8, 1), (1, 1, 1, 24), (24, 1, 1, 24)
GROUP = {groups: (24, 1, 1, groups) for groups in (2, 4, 6)}
GHOST = {batches: (batches, 1, 1, 24) for batches in (2, 4, 6, 8)}


@functools.cache
def mesh(devices=8, kind=AxisType.Auto):
    of = np.array(jax.devices()[:devices]).reshape(-1, 2)
    return Mesh(of, ("a", "b"), axis_types=(kind,) * 2)


def arrays(shape=SHAPE, dtype=np.float32, seed=0):
    """Returns x, scale, bias and a cotangent."""
    rng = np.random.default_rng(seed)
    wide = rng.normal(3, 1, shape), rng.normal(1, 0.3, shape[-1]), rng.normal(size=shape[-1])
    x, scale, bias = (v.astype(np.float32) for v in wide)
    return x.astype(dtype), scale, bias, rng.normal(size=shape).astype(dtype)


def forward(stats_shape, center=True):
    def run(x, scale, bias):
        return standardize(x, stats_shape, scale=scale, bias=bias, epsilon=EPSILON, center=center)[
            0
        ]

    return run


def with_gradients(stats_shape, center=True):
    def run(x, scale, bias, cotangent):
        y, pullback = jax.vjp(forward(stats_shape, center), x, scale, bias)
        return y, *pullback(cotangent)

    return run


def placed(values, spec, parameters=P(), on=None):
    specs = [spec, parameters, parameters, spec][: len(values)]
    return [jax.device_put(v, NamedSharding(on or mesh(), s)) for v, s in zip(values, specs)]


def compiled(function, values, optimized=False):
    return jax.jit(function).lower(*values).compile(OPTIMIZED if optimized else None)


def counted(text):
    """Returns how often a program exchanges something, by the name of the exchange."""
    found = {name: len(re.findall(rf" {name}(?:-start)?\(", text)) for name in COLLECTIVES}
    return {name: count for name, count in found.items() if count}


def largest(text):
    """Returns the number of entries of the largest array in a program."""
    shapes = re.findall(r"\b(?:f32|bf16|f16)\[([\d,]+)\]", text)
    return max(math.prod(map(int, shape.split(","))) for shape in shapes)


def assert_right(got, values, stats_shape, center=True):
    x, scale, bias, cotangent = (np.asarray(v, np.float64) for v in values)
    exact = {"center": center, "scale": scale}
    xhat = reference_standardize(x, stats_shape, EPSILON, center=center)
    columns = (1,) * (x.ndim - 1) + (x.shape[-1],)
    wanted = [
        reference_standardize(x, stats_shape, EPSILON, bias=bias, **exact),
        reference_gradient(x, cotangent, stats_shape, EPSILON, **exact),
        sample_sum(cotangent * xhat, columns).reshape(-1),
        sample_sum(cotangent, columns).reshape(-1),
    ]
    for have, want in zip(got, wanted, strict=True):
        narrow = have.dtype == jnp.bfloat16
        bound = float(jnp.finfo(have.dtype).eps) if narrow else rounding(np.float32, x.size)
        assert relative_error(have, want) < bound


# (statistics shape, how x lies, how scale and bias lie, exchanges of y, of y and the gradients)
GATHER, SUM, NOTHING = {"all-gather": 1}, {"all-reduce": 1}, {}
TWO_SUMS = {"all-reduce": 2}  # over other shards for x than for scale and bias
ONE_EACH = {**GATHER, **SUM}
PLACEMENTS = {
    "rows": (LAYER, P("a"), P(), NOTHING, SUM),
    "sequence": (LAYER, P("b", "a"), P(), NOTHING, SUM),
    "features": (LAYER, P(None, None, None, "a"), P("a"), GATHER, ONE_EACH),
    "rows and features": (
        LAYER,
        P("a", None, None, "b"),
        P("b"),
        GATHER,
        {**GATHER, "all-reduce": 2},
    ),
    "batch": (BATCH, P(("a", "b")), P(), GATHER, ONE_EACH),
    "batch and positions": (BATCH, P("b", None, "a"), P(), GATHER, ONE_EACH),
    "batch and channels": (BATCH, P("a", None, None, "b"), P("b"), GATHER, ONE_EACH),
    "channels": (BATCH, P(None, None, None, "a"), P("a"), NOTHING, NOTHING),
    "instances": (INSTANCE, P("a"), P(), NOTHING, SUM),
    "instances by positions": (INSTANCE, P(None, "a"), P(), GATHER, ONE_EACH),
    "whole groups": (GROUP[4], P(None, None, None, "a"), P("a"), NOTHING, NOTHING),
    "groups of two shards": (GROUP[2], P(None, None, None, "a"), P("a"), GATHER, ONE_EACH),
    "groups that end within shards": (GROUP[6], P(None, None, None, "a"), P("a"), GATHER, ONE_EACH),
    "ghost batches within shards": (GHOST[8], P("a"), P(), NOTHING, SUM),
    "ghost batches of two shards": (GHOST[2], P("a"), P(), GATHER, {**GATHER, **TWO_SUMS}),
    "ghost batches that end within shards": (GHOST[6], P("a"), P(), GATHER, ONE_EACH),
}


NIGHTLY = {"sequence", "batch and positions", "instances", "ghost batches of two shards"}


@pytest.mark.parametrize(
    "name", [pytest.param(v, marks=[pytest.mark.nightly] * (v in NIGHTLY)) for v in PLACEMENTS]
)
@pytest.mark.sampled(4)
def test_each_way_is_exchanged_at_most_once_for_each_set_of_mesh_axes_and_nothing_is_whole(name):
    *_, once, both = PLACEMENTS[name]
    assert_exchanged(name, mesh(), once, both)


# Axes that are explicit stay whole, of four devices here: they are not cut into primes.
WHOLE_AXES = {"ghost batches of two shards": ONE_EACH}


@pytest.mark.parametrize("name", PLACEMENTS)
@pytest.mark.sampled(3)
def test_with_explicit_axes_the_exchanges_are_the_same(name):
    *_, once, both = PLACEMENTS[name]
    assert_exchanged(name, mesh(kind=AxisType.Explicit), once, WHOLE_AXES.get(name, both))


def assert_exchanged(name, on, once, both):
    stats_shape, spec, parameters, *_ = PLACEMENTS[name]
    values = arrays()
    given = placed(values, spec, parameters, on)
    text = compiled(forward(stats_shape), given[:3]).as_text()
    assert counted(text) == once
    assert largest(text) < values[0].size
    program = compiled(with_gradients(stats_shape), given)
    assert counted(program.as_text()) == both
    assert largest(program.as_text()) < values[0].size
    got = program(*given)
    assert_right(got, values, stats_shape)
    for have in got[:2]:
        assert have.sharding.is_equivalent_to(given[0].sharding, 4)
    for have, value in zip(got[2:], given[1:3], strict=True):
        assert have.sharding.is_equivalent_to(value.sharding, 1) or on == mesh()


@KERNELS
@pytest.mark.parametrize("name", ["rows", "channels", "instances", "ghost batches within shards"])
def test_samples_within_shards_are_left_to_the_kernels(name):
    stats_shape, spec, parameters, *_ = PLACEMENTS[name]
    text = compiled(with_gradients(stats_shape), placed(arrays(), spec, parameters)).as_text()
    assert text.count("jaxnorm_forward") == text.count("jaxnorm_backward") == 1


def test_plain_jax_on_request_is_left_to_xla_which_exchanges_more():
    def run(x):
        return standardize(x, (1, 24), epsilon=EPSILON, implementation="xla")[0]

    x = arrays((24, 24))[0]
    (given,) = placed([x], P("a"))
    program = compiled(run, [given])
    assert sum(counted(program.as_text()).values()) > 1
    assert relative_error(program(given), reference_standardize(x, (1, 24), EPSILON)) < 1e-5


@pytest.mark.parametrize("stats_shape", [(24, 1), (1, 24)])
@pytest.mark.parametrize("spec", [P("a"), P("b", "a")])
@pytest.mark.sampled(2)
def test_bfloat16_and_rms_are_those_of_one_device(stats_shape, spec):
    values = arrays((24, 24), jnp.bfloat16)
    got = compiled(with_gradients(stats_shape, False), placed(values, spec))(*placed(values, spec))
    assert_right(got, values, stats_shape, center=False)


@KINDS
def test_parameters_sharded_to_save_memory_are_gathered_and_nothing_else_is(kind):
    values = arrays((24, 24))
    given = placed(values, P("a"), P("a"), mesh(kind=kind))
    text = compiled(with_gradients((1, 24)), given).as_text()
    assert counted(text) == {"all-gather": 3, "all-reduce": 1}  # moments, scale, bias; one sum


@pytest.mark.parametrize(
    ("shape", "stats_shape", "spec"),
    [
        ((12, 24), (3, 24), P(("a", "b"))),  # a block of each shard, two shards a ghost batch
        ((12, 24), (12, 2), P("b", "a")),
        ((24, 12), (1, 12), P("b", "a")),
        ((12, 24), (12, 8), P(None, ("b", "a"))),
    ],
)
@pytest.mark.sampled(2)
def test_six_devices_give_the_numbers_of_one(shape, stats_shape, spec):
    values = arrays(shape)
    given = placed(values, spec, on=mesh(6))
    assert_right(compiled(with_gradients(stats_shape), given)(*given), values, stats_shape)


def test_arrays_on_two_meshes_and_a_mesh_in_another_order_give_the_numbers_of_one_device():
    x, scale, bias, cotangent = arrays((24, 24))
    order = np.array(jax.devices()[:8])[[3, 1, 0, 2, 7, 6, 5, 4]]
    flat = Mesh(np.array(jax.devices()[:8]), ("z",))
    for on, of_scale in ((mesh(), flat), (Mesh(order.reshape(4, 2), ("a", "b")),) * 2):
        x_, bias_, cotangent_ = placed([x, bias, cotangent], P("a"), P(), on=on)
        cotangent_ = jax.device_put(cotangent, x_.sharding)
        given = x_, jax.device_put(scale, NamedSharding(of_scale, P())), bias_, cotangent_
        got = jax.jit(with_gradients((1, 24)))(*given)
        assert_right(got, (x, scale, bias, cotangent), (1, 24))


def test_shards_of_unequal_size_give_the_numbers_of_one_device():
    x = arrays((24, 24))[0]

    def run(x):
        uneven = jax.lax.with_sharding_constraint(x[:6], NamedSharding(mesh(), P("a")))
        return standardize(uneven, (1, 24), epsilon=EPSILON)[0]

    y = jax.jit(run)(*placed([x], P("a")))
    assert relative_error(y, reference_standardize(x[:6], (1, 24), EPSILON)) < 1e-5


@pytest.mark.parametrize(("offset", "size"), [(1e6, 1), (0, 1e30)])
def test_moments_of_shards_keep_their_digits_at_any_offset_and_size(offset, size):
    x = (arrays((24, 24))[0] * np.float32(size) + np.float32(offset)).astype(np.float32)
    (given,) = placed([x], P("a"))
    y = jax.jit(lambda x: standardize(x, (1, 24), epsilon=EPSILON)[0])(given)
    assert relative_error(y, reference_standardize(x, (1, 24), EPSILON)) < 4e-6


@KINDS
def test_derivatives_of_every_kind_are_those_of_one_device(kind):
    x = arrays((24, 24))[0]

    def loss(x):
        return jnp.sum(jnp.sin(standardize(x, (1, 24), epsilon=EPSILON)[0] * 2))

    def every(x):
        rows = jax.vmap(lambda x: standardize(x, (6, 1), epsilon=EPSILON)[0])(x.reshape(4, 6, 24))
        again = jax.lax.scan(lambda c, _: (jax.grad(loss)(c) + x, ()), x, None, length=2)[0]
        product = jax.jvp(jax.grad(jax.checkpoint(loss)), (x,), (jnp.cos(x),))[1]
        return rows, again, product

    (given,) = placed([x], P("a"), on=mesh(kind=kind))
    for have, want in zip(jax.jit(every)(given), jax.jit(every)(x), strict=True):
        assert relative_error(have, want) < rounding(np.float32, x.size)


@KINDS
def test_float64_in_a_part_of_the_program_gives_the_numbers_of_one_device(x64, kind):
    x = arrays((24, 24))[0].astype(np.float64)
    (given,) = placed([x], P("a"), on=mesh(kind=kind))
    y = jax.jit(lambda x: standardize(x, (1, 24), epsilon=EPSILON)[0])(given)
    assert relative_error(y, reference_standardize(x, (1, 24), EPSILON)) < 1e-13


def test_the_configuration_says_whether_programs_are_partitioned():
    assert "partitioned programs: yes" in show_config()


def test_the_page_on_many_devices_has_these_numbers():
    def words(counts):
        return ", ".join(f"{n} {name}" for name, n in sorted(counts.items())) or "none"

    page = Path(__file__).parents[2].joinpath("docs/devices.md").read_text("utf-8")
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in page.splitlines()]
    written = {row[0]: row[3:] for row in cells if len(row) == 5 and row[0] in PLACEMENTS}
    assert written == {
        name: [words(once), words(both)] for name, (*_, once, both) in PLACEMENTS.items()
    }


@pytest.mark.parametrize("weighs", ["mask", "weights"])
@pytest.mark.parametrize("name", ["batch", "instances by positions"])
@KINDS
@pytest.mark.sampled(6)
def test_a_mask_and_weights_cost_no_exchange_more_and_nothing_is_whole(name, weighs, kind):
    stats_shape, spec, parameters, once, both = PLACEMENTS[name]
    values = arrays()
    w = np.random.default_rng(1).uniform(0.2, 1, (*SHAPE[:3], 1)).astype(np.float32)
    if name == "batch":
        w[:3] = 0  # all that one device has
    w = w > 0.5 if weighs == "mask" else w
    given = placed(values, spec, parameters, mesh(kind=kind))
    given.append(jax.device_put(w, NamedSharding(mesh(kind=kind), P(*spec[:3]))))

    def run(x, scale, bias, w):
        sample = {weighs: w, "scale": scale, "bias": bias, "epsilon": EPSILON}
        return standardize(x, stats_shape, **sample)[0]

    def gradients(x, scale, bias, cotangent, w):
        y, pullback = jax.vjp(lambda *v: run(*v, w), x, scale, bias)
        return y, *pullback(cotangent)

    text = compiled(run, [*given[:3], given[4]]).as_text()
    assert counted(text) == once and largest(text) < values[0].size
    program = compiled(gradients, given)
    assert counted(program.as_text()) == both and largest(program.as_text()) < values[0].size
    x, scale, bias, cotangent = values
    y, dx, *_ = program(*given)
    sample = {"weights": w, "scale": scale}
    bound = rounding(np.float32, x.size)
    assert (
        relative_error(y, reference_standardize(x, stats_shape, EPSILON, bias=bias, **sample))
        < bound
    )
    assert (
        relative_error(dx, reference_gradient(x, cotangent, stats_shape, EPSILON, **sample)) < bound
    )


@KINDS
def test_moments_are_exchanged_once(kind):
    given = placed(arrays()[:1], P("a"), on=mesh(kind=kind))
    assert counted(compiled(lambda x: moments(x, BATCH), given).as_text()) == GATHER


# (statistics shape, how x lies, gathers where a step is given)
COUNTED = {
    "rows": (LAYER, P("a"), 0),
    "features": (LAYER, P("b", None, None, "a"), 1),
    "groups that end within shards": (GROUP[6], P(None, None, None, "a"), 1),
    "ghost batches that end within shards": (GHOST[6], P("a"), 1),
}


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("own", [False, True], ids=["given", "own"])
@KINDS
@pytest.mark.sampled(6)
def test_steps_are_of_the_largest_entries_which_shards_that_share_a_sample_gather(name, own, kind):
    stats_shape, spec, gathers = COUNTED[name]
    x, scale, bias, residual = values = arrays()
    step = None if own else np.full(stats_shape, 0.03, np.float32)

    def run(x, scale, bias, residual):
        given = {"scale": scale, "bias": bias, "residual": residual, "step": step}
        return fused_standardize(x, stats_shape, **given, epsilon=EPSILON, quantize="int8")

    given = placed(values, spec, on=mesh(kind=kind))
    program = compiled(run, given)
    text = program.as_text()
    assert counted(text).get("all-gather", 0) == sum(counted(text).values())
    assert counted(text).get("all-gather", 0) == gathers * (1 + own)
    assert largest(text) < x.size
    assert name != "rows" or _native.why_not() or "jaxnorm_forward" in text
    out = program(*given)
    total = np.asarray(x, np.float64) + residual
    y = reference_standardize(total, stats_shape, EPSILON, scale=scale, bias=bias)
    steps = spread(np.asarray(out.step, np.float64), SHAPE)
    bound = rounding(np.float32, x.size) * np.abs(y).max()
    if own:
        most = blocks(np.abs(y), stats_shape).max(axis=(1, 3, 5, 7))
        assert relative_error(out.step, most / 127) < rounding(np.float32, x.size)
    counts = np.clip(y / steps, -127, 127)
    assert np.abs((np.asarray(out.y) - counts) * steps).max() < steps.max() / 2 + bound
    assert out.y.sharding.is_equivalent_to(given[0].sharding, 4)
