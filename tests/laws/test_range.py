"""Every finite size of x: output, statistics and derivatives where squares overflow or vanish.

In units in the last place of the largest entry: 64 for the output, 256 for derivatives. The core
promises magnitudes up to 1e36: the reciprocal deviation of larger ones, times a scale, is no longer
a normal float32.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm
import jaxnorm.linen
import jaxnorm.nnx
from jaxnorm import moments, normalize
from tests.laws.members import (
    CENTRED,
    FEW,
    SAMPLED,
    claiming,
    expected_gradients,
    expected_output,
    expected_tangent,
    once,
    options_of,
    output,
    over,
    whole_axis,
)
from tests.ops.reference import reference_gradient, reference_standardize
from tests.stats.programs import OPTIMIZED
from tests.stats.reference import reference_moments, spread, wide

SHAPE = (8, 5, 3, 16)
SIZES = [1e-30, 1e-20, 1e18, 1e20, 1e30]
# At 1000 deviations a small sample is often constant in bfloat16, whose grid is then four wide.
OFFSETS = {jnp.float32: [0.0, 1e3], jnp.bfloat16: [0.0, 1e2]}
LARGEST = 1e36
OUTPUT, DERIVATIVE = 64, 256
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
FLOAT32 = jnp.finfo(jnp.float32)


def units(got, want, dtype):
    """Returns the largest error in units in the last place of the largest entry.

    What is smaller than the smallest normal number may be flushed to zero.
    """
    want, info = wide(want), jnp.finfo(dtype)
    difference = np.abs(wide(got) - want) - float(info.tiny) * (np.abs(want) > 0)
    return difference.max() / (np.abs(want).max() * float(info.eps))


def draw(seed, shape, dtype=np.float32, mean=0.0, std=1.0):
    drawn = np.random.default_rng(seed).normal(size=shape)
    return np.asarray(jnp.asarray((drawn + mean) * std, dtype))


def inputs(dtype):
    """Yields what each input is, the input, and its size."""
    for size in SIZES:
        for offset in OFFSETS[dtype]:
            yield f"{size:.0e} at {offset:.0e} stds", draw(0, SHAPE, dtype, offset, size), size


def arguments(member):
    """Returns the scale, and the bias where `member` takes one."""
    scale, bias = 1 + 0.3 * draw(1, SHAPE[-1:]), draw(2, SHAPE[-1:])
    return [scale, *options_of(member, bias=bias).values()]


def derived(function, options=None):
    """Returns the compiled function to output, gradients, and the output's own movement."""

    @functools.partial(jax.jit, compiler_options=options)
    def compute(given, cotangent, moved):
        y, pullback = jax.vjp(function, *given)
        return y, pullback(cotangent), jax.jvp(function, given, moved)[1]

    return compute


@once
def program(member, dtype, *chosen):
    options = dict(zip(("epsilon",), chosen))
    # With its default arguments in float32 it is compiled as users compile it.
    how = None if chosen or dtype != "float32" else OPTIMIZED
    return derived(functools.partial(output, member, **options), how)


def assert_in_range(run, member, dtype, given_inputs, parameters=None, **options):
    """Checks output and derivatives of `run` for each of `given_inputs`."""
    wrong, cotangent = {}, draw(3, SHAPE, dtype)
    parameters = arguments(member) if parameters is None else parameters
    for what, x, size in given_inputs:
        given = (x, *parameters)
        moved = (draw(4, SHAPE, dtype, std=size), *(draw(5, v.shape) for v in parameters))
        y, gradients, forward = run(given, cotangent, moved)
        found = {"y": units(y, expected_output(member, *given, **options), dtype) / OUTPUT}
        # Parameters are float32, whatever x is, and so are their gradients.
        wanted = expected_gradients(member, x, cotangent, *parameters, **options)
        for name, have, want in zip(("dx", "dscale", "dbias"), gradients, wanted):
            found[name] = units(have, want, have.dtype) / DERIVATIVE
        want = expected_tangent(member, given, moved, **options)
        found["jvp"] = units(forward, want, dtype) / DERIVATIVE
        wrong |= {f"{n} of {what}": f"{v:.1e}" for n, v in found.items() if not v <= 1}
    assert not wrong, f"as multiples of what is granted: {wrong}"


@over(claiming("offset"))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.sampled(2)
def test_output_and_derivatives_with_nothing_added_to_the_variance(member, dtype, implementation):
    run = program(member, dtype, 0.0)
    assert_in_range(run, member, dtype, inputs(DTYPES[dtype]), epsilon=0.0)


@over(claiming("offset"), FEW)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.nightly)])
@pytest.mark.sampled(2)
def test_output_and_derivatives_with_the_members_own_epsilon(member, dtype, implementation):
    assert_in_range(program(member, dtype), member, dtype, inputs(DTYPES[dtype]))


