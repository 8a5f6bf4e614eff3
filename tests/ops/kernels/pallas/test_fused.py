"""Kernels that add, activate, modulate and quantize: lowered for GPU and TPU, and transformed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from jaxnorm import show_config
from jaxnorm.ops import fused_standardize, standardize
from jaxnorm.ops._formulas import Problem, Sum
from jaxnorm.ops.kernels.pallas import _entry
from jaxnorm.stats.sampling import Sampling
from tests.ops.fused import reference_fused
from tests.ops.kernels.pallas.columns import in_one_block
from tests.ops.kernels.pallas.programs import races_found
from tests.ops.kernels.pallas.test_lowering import BOTH, arrays
from tests.ops.kernels.pallas.test_transforms import kernels
from tests.ops.reference import reference_standardize
from tests.ops.test_fused import EPSILON, GROUPS, LAW, MODULATED, ROWS, off_by
from tests.ops.test_fused import arrays as of_case
from tests.stats.reference import relative_error, wide

nightly = pytest.mark.nightly
SILU = {"activation": "silu"}
# Function, shapes of the arrays, of the parameters, and kernels of both passes on GPU and TPU.
MODELS = {
    "add_rms_norm": ({}, [(2048, 4096)] * 2, [(4096,)], 2, 2),
    "add_layer_norm": (SILU, [(1024, 16384)] * 2, [(16384,)] * 2, 3, 2),
    "layer_norm": (SILU, [(6304, 768)], [(768,)] * 2, 2, 2),
    "ada_layer_norm": ({}, [(32, 256, 1152)], [(32, 1152)] * 2, 2, 2),
    "group_norm": (SILU | {"num_groups": 32}, [(4, 64, 64, 320)], [(320,)] * 2, 5, 4),
}


@BOTH
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.sampled(6)
def test_both_passes_are_kernels_with_all_that_stands_around(platform, name):
    options, wholes, parameters, *counts = MODELS[name]
    function = functools.partial(getattr(jaxnorm, name), implementation="pallas", **options)

    def run(*given):
        out, pull = jax.vjp(function, *given)
        return out, pull(out)

    given = arrays(*wholes, dtype=jnp.bfloat16) + arrays(*parameters)
    assert kernels(run, *given, platform=platform) == counts[platform == "tpu"]


@BOTH
@pytest.mark.parametrize("quantize", ["int8", "float8_e4m3fn"])
@pytest.mark.parametrize("step", [None, 0.1])
def test_a_sum_that_is_normalized_and_quantized_is_one_kernel(platform, quantize, step):
    def run(x, residual, scale):
        return jaxnorm.quantized_rms_norm(
            x, scale, residual=residual, step=step, dtype=quantize, implementation="pallas"
        )

    given = [*arrays((2048, 4096), (2048, 4096), dtype=jnp.bfloat16), *arrays((4096,))]
    assert kernels(run, *given, platform=platform) == 1


def test_the_configuration_says_what_plain_jax_does_around_a_kernel():
    x = jax.ShapeDtypeStruct((8, 64), jnp.float32)
    asked = functools.partial(show_config, x, residual=x, implementation="pallas")
    assert asked((8, 1)).splitlines()[-1] == "Pallas kernels in the interpreter: serves"
    *_, serves, around = asked((1, 64), activation="silu").splitlines()
    assert serves == "Pallas kernels in the interpreter: serves"
    assert around == (
        "sum, activation: plain JAX around it: the kernels add a residual to rows only, and "
        "quantize rows only"
    )


@pytest.mark.parametrize(
    ("whole", "activation"),
    [
        (True, "silu"),
        pytest.param(False, "silu", marks=nightly),
        pytest.param(True, "gelu", marks=nightly),
        pytest.param(False, "relu", marks=nightly),
    ],
)
def test_groups_are_activated_in_one_block_and_in_several(whole, activation):
    x, _, scale, bias, (ct, _) = of_case(GROUPS)

    @jax.jit
    def run(x, scale, bias):
        def activated(x, scale, bias):
            affine = {"scale": scale, "bias": bias, "epsilon": EPSILON}
            how = {"activation": activation, "implementation": "pallas"}
            return standardize(x, GROUPS.stats_shape, **affine, **how)[0]

        y, pull = jax.vjp(activated, x, scale, bias)
        return y, *pull(ct)

    with in_one_block(whole):
        got = run(x, scale, bias)
    want = reference_fused(GROUPS, x, scale, bias, activation, (ct, 0 * ct), epsilon=EPSILON)
    assert all(relative_error(have, v, 1.0) < LAW for have, v in zip(got, want, strict=True))


def loss(implementation, x, residual, scale, bias):
    """Returns a number to which every output contributes unevenly."""
    fused = fused_standardize(
        x,
        ROWS.stats_shape,
        residual=residual,
        scale=scale,
        bias=bias,
        epsilon=EPSILON,
        activation="silu",
        implementation=implementation,
    )
    outputs = (fused.y, fused.total, fused.moments.mean, fused.moments.var)
    return sum(jnp.sum(jnp.sin(v * 1.3 + 0.1)) for v in outputs)


def both(build):
    """Checks that what is built upon the kernels returns what it does upon plain JAX."""
    inputs = of_case(ROWS)[:4]
    got, want = (jax.jit(build(functools.partial(loss, i)))(*inputs) for i in ("pallas", "xla"))
    for have, value in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert relative_error(have, wide(value), 1.0) < 10 * LAW


def test_forward_mode_is_the_tangent():
    both(lambda f: lambda *a: jax.jvp(f, a, a[1::-1] + a[2:]))


@nightly
def test_a_second_derivative_and_recomputation_change_nothing():
    def build(function):
        gradient = jax.grad(jax.checkpoint(function), (0, 1, 2))
        return jax.grad(lambda *a: sum(jnp.sum(v**3) for v in gradient(*a)), (0, 3))

    both(build)


@nightly
def test_vmap_is_one_call_of_each_kernel():
    def build(function):
        mapped = jax.vmap(jax.value_and_grad(function, (0, 1, 2, 3)), (0, None, 0, None))
        return lambda x, r, s, b: mapped(jnp.stack([x, r, 2 * x]), r, jnp.stack([s, b, s]), b)

    both(build)
    assert kernels(build(functools.partial(loss, "pallas")), *of_case(ROWS)[:4]) == 2


def on_tpu(case, x, residual, scale, bias, cotangents, dtype=np.float32, **around):
    """Returns what the TPU's kernels make of both passes, called as their entry calls them."""
    added = Sum(x.dtype, residual.dtype, x.dtype)
    problem = Problem(Sampling(case.stats_shape), EPSILON, jnp.dtype(dtype), sum=added, **around)
    given = (x, residual, scale, bias)
    assert _entry.fuses("tpu_interpreted", problem, x, given[2:], ()) is None
    assert _entry.serves("tpu_interpreted", problem, x, given[2:], ()) is None

    @jax.jit
    def forward(*given):
        has = (True, True, True, True, False)
        return _entry.standardize("tpu_interpreted", *given, problem=problem, has=has)

    @jax.jit
    def backward(*operands):
        has = (True, True, False, False, True, True, True, problem.activation is not None)
        has, shapes = (*has, True, True, True), tuple(v.shape for v in given)
        how = {"problem": problem, "has": has, "shapes": shapes}
        return _entry.cotangent("tpu_interpreted", *operands, **how)

    out = forward(*given)
    if around.get("quantized"):
        return out[:3]
    _, _, mean, tail, _, rstd = out
    kept = given if problem.activation else given[:3]
    return out[0], out[1], *backward(*cotangents, *kept, mean, tail, rstd)


@nightly
@pytest.mark.parametrize("case", [ROWS, MODULATED], ids=["rows", "modulated"])
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_a_tpus_kernels_are_float64s_without_a_race(case, activation):
    *given, cotangents = of_case(case)
    y, total, *gradients = on_tpu(case, *given, cotangents, activation=activation)
    exact = wide(given[0]) + wide(given[1])
    asked = (case, exact, *given[2:], activation, cotangents)
    want, d_total, *d_affine = reference_fused(*asked, epsilon=EPSILON)
    pairs = zip((y, total, *gradients), (want, exact, d_total, d_total, *d_affine), strict=True)
    assert all(relative_error(have, value, 1.0) < LAW for have, value in pairs)
    assert not races_found()


@nightly
def test_a_tpu_counts_the_steps_of_each_row():
    *given, cotangents = of_case(ROWS)
    run = functools.partial(on_tpu, ROWS, *given, cotangents)
    values, total, step = run(quantized=True, dtype=np.int8)
    exact = wide(given[0]) + wide(given[1])
    want = reference_standardize(exact, (5, 1), EPSILON, scale=given[2], bias=given[3])
    assert off_by(values, step, want).max() <= 1
    assert relative_error(total, exact) < LAW and not races_found()
