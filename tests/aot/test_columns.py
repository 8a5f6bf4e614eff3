"""The real compilers take the column kernels: no register is spilled, no fast memory overflows."""

import re

import jax
import pytest
from jax.sharding import SingleDeviceSharding

from experiments.bench._ahead import devices
from tests.ops.kernels.pallas.columns import shapes_of, traced
from tests.ops.kernels.pallas.test_columns_lowering import MODELS

pytestmark = pytest.mark.aot

NO_SPILLS = {"xla_gpu_fail_ptx_compilation_on_register_spilling": True}


def compiled_for(target, case, dtype):
    """Returns the text of the compiled program; the compiler refuses what does not fit."""
    (device,) = devices(target)
    platform = "gpu" if target == "h100" else "tpu"
    run = jax.jit(traced(case, 1e-5, target=platform))
    lowered = run.trace(*shapes_of(case, dtype, SingleDeviceSharding(device))).lower()
    return lowered.compile(NO_SPILLS if platform == "gpu" else {}).as_text()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("target", ["h100", "v5e"])
def test_the_kernels_fit_a_chip(ahead, target, name, dtype):
    case, *names = MODELS[name]
    text = ahead(target)(compiled_for, target, case, dtype)
    for kernel in names[target != "h100"]:
        assert re.search(rf"custom-call.*{kernel}", text)
