"""Sums that are normalized, activations behind norms and quantized outputs, against float64."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnorm
from jaxnorm.ops import fused_standardize, standardize
from tests.laws.test_residuals import kept
from tests.ops.fused import ACTIVATIONS, reference_activation, reference_fused
from tests.ops.kernels.cases import Case
from tests.ops.reference import reference_standardize
from tests.stats.reference import relative_error, spread, wide

EPSILON = 1e-3
LAW = 4e-6
# Rows with a tail, a scale for each block of rows, groups of channels, rows past a GPU's block.
ROWS = Case((5, 133), (5, 1), (1, 133))
MODULATED = Case((3, 4, 20), (3, 4, 1), (3, 1, 20))
GROUPS = Case((2, 3, 5, 16), (2, 1, 1, 4), (1, 1, 1, 16))
LONG = Case((2, 9001), (2, 1), (1, 9001))
LONGEST = Case((2, 20_000), (2, 1), (1, 20_000))
nightly = pytest.mark.nightly


def arrays(case, dtype=np.float32, seed=0):
    """Returns x, residual, scale, bias and the cotangents of y and of the sum."""
    rng = np.random.default_rng(seed)
    whole = [rng.normal(size=case.shape).astype(np.float32) for _ in range(4)]
    scale, bias = (rng.normal(c, 1, case.affine_shape).astype(np.float32) for c in (1, 0))
    x, residual, *cotangents = (jnp.asarray(v, dtype) for v in whole)
    return x, residual, scale, bias, tuple(cotangents)


@functools.cache
def program(case, activation, implementation, center=True, residual_dtype=None):
    """Returns the compiled function to y and the sum, and to the gradients of all inputs."""

    def run(x, residual, scale, bias):
        affine = {"scale": scale, "bias": bias, "epsilon": EPSILON, "center": center}
        how = {"activation": activation, "implementation": implementation}
        fused = fused_standardize(
            x, case.stats_shape, residual=residual, residual_dtype=residual_dtype, **affine, **how
        )
        return fused.y, fused.total

    def both(x, residual, scale, bias, cotangents):
        out, pull = jax.vjp(run, x, residual, scale, bias)
        return out, pull(tuple(ct.astype(v.dtype) for ct, v in zip(cotangents, out)))

    return jax.jit(both)


def check(case, dtype, activation, implementation, center=True, residual_dtype=None):
    x, residual, scale, bias, cotangents = arrays(case, dtype)
    run = program(case, activation, implementation, center, residual_dtype)
    (y, total), (dx, dresidual, dscale, dbias) = run(x, residual, scale, bias, cotangents)
    exact = wide(x) + wide(residual)
    given = (case, exact, scale, bias, activation, cotangents)
    want, d_total, *d_affine = reference_fused(*given, epsilon=EPSILON, center=center)
    eps = float(jnp.finfo(dtype).eps) if dtype != np.float32 else 0
    assert relative_error(y, want, 1.0) < LAW + eps
    assert relative_error(total, exact) <= float(jnp.finfo(total.dtype).eps) / 2
    for have, value in zip((dx, dresidual, dscale, dbias), (d_total, d_total, *d_affine)):
        assert relative_error(have, value, 1.0) < LAW + (eps if have.dtype == dtype else 0)
    assert total.dtype == (residual_dtype or dtype) and dx.dtype == dresidual.dtype == dtype


PLAIN = [
    (ROWS, jnp.bfloat16, None, None),
    (GROUPS, np.float32, "gelu", None),
    (ROWS, np.float32, "silu", "xla"),
    (MODULATED, jnp.bfloat16, "relu", "xla"),
    *(
        pytest.param(case, dtype, activation, implementation, marks=nightly)
        for case, dtype, activation in (
            (ROWS, np.float32, "silu"),
            (MODULATED, jnp.bfloat16, "relu"),
            (GROUPS, jnp.bfloat16, "silu"),
            (LONG, np.float32, "gelu"),
        )
        for implementation in (None, "xla")
    ),
]
KERNELS = [
    (ROWS, jnp.bfloat16, None),
    (GROUPS, np.float32, "silu"),
    *(
        pytest.param(case, dtype, activation, marks=nightly)
        for case in (ROWS, MODULATED, GROUPS, LONG, LONGEST)
        for dtype in (np.float32, jnp.bfloat16)
        for activation in (None, *ACTIVATIONS)
    ),
]


@pytest.mark.parametrize(("case", "dtype", "activation", "implementation"), PLAIN)
@pytest.mark.sampled(2)
def test_plain_jax_and_native_kernels_are_float64s(case, dtype, activation, implementation):
    check(case, dtype, activation, implementation)


@pytest.mark.parametrize(("case", "dtype", "activation"), KERNELS)
def test_a_gpus_kernels_are_float64s(case, dtype, activation):
    check(case, dtype, activation, "pallas")


@nightly
@pytest.mark.parametrize("implementation", ["xla", "pallas"])
@pytest.mark.parametrize("residual_dtype", [np.float32, jnp.bfloat16])
def test_a_sum_in_another_dtype_is_normalized_before_it_is_rounded(implementation, residual_dtype):
    check(ROWS, jnp.bfloat16, "silu", implementation, residual_dtype=residual_dtype)
    check(ROWS, jnp.bfloat16, None, implementation, center=False, residual_dtype=residual_dtype)


SHARDED = {"rows": P("a"), "rows and entries": P("a", "b"), "entries": P(None, ("a", "b"))}


@pytest.mark.parametrize(
    "name", ["rows and entries", *(pytest.param(v, marks=nightly) for v in ("rows", "entries"))]
)
def test_shards_of_a_mesh_add_and_activate_as_one_device_does(name):
    case = Case((8, 64), (8, 1), (1, 64))
    x, residual, scale, bias, cotangents = arrays(case)
    run = program(case, "silu", None)
    mesh = Mesh(np.array(jax.devices()[:8]).reshape(4, 2), ("a", "b"))
    on, whole = NamedSharding(mesh, SHARDED[name]), NamedSharding(mesh, P())
    cut = [jax.device_put(v, on) for v in (x, residual, *cotangents)]
    affine = [jax.device_put(v, whole) for v in (scale, bias)]
    want = run(x, residual, scale, bias, cotangents)
    got = run(*cut[:2], *affine, tuple(cut[2:]))
    for have, value in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert relative_error(have, wide(value), 1.0) < LAW


@pytest.mark.parametrize(
    "activation", ["silu", *(pytest.param(v, marks=nightly) for v in ("relu", "gelu"))]
)
def test_masked_samples_are_activated_with_the_same_slope(activation):
    x, _, scale, bias, (ct, _) = arrays(ROWS)
    mask = np.arange(133) < 100

    def run(x, scale, bias):
        return jaxnorm.layer_norm(x, scale, bias, mask=mask, activation=activation)

    def apart(x, scale, bias):
        z = jaxnorm.layer_norm(x, scale, bias, mask=mask)
        return getattr(jax.nn, activation)(z)

    got, want = (jax.vjp(f, x, scale[0], bias[0]) for f in (run, apart))
    for have, value in zip((got[0], *got[1](ct)), (want[0], *want[1](ct)), strict=True):
        assert relative_error(have, wide(value), 1.0) < LAW
    assert kept(run, x, scale[0], bias[0]) < kept(apart, x, scale[0], bias[0])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_of_any_size_are_those_of_float64(activation):
    ends = [1e1, 1e2, 1e5, 1e18, 1e30, 3e38]
    z = np.array([*(-v for v in reversed(ends)), -3, -1, 0.0, 1, 3, *ends], np.float32)
    scale, zero = jnp.ones((1, z.size)), jnp.zeros((1, z.size))
    run = functools.partial(standardize, stats_shape=(1, 1), epsilon=1.0, activation=activation)
    y, pull = jax.vjp(lambda bias: run(zero, scale=scale, bias=bias)[0], z[None])
    with np.errstate(over="ignore"):
        near = np.clip(wide(z), -1e3, 1e3)
        share, slope = reference_activation(activation, near)
        want = np.where(near == z, share, np.maximum(wide(z), 0))
    np.testing.assert_allclose(y[0], want, rtol=LAW, atol=LAW)
    np.testing.assert_allclose(pull(scale)[0][0], slope, rtol=LAW, atol=LAW)


def test_running_statistics_are_followed_by_the_activation():
    x, stats = np.float32([[-1.0, 0.5], [3.0, -2.0]]), jaxnorm.BatchStats(jnp.ones(2), jnp.ones(2))
    y, _ = jaxnorm.batch_norm(x, stats, use_running_average=True, epsilon=0.0, activation="silu")
    assert relative_error(y, reference_activation("silu", wide(x) - 1)[0], 1.0) < LAW


def test_the_backward_pass_keeps_nothing_more_for_an_activation_but_the_bias():
    x, parameter = (jax.ShapeDtypeStruct(s, np.float32) for s in ((256, 64), (64,)))
    bare, silu = (
        kept(functools.partial(jaxnorm.layer_norm, activation=a), x, parameter, parameter)
        for a in (None, "silu")
    )
    assert silu - bare <= 64 * 4


@pytest.mark.parametrize(
    ("residual_dtype", "each"), [(jnp.bfloat16, 4), (np.float32, 4)], ids=["two arrays", "the sum"]
)
def test_the_backward_pass_keeps_what_was_normalized(residual_dtype, each):
    x = jax.ShapeDtypeStruct((256, 64), jnp.bfloat16)
    run = functools.partial(jaxnorm.add_rms_norm, residual_dtype=residual_dtype)
    assert kept(run, x, x) <= 256 * 64 * each + 256 * 4 + 16
    wide_x = jax.ShapeDtypeStruct((256, 64), np.float32)
    assert kept(run, wide_x, x) <= 256 * 64 * (4 if residual_dtype == np.float32 else 6) + 1040


# Half a step of int8; of float8, whose steps grow, a sixteenth of the entry.
def off_by(values, step, want):
    counts, exact = (wide(v) for v in (values.astype(jnp.float32), want / wide(step)))
    allowed = np.full(exact.shape, 0.5)
    if values.dtype != jnp.int8:
        allowed = np.maximum(np.abs(exact) / 16, 2.0**-10)
    return np.abs(counts - exact) / (allowed + 1e-3)


QUANTIZED = [
    ("int8", jnp.bfloat16, "pallas"),
    ("int8", jnp.bfloat16, None),
    ("float8_e4m3fn", np.float32, "xla"),
    *(
        pytest.param(name, dtype, implementation, marks=nightly)
        for name in ("int8", "float8_e4m3fn")
        for dtype in (np.float32, jnp.bfloat16)
        for implementation in (None, "xla", "pallas")
    ),
]


@pytest.mark.parametrize(("name", "dtype", "implementation"), QUANTIZED)
@pytest.mark.sampled(2)
def test_quantized_rows_are_within_half_a_step_of_float64(name, dtype, implementation):
    x, residual, scale, bias, _ = arrays(ROWS, dtype)
    run = functools.partial(
        jaxnorm.quantized_layer_norm,
        residual=residual,
        dtype=name,
        epsilon=EPSILON,
        implementation=implementation,
    )
    values, step, total = jax.jit(run)(x, scale, bias)
    exact = wide(x) + wide(residual)
    want = reference_standardize(exact, ROWS.stats_shape, EPSILON, scale=scale, bias=bias)
    most = 127 if name == "int8" else 448
    assert relative_error(step, np.abs(want).max(1, keepdims=True) / most) < LAW
    assert off_by(values, step, want).max() <= 1
    assert np.abs(wide(values.astype(jnp.float32))).max() == most
    assert relative_error(total, exact) <= float(jnp.finfo(dtype).eps) / 2
    assert values.dtype == jnp.dtype(name)


@pytest.mark.parametrize("implementation", ["xla", pytest.param("pallas", marks=nightly)])
@pytest.mark.parametrize("name", ["int8", "float8_e4m3fn"])
def test_what_a_given_step_cannot_count_becomes_the_largest_count(name, implementation):
    x, _, scale, bias, _ = arrays(ROWS)
    step = 0.01 if name == "int8" else 0.003
    values, steps, total = jaxnorm.quantized_rms_norm(
        x, scale, bias, step=step, dtype=name, epsilon=EPSILON, implementation=implementation
    )
    want = reference_standardize(x, (5, 1), EPSILON, center=False, scale=scale, bias=bias)
    most = 127 if name == "int8" else 448
    clipped = np.clip(want, -most * np.float32(step), most * np.float32(step))
    assert np.any(clipped != want) and total is None
    assert off_by(values, np.float32(step), clipped).max() <= 1
    np.testing.assert_array_equal(steps, np.full((5, 1), step, np.float32))


@nightly
@pytest.mark.parametrize("implementation", ["xla", "pallas"])
def test_rows_of_zeros_and_rows_past_a_block_are_quantized(implementation):
    run = functools.partial(jaxnorm.quantized_rms_norm, implementation=implementation)
    values, step, _ = run(jnp.zeros((3, 40)))
    assert not np.any(values) and np.all(np.isfinite(step))
    x, *_ = arrays(LONGEST)
    values, step, _ = run(x, epsilon=EPSILON, activation="silu")
    want = reference_standardize(x, LONGEST.stats_shape, EPSILON, center=False)
    assert off_by(values, step, reference_activation("silu", want)[0]).max() <= 1


def test_samples_of_columns_and_masked_ones_have_a_step_each():
    x, *_ = arrays(GROUPS)
    want = reference_standardize(x, GROUPS.stats_shape, EPSILON)
    for mask in (None, np.ones((1, 1, 1, 16), bool)):
        fused = fused_standardize(
            x, GROUPS.stats_shape, epsilon=EPSILON, quantize="int8", mask=mask
        )
        assert off_by(fused.y, spread(np.asarray(fused.step), x.shape), want).max() <= 1


REFUSED = {
    "activation='tanh' is unknown": (ValueError, {"activation": "tanh"}),
    "float16 must be int8 or float8": (TypeError, {"quantize": "float16"}),
    "leave out dtype": (ValueError, {"quantize": "int8", "dtype": "float32"}),
    "give quantize": (ValueError, {"step": 1.0}),
    "there is no residual": (ValueError, {"residual_dtype": "float32"}),
    r"residual \[3\] must have the shape of x": (ValueError, {"residual": jnp.ones(3)}),
    "step .* does not broadcast": (ValueError, {"quantize": "int8", "step": jnp.ones((4, 3))}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_go_together_is_refused(message):
    error, options = REFUSED[message]
    with pytest.raises(error, match=message):
        inspect.unwrap(fused_standardize)(jnp.ones((4, 3)), (4, 1), epsilon=0.1, **options)


@pytest.mark.parametrize("mask", [None, np.ones((4, 3), bool)])
def test_a_quantized_output_is_not_differentiated(mask):
    def run(x):
        fused = fused_standardize(x, (4, 1), epsilon=0.1, quantize="float8_e4m3fn", mask=mask)
        return fused.y.astype(jnp.float32).sum()

    with pytest.raises(TypeError, match="the quantized output has no derivative"):
        jax.grad(run)(jnp.ones((4, 3)))


def test_complex_numbers_are_not_activated():
    with pytest.raises(TypeError, match="activation='relu' takes real numbers"):
        jaxnorm.layer_norm(jnp.ones((2, 3), complex), activation="relu")
