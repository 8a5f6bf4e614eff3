"""What XLA makes of plain JAX on accelerators, counted beside Flax."""

import math

import pytest

from experiments.bench._ahead_table import counted
from experiments.bench._cases import PASSES, TINY, Case

pytestmark = pytest.mark.aot

ROWS = [
    Case("layer", (8192, 1024), "transformer"),
    Case("rms", (8192, 1024), "transformer"),
    Case("rms", (2048, 4096), "transformer"),
]
COLUMNS = [
    Case("batch", (32, 56, 56, 64), "ResNet-50"),
    Case("batch", (32, 7, 7, 2048), "ResNet-50"),
    Case("instance", (32, 56, 56, 64), "ResNet-50"),
    Case("group", (32, 56, 56, 64), "ResNet-50"),
    Case("group", (4, 64, 64, 320), "diffusion U-Net"),
]
LABEL = {"ids": lambda value: getattr(value, "label", None)}
# Programs on one GPU, forward, and forward and backward.
PROGRAMS = {
    TINY[0]: (1, 4),
    TINY[1]: (2, 3),
    ROWS[0]: (1, 7),
    ROWS[1]: (1, 6),
    ROWS[2]: (1, 6),
    COLUMNS[0]: (6, 9),
    COLUMNS[1]: (5, 7),
    COLUMNS[2]: (5, 8),
    COLUMNS[3]: (6, 12),
    COLUMNS[4]: (7, 11),
}
# What statistics about a pivot, in units that cannot overflow, take more than two sums about zero:
# the pivot, and a third sum.
MORE = 2


def counts(ahead, target, case, direction, *libraries):
    """Returns the counts of jaxnorm and of other libraries, in bfloat16."""
    asked = (target, case, "bfloat16", direction)
    found = {name: ahead(target)(counted, *asked, name) for name in ("jaxnorm", *libraries)}
    assert found["jaxnorm"].conditionals == 0
    # Statistics and their parts, nothing of the size of x in bytes.
    assert found["jaxnorm"].temporaries < max(2 * math.prod(case.shape) / 8, 1 << 12)
    return found


@pytest.mark.parametrize("case", PROGRAMS, **LABEL)
@pytest.mark.parametrize("direction", PASSES)
def test_a_gpu_starts_no_more_programs_than_were_counted(ahead, case, direction):
    found = counts(ahead, "h100", case, direction)
    assert found["jaxnorm"].programs <= PROGRAMS[case][direction == "both"]


@pytest.mark.parametrize("case", PROGRAMS, **LABEL)
def test_a_gpu_starts_no_more_programs_than_for_flax_but_for_accuracy(ahead, case):
    found = counts(ahead, "h100", case, "forward", "flax.linen")
    more = MORE if len(case.shape) == 4 else 0
    if case.member == "group" and case.size == "4x64x64x320":
        more += 1  # groups of ten channels are summed after the columns
    assert found["jaxnorm"].programs <= found["flax.linen"].programs + more


@pytest.mark.parametrize("case", [*ROWS[::2], COLUMNS[0], *COLUMNS[2:4]], **LABEL)
@pytest.mark.parametrize(
    ("target", "direction"), [("v5e", "forward"), ("v5e", "both"), ("v6e", "both")]
)
def test_a_tpu_reads_and_writes_what_it_does_for_flax(ahead, target, case, direction):
    found = counts(ahead, target, case, direction, "flax.linen")
    # Of each row the first lanes are read once more: an eighth of 1024 entries.
    granted = 1.01 if case.member != "layer" else 1.07
    assert found["jaxnorm"].accessed < granted * found["flax.linen"].accessed
