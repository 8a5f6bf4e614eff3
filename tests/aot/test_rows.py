"""The real compilers take the row kernels: no register is spilled, no fast memory overflows."""

import functools

import jax
import pytest
from jax.sharding import SingleDeviceSharding

from experiments.bench._ahead import devices, shaped
from jaxnorm.ops import standardize
from jaxnorm.ops.kernels.pallas import _blocks, _rows_gpu
from jaxnorm.ops.kernels.pallas._around import Backward
from jaxnorm.ops.kernels.pallas._rows import Rows

pytestmark = pytest.mark.aot

NO_SPILLS = {"xla_gpu_fail_ptx_compilation_on_register_spilling": True}
# Rows, entries, groups of a row: those of the benchmark, heads, and rows past one block.
SIZES = [
    (8192, 1024, 1),
    (6304, 768, 1),
    (2048, 4096, 1),
    (8192, 8192, 1),
    (2048, 16384, 1),
    (1024, 32768, 1),
    (65536, 64, 1),
    (4096, 4096, 32),
]
CALLS = {"h100": "__gpu$xla.gpu.triton", "v5e": "tpu_custom_call"}


def normalized(x, scale, bias, *, groups, center):
    return standardize(
        x,
        (len(x), groups),
        scale=scale,
        bias=bias if center else None,
        epsilon=1e-6,
        center=center,
        implementation="pallas",
    )[0]


def kernels(target, rows, length, groups, dtype, center):
    """Returns how many kernels forward and backward are; the compiler refuses what does not fit."""
    on = SingleDeviceSharding(devices(target)[0])
    x, scale = shaped((rows, length), dtype, on), shaped((1, length), "float32", on)

    def run(x, scale, bias, ct):
        of = functools.partial(normalized, groups=groups, center=center)
        y, pull = jax.vjp(of, x, scale, bias)
        return y, pull(ct)

    lowered = jax.jit(run).trace(x, scale, scale, x).lower()
    text = lowered.compile(NO_SPILLS if target == "h100" else {}).as_text()
    return text.count(f'custom_call_target="{CALLS[target]}"')


@pytest.mark.parametrize("center", [True, False], ids=["layer", "rms"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(("rows", "length", "groups"), SIZES)
@pytest.mark.parametrize("target", CALLS)
def test_forward_and_backward_fit_a_chip(ahead, target, rows, length, groups, dtype, center):
    # A GPU adds up over the columns of long rows in a kernel of its own.
    long = target == "h100" and length > _blocks.LONGEST_WITH_SUMS
    count = ahead(target)(kernels, target, rows, length, groups, dtype, center)
    assert count == (3 if long else 2)


def spilling(target):
    """Compiles a backward pass whose blocks are four times what a program's registers hold."""
    on = SingleDeviceSharding(devices(target)[0])
    rows, blocks = Rows(1, 8192, 1, 1 << 15, 0), _blocks.Blocks(1, 1 << 15, 16)
    x, small = shaped((1, 8192, 1 << 15), "float32", on), shaped((1, 8192, 1), "float32", on)

    def run(ct, x, mean):
        given = (None, None, None, None, mean, mean, mean, None, None)
        return _rows_gpu._input(rows, blocks, ct, x, given, (True, True), "gpu", Backward())

    jax.jit(run).trace(x, x, small).lower().compile(NO_SPILLS)


def test_a_block_past_the_registers_would_be_noticed(ahead):
    with pytest.raises(Exception, match="spill"):
        ahead("h100")(spilling, "h100")
