"""The column kernels lower for GPU and TPU at the sizes of models."""

import re

import jax
import jax.numpy as jnp
import pytest

from tests.ops.kernels.cases import Case
from tests.ops.kernels.pallas.columns import shapes_of, traced

WHOLE = ["jaxnorm_column_backward", "jaxnorm_column_forward"]
PARTS = [f"jaxnorm_column_{name}" for name in ("affine", "moments", "pull", "sums")]
POOLED = sorted([*PARTS, "jaxnorm_column_pool"])
MODELS = {
    "batch": (Case((32, 56, 56, 256), (1, 1, 1, 256), (1, 1, 1, 256)), POOLED, PARTS),
    "batch of vectors": (Case((512, 1000), (1, 1000), (1, 1000)), WHOLE, WHOLE),
    "ghost batch": (Case((64, 28, 28, 128), (8, 1, 1, 128), (1, 1, 1, 128)), POOLED, PARTS),
    "instance": (Case((8, 128, 128, 64), (8, 1, 1, 64), (1, 1, 1, 64)), POOLED, PARTS),
    "instance, small images": (Case((8, 28, 28, 256), (8, 1, 1, 256)), WHOLE, WHOLE),
    "group": (Case((32, 56, 56, 256), (32, 1, 1, 32), (1, 1, 1, 256)), POOLED, PARTS),
    "group of ten": (Case((4, 64, 64, 320), (4, 1, 1, 32), (1, 1, 1, 320)), POOLED, PARTS),
    "group, small images": (Case((8, 8, 8, 512), (8, 1, 1, 32), (1, 1, 1, 512)), WHOLE, PARTS),
    "odd": (Case((5, 31, 37, 3), (5, 1, 1, 3), (1, 1, 1, 3)), WHOLE, WHOLE),
}


@pytest.mark.parametrize(("case", "on_gpu", "on_tpu"), MODELS.values(), ids=MODELS)
def test_the_kernels_lower_for_gpu_and_tpu(case, on_gpu, on_tpu):
    for target, platform, names in (("gpu", "cuda", on_gpu), ("tpu", "tpu", on_tpu)):
        run = traced(case, 1e-5, target=target)
        lowered = jax.jit(run).trace(*shapes_of(case, jnp.bfloat16))
        text = lowered.lower(lowering_platforms=(platform,)).as_text()
        assert sorted(set(re.findall(r"jaxnorm_column_\w+", text))) == names
