"""The real compilers take the kernels with what stands around a norm; plain JAX is one program."""

import functools

import jax
import pytest
from jax.sharding import SingleDeviceSharding

from experiments.bench._ahead import count, devices, shaped
from jaxnorm import ada_layer_norm, add_layer_norm, add_rms_norm, group_norm, layer_norm
from jaxnorm.ops import fused_standardize

pytestmark = pytest.mark.aot

NO_SPILLS = {"xla_gpu_fail_ptx_compilation_on_register_spilling": True}
BOTH = pytest.mark.parametrize("target", ["h100", "v5e"])
CALLS = {"h100": "__gpu$xla.gpu.triton", "v5e": "tpu_custom_call"}
# Forward and backward of one call: inputs as (shape, dtype), of which the parameters are float32.
CASES = {
    "the sum of a 7B transformer": (add_rms_norm, [(2048, 4096)] * 2, [(4096,)]),
    "the sum of long rows": (add_layer_norm, [(1024, 16384)] * 2, [(16384,)] * 2),
    "SiLU of rows": (functools.partial(layer_norm, activation="silu"), [(6304, 768)], [(768,)] * 2),
    "GELU of rows that fill the registers": (
        functools.partial(layer_norm, activation="gelu"),
        [(8192, 8192)],
        [(8192,)] * 2,
    ),
    "modulated rows of a DiT": (ada_layer_norm, [(32, 256, 1152)], [(32, 1152)] * 2),
    "SiLU of groups in one block": (
        functools.partial(group_norm, num_groups=32, activation="silu"),
        [(32, 28, 28, 256)],
        [(256,)] * 2,
    ),
    "SiLU of groups in several blocks": (
        functools.partial(group_norm, num_groups=32, activation="silu"),
        [(4, 64, 64, 320)],
        [(320,)] * 2,
    ),
}
# A GPU adds up over the columns of long rows by a kernel of its own; large groups take three
# kernels forward and two backward, on TPU one less in each direction or as many.
KERNELS = {
    "the sum of long rows": {"h100": 3, "v5e": 2},
    "SiLU of groups in one block": {"h100": 2, "v5e": 4},
    "SiLU of groups in several blocks": {"h100": 5, "v5e": 4},
}


def kernels(target, name, dtype, implementation="pallas"):
    """Returns how many kernels a case is made of; the compiler refuses what does not fit."""
    function, arrays, parameters = CASES[name]
    on = SingleDeviceSharding(devices(target)[0])
    given = [shaped(shape, dtype, on) for shape in arrays]
    given += [shaped(shape, "float32", on) for shape in parameters]

    def run(*given):
        out, pull = jax.vjp(functools.partial(function, implementation=implementation), *given)
        return out, pull(out)

    lowered = jax.jit(run).trace(*given).lower()
    text = lowered.compile(NO_SPILLS if target == "h100" else {}).as_text()
    return text.count(f'custom_call_target="{CALLS[target]}"')


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", CASES)
@BOTH
def test_what_stands_around_a_norm_fits_its_kernels(ahead, target, name, dtype):
    want = KERNELS.get(name, {}).get(target, 2)
    assert ahead(target)(kernels, target, name, dtype) == want


def quantized(target, dtype, length, own_step):
    """Returns how many kernels and other programs a sum is that is normalized and quantized."""
    on = SingleDeviceSharding(devices(target)[0])
    x, scale = shaped((2048, length), "bfloat16", on), shaped((1, length), "float32", on)
    steps = [] if own_step else [shaped((), "float32", on)]

    def run(x, residual, scale, *step):
        options = {"quantize": dtype, "step": step[0] if step else None, "scale": scale}
        options |= {"epsilon": 1e-6, "center": False, "implementation": "pallas"}
        fused = fused_standardize(x, (2048, 1), residual=residual, **options)
        return fused.y, fused.total, fused.step

    lowered = jax.jit(run).trace(x, x, scale, *steps).lower()
    text = lowered.compile(NO_SPILLS if target == "h100" else {}).as_text()
    return text.count(f'custom_call_target="{CALLS[target]}"')


@pytest.mark.parametrize("own_step", [True, False], ids=["a step for each row", "one step"])
@pytest.mark.parametrize(
    ("dtype", "long"), [("int8", False), ("float8_e4m3fn", False), ("int8", True)]
)
@BOTH
def test_a_quantized_sum_is_one_kernel(ahead, target, dtype, long, own_step):
    # A GPU takes longer rows in steps; a TPU holds 32 rows with all that stands around.
    length = 4096 if not long else {"h100": 32768, "v5e": 16384}[target]
    assert ahead(target)(quantized, target, dtype, length, own_step) == 1


def programs(target, function, shape, arrays, dtype, implementation):
    """Returns of how many programs the forward pass is."""
    on = SingleDeviceSharding(devices(target)[0])
    given = [shaped(shape, dtype, on)] * arrays + [shaped(shape[-1:], "float32", on)]
    run = jax.jit(functools.partial(function, implementation=implementation))
    return count(run.trace(*given).lower().compile()).programs


SILU = functools.partial(layer_norm, activation="silu")


@pytest.mark.parametrize(("function", "arrays"), [(add_rms_norm, 2), (SILU, 1)])
def test_the_kernel_is_the_only_program_on_gpu(ahead, function, arrays):
    given = ("h100", function, (8192, 1024), arrays, "bfloat16")
    assert ahead("h100")(programs, *given, "pallas") == 1
    # Of XLA's own programs those that reduce rows write one array: the sum is another.
    assert ahead("h100")(programs, *given, "xla") == arrays
