"""Law 1: float32 output, gradient and variance within 4e-6 of float64, at any offset."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.stats import moments
from tests.laws.implementations import MOSTLY_KERNELS
from tests.laws.members import (
    CENTRED,
    SHAPE,
    array,
    claiming,
    expected_gradient,
    expected_output,
    once,
    options_of,
    output,
    over,
    samples_per_statistic,
)
from tests.stats.reference import reference_moments, relative_error, rounding, wide

LAW = 4e-6
OFFSETS = [0.0, 1e2, 1e4, 1e6]


def shape_of(member):
    """Returns a shape as large as in real models: a kernel, rows of a transformer, or images."""
    if member.of == "kernel":
        return (3, 3, 64, 16)
    reduced = [n > s for n, s in zip(SHAPE, member.stats_shape(SHAPE))]
    if reduced == [False, False, False, True]:
        return (64, 1024)
    return (32 if member.stats_shape(SHAPE)[0] == 1 else 8, 28, 28, 16)


@once
def trained(member, masked=False):
    """Returns the compiled function to output, gradient of `x` and variance, by default."""

    @jax.jit
    def compute(x, cotangent, mask=None):
        sample = {"mask": mask} if masked else {}
        y, pullback = jax.vjp(lambda x: output(member, x, **sample), x)
        taken = moments(x, member.stats_shape(x.shape), center=member.center, **sample)
        return y, pullback(cotangent)[0], taken.var

    return compute


def errors(member, x, cotangent):
    """Returns the relative errors of output, gradient and variance."""
    y, dx, var = trained(member)(x, cotangent)
    variance = reference_moments(x, member.stats_shape(x.shape), None, member.center).var
    return {
        "output": relative_error(y, expected_output(member, x)),
        "gradient": relative_error(dx, expected_gradient(member, x, cotangent)),
        "variance": relative_error(var, variance),
    }


@over(claiming("offset"))
@pytest.mark.sampled(2)
def test_output_gradient_and_variance_hold_at_every_offset(member, implementation):
    cotangent = array(1, shape_of(member))
    for offset in OFFSETS:
        found = errors(member, array(0, shape_of(member), offset), cotangent)
        assert max(found.values()) < LAW, f"mean / std = {offset}: {found}"


@over(claiming("offset"))
def test_output_gradient_and_variance_hold_with_an_extreme_outlier_as_the_first_member(
    member, implementation
):
    cotangent = array(1, shape_of(member))
    for offset in OFFSETS:
        x = array(0, shape_of(member), offset)
        x[(0,) * (x.ndim - 1)] = offset + 1e4
        found = errors(member, x, cotangent)
        assert max(found.values()) < LAW, f"mean / std = {offset}: {found}"


@over(claiming("offset", "mask"))
@pytest.mark.sampled(2)
def test_masked_samples_hold_at_every_offset_with_an_outlier_as_the_first_valid_member(member):
    shape = shape_of(member)
    mask = np.random.default_rng(2).random(shape) < 0.8
    mask.ravel()[0] = True
    bound = max(LAW, rounding(np.float32, samples_per_statistic(member, shape)))
    for offset in OFFSETS:
        x, cotangent = array(0, shape, offset), mask * array(1, shape)
        x.ravel()[0] = offset + 1e3
        y, dx, var = trained(member, True)(x, cotangent, mask)
        want = reference_moments(x, member.stats_shape(shape), mask, member.center).var
        assert relative_error(var, want) < LAW
        assert relative_error(y, expected_output(member, x, weights=mask)) < LAW
        # What the outlier's own gradient sums over the others cancels to a few roundings of n.
        assert relative_error(dx, expected_gradient(member, x, cotangent, weights=mask)) < bound


@over(CENTRED)
@pytest.mark.parametrize("value", [0.0, 0.1, -3e4, 1e30])
@pytest.mark.sampled(8)
def test_a_constant_input_gives_exactly_the_bias(member, value, implementation):
    x = np.full(SHAPE, value, np.float32)
    scale, bias = array(1, SHAPE[-1:]), array(2, SHAPE[-1:])
    y = compiled_with_parameters(member)(x, scale, bias)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, SHAPE))


@once
def compiled_with_parameters(member):
    return jax.jit(functools.partial(output, member))


@pytest.mark.nightly
@over(claiming("offset"))
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@MOSTLY_KERNELS
def test_low_precision_costs_one_rounding_of_the_result_at_a_large_offset(
    member, dtype, implementation
):
    # x is exact in its dtype, the arithmetic is float32: what remains is the last rounding.
    x = jnp.asarray(array(0, SHAPE, 100.0) * 4).astype(dtype)
    cotangent = jnp.asarray(array(1)).astype(dtype)
    y, dx, var = trained(member)(x, cotangent)
    assert (y.dtype, dx.dtype, var.dtype) == (dtype, dtype, np.float32)
    x, cotangent = wide(x), wide(cotangent)
    half_ulp = float(jnp.finfo(dtype).eps) / 2
    tiny = float(jnp.finfo(dtype).smallest_subnormal)
    for have, want in (
        (y, expected_output(member, x)),
        (dx, expected_gradient(member, x, cotangent)),
    ):
        granted = half_ulp * np.abs(want) + LAW * np.abs(want).max() + tiny
        assert np.all(np.abs(wide(have) - want) <= granted)
    variance = reference_moments(x, member.stats_shape(SHAPE), None, member.center).var
    assert relative_error(var, variance) < LAW


@over(claiming("offset", among=CENTRED))
@pytest.mark.sampled(6)
def test_two_passes_hold_as_well(member, implementation):
    options = options_of(member, variance="two_pass")
    if not options:
        pytest.skip("has no choice of variance")
    run = jax.jit(lambda x: output(member, x, **options))
    for offset in OFFSETS:
        x = array(0, SHAPE, offset)
        assert relative_error(run(x), expected_output(member, x)) < LAW


FLAX = {
    "batch_norm": nn.BatchNorm(use_running_average=False, use_bias=False, use_scale=False),
    "layer_norm": nn.LayerNorm(use_bias=False, use_scale=False),
    "group_norm": nn.GroupNorm(num_groups=2, use_bias=False, use_scale=False),
    "instance_norm": nn.InstanceNorm(use_bias=False, use_scale=False),
}


@over([m for m in CENTRED if m.name in FLAX])
def test_flax_fails_this_law_at_an_offset_of_1e4(member):
    x = array(0, shape_of(member), 1e4)
    apply = jax.jit(lambda x: FLAX[member.name].init_with_output(jax.random.key(0), x)[0])
    want = expected_output(member, x)
    assert relative_error(apply(x), want) > 0.1
    assert errors(member, x, array(1, shape_of(member)))["output"] < LAW