@over(claiming("offset"))
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_output_of_the_largest_numbers(member, dtype, implementation):
    # Their gradient is smaller than the smallest normal number.
    drawn = np.random.default_rng(0).uniform(-LARGEST, LARGEST, SHAPE)
    x, parameters = np.asarray(jnp.asarray(drawn, DTYPES[dtype])), arguments(member)
    given, cotangent = (x, *parameters), draw(3, SHAPE, DTYPES[dtype])
    y, *_ = program(member, dtype, 0.0)(given, cotangent, given)
    assert units(y, expected_output(member, *given, epsilon=0.0), dtype) < OUTPUT


def members_of_zero(member):
    """Returns the places of the first, the middle and the last index along a reduced axis."""
    axis = whole_axis(member, SHAPE)
    places = np.zeros(SHAPE[axis], bool)
    places[[0, SHAPE[axis] // 2, -1]] = True
    return places.reshape([-1 if a == axis else 1 for a in range(len(SHAPE))])


@over(claiming("offset"))
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_first_middle_and_last_members_that_tell_nothing_of_the_size(member, value, implementation):
    given = [
        (f"{size:.0e} among {value:.0f}", np.where(members_of_zero(member), value, x), size)
        for size in SIZES
        for x in [draw(0, SHAPE, std=size)]
    ]
    given = [(what, x.astype(np.float32), size) for what, x, size in given]
    run = program(member, "float32", 0.0)
    assert_in_range(run, member, "float32", given, epsilon=0.0)


@over(claiming("offset"))
def test_one_huge_member_among_ordinary_ones(member, implementation):
    x = draw(0, SHAPE).copy()
    x[1, 1, 1, ::5] = 1e30
    given = [("one of 1e30", x, 1.0), ("one of -1e30", -x, 1.0)]
    run = program(member, "float32", 0.0)
    assert_in_range(run, member, "float32", given, epsilon=0.0)


@over(claiming("offset"))
def test_each_sample_has_a_size_of_its_own(member, implementation):
    stats_shape = member.stats_shape(SHAPE)
    powers = np.random.default_rng(6).integers(-100, 100, stats_shape)
    sizes = spread(2.0**powers, SHAPE)
    x, cotangent = draw(0, SHAPE), draw(3, SHAPE)
    scaled, parameters = (x * sizes).astype(np.float32), arguments(member)
    given = (scaled, *parameters)
    y, (dx, *_), _ = program(member, "float32", 0.0)(given, cotangent, given)
    assert units(y, expected_output(member, x, *parameters, epsilon=0.0), "float32") < OUTPUT
    want = expected_gradients(member, x, cotangent, *parameters, epsilon=0.0)[0]
    assert units(wide(dx) * sizes, want, "float32") < DERIVATIVE


@once
def masked(member):
    @jax.jit
    def compute(mask, given, cotangent):
        call = functools.partial(output, member, epsilon=0.0, mask=mask)
        y, pullback = jax.vjp(call, *given)
        return y, pullback(cotangent)

    return compute


@over(claiming("mask", "offset"), FEW)
@pytest.mark.parametrize("hidden", [0.0, 3e38, np.inf, np.nan])
@pytest.mark.sampled(4)
def test_what_a_mask_hides_has_no_say_in_the_size(member, hidden):
    mask = ~np.broadcast_to(members_of_zero(member), SHAPE)
    for size in SIZES:
        x, cotangent, parameters = (
            draw(0, SHAPE, std=size),
            mask * draw(3, SHAPE),
            arguments(member),
        )
        given = (np.where(mask, x, np.float32(hidden)), *parameters)
        y, (dx, d_scale, d_bias) = masked(member)(mask, given, cotangent)
        options = {"weights": mask, "epsilon": 0.0}
        want = expected_output(member, x, *parameters, **options)
        assert units(y[mask], want[mask], "float32") < OUTPUT, size
        wanted = expected_gradients(member, x, cotangent, *parameters, **options)
        for have, want in zip((dx, d_scale, d_bias), wanted, strict=True):
            assert units(have, want, "float32") < DERIVATIVE, size


@pytest.mark.nightly
@over(claiming("shards", "offset"))
def test_shards_may_have_different_sizes(member):
    axis = whole_axis(member, SHAPE)
    x = np.stack([draw(i, SHAPE, std=size) for i, size in enumerate((1e-30, 1e30, 1.0, 1e20))])
    cotangent = draw(3, x.shape)

    @jax.jit
    @functools.partial(jax.vmap, axis_name="shards")
    def run(x, cotangent):
        call = functools.partial(output, member, epsilon=0.0, axis_name="shards")
        y, pullback = jax.vjp(call, x)
        return y, pullback(cotangent)[0]

    def joined(v):
        return np.concatenate(list(v), axis=axis)

    y, dx = map(joined, run(x, cotangent))
    whole, pulled = joined(x), joined(cotangent)
    want = expected_output(member, whole, epsilon=0.0)
    assert units(y, want, "float32") < OUTPUT
    want = expected_gradients(member, whole, pulled, epsilon=0.0)[0]
    assert units(dx, want, "float32") < DERIVATIVE


@once
def taken(member):
    return jax.jit(
        functools.partial(moments, stats_shape=member.stats_shape(SHAPE), center=member.center)
    )


@over(SAMPLED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.sampled(6)
def test_a_variance_is_infinite_only_where_the_true_one_is_not_representable(member, dtype):
    near_the_smallest = draw(0, SHAPE, DTYPES[dtype], std=1e-18)
    for what, x, _ in (("1e-18", near_the_smallest, 1e-18), *inputs(DTYPES[dtype])):
        got = taken(member)(x)
        mean, var, _ = reference_moments(x, member.stats_shape(SHAPE), None, member.center)
        # The mean of a centred sample may be anything down to zero: its unit is that of x.
        unit = float(FLOAT32.eps) * np.abs(wide(x)).max()
        assert np.all(np.abs(wide(got.mean) - mean) <= OUTPUT * unit), what
        representable = (var < float(FLOAT32.max)) & (var > float(FLOAT32.tiny))
        error = np.abs(wide(got.var) - var)[representable] / var[representable]
        assert np.all(error <= OUTPUT * float(FLOAT32.eps)), what
        assert np.all(np.isinf(got.var)[var > (1 + 1e-5) * float(FLOAT32.max)]), what
        assert np.all(wide(got.var)[var < float(FLOAT32.tiny)] <= float(FLOAT32.tiny)), what


@over(SAMPLED)
@pytest.mark.parametrize("size", [1e-18, 1e15])  # at 1e18 the cotangent of var vanishes
@pytest.mark.sampled(6)
def test_given_moments_serve_every_size_whose_variance_is_representable(member, size):
    s, center = member.stats_shape(SHAPE), member.center

    @jax.jit
    def run(x, cotangent):
        y, pullback = jax.vjp(lambda x: normalize(x, moments(x, s, center=center), epsilon=0.0), x)
        return y, pullback(cotangent)[0]

    # Without centering the mean square of a distant sample is not representable.
    for offset in OFFSETS[jnp.float32] if center else [0.0]:
        x, cotangent = draw(0, SHAPE, mean=offset, std=size), draw(3, SHAPE)
        y, dx = run(x, cotangent)
        want = reference_standardize(x, s, 0.0, center=center)
        assert units(y, want, "float32") < OUTPUT
        want = reference_gradient(x, cotangent, s, 0.0, center=center)
        assert units(dx, want, "float32") < DERIVATIVE


@pytest.mark.usefixtures("x64")
@over(CENTRED)
@pytest.mark.parametrize("power", [-600, 600])
@pytest.mark.sampled(2)
def test_float64_has_the_same_edges(member, power):
    # Scaled by a power of two, which changes no digit of the expected output.
    x, cotangent = draw(0, SHAPE, np.float64), draw(3, SHAPE, np.float64)

    @jax.jit
    def run(x, cotangent):
        y, pullback = jax.vjp(functools.partial(output, member, epsilon=0.0), x)
        return y, pullback(cotangent)[0]

    y, dx = run(x * 2.0**power, cotangent)
    assert units(y, expected_output(member, x, epsilon=0.0), "float64") < OUTPUT
    want = expected_gradients(member, x, cotangent, epsilon=0.0)[0]
    assert units(dx * 2.0**power, want, "float64") < DERIVATIVE


CLASSES = {
    "batch_norm": "BatchNorm",
    "layer_norm": "LayerNorm",
    "rms_norm": "RMSNorm",
    "group_norm": "GroupNorm",
    "instance_norm": "InstanceNorm",
}


def of_linen(member, dtype, x, *parameters):
    norm = getattr(jaxnorm.linen, CLASSES[member.name])(dtype=dtype, **member.options)
    variables = {"params": dict(zip(("scale", "bias"), parameters))}
    if "streaming" not in member.claims:
        return norm.apply(variables, x)
    zeros = jnp.zeros(x.shape[-1:])
    variables["batch_stats"] = {"mean": zeros, "var": zeros + 1}
    return norm.apply(variables, x, use_running_average=False, mutable=["batch_stats"])[0]


def of_nnx(member, dtype, x, *parameters):
    make = getattr(jaxnorm.nnx, CLASSES[member.name])
    norm = make(x.shape[-1], dtype=dtype, rngs=nnx.Rngs(0), **member.options)
    for name, value in zip(("scale", "bias"), parameters):
        getattr(norm, name)[...] = value
    return norm(x)


ROOMS = {"linen": of_linen, "nnx": of_nnx}


@over([m for m in SAMPLED if m.name in CLASSES])
@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.nightly)])
@pytest.mark.sampled(2)
def test_the_modules_have_the_same_range(member, room, dtype):
    has_bias = getattr(jaxnorm.linen, CLASSES[member.name]).use_bias
    parameters = arguments(member) if has_bias else arguments(member)[:1]
    run = derived(functools.partial(ROOMS[room], member, DTYPES[dtype]))
    assert_in_range(run, member, dtype, inputs(DTYPES[dtype]), parameters)
