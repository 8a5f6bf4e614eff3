"""Which tests of Flax are run, and where their outcome is meant to differ.

The one table of what our drop-in classes do otherwise than Flax on purpose, as far as a test of
Flax pins it. It is checked: a test in `DIFFERENCES` has to fail, the allowance of `ROUNDING` has to
be needed.
"""

from typing import NamedTuple

CLASSES = (
    "BatchNorm",
    "LayerNorm",
    "RMSNorm",
    "GroupNorm",
    "InstanceNorm",
    "WeightNorm",
    "SpectralNorm",
)

ANY_NORM = "|".join(CLASSES)
EVERY_TEST = ""

# room -> file -> regular expression: a test runs if its source matches.
SELECTION = {
    "linen": {
        "checkpoints_test.py": r"Model\(",
        "linen/linen_module_test.py": ANY_NORM,
        "linen/linen_test.py": ANY_NORM,
        "linen/linen_transforms_test.py": ANY_NORM,
        "linen/summary_test.py": f"{ANY_NORM}|CNN",
    },
    "nnx": {
        "nnx/bridge/wrappers_test.py": ANY_NORM,
        "nnx/graph_utils_test.py": ANY_NORM,
        "nnx/helpers_test.py": ANY_NORM,
        "nnx/integration_test.py": ANY_NORM,
        "nnx/module_test.py": ANY_NORM,
        "nnx/nn/linear_test.py": ANY_NORM,
        "nnx/nn/normalization_test.py": EVERY_TEST,
        "nnx/summary_test.py": ANY_NORM,
        "nnx/transforms_test.py": ANY_NORM,
    },
}

CONSISTENCY = "nnx/nn/normalization_test.py::TestLinenConsistency::test_nnx_linen_{}_equivalence"


class Difference(NamedTuple):
    """Why a test of Flax has to fail, and how."""

    reason: str
    raises: str = "AssertionError"
    since: str = "0"  # the first version of Flax that has the test


LARGE_OFFSET = Difference(
    "compares with a formula in float32 at mean/std 1e4 or 1e6, whose own error is 1e-3 or 0.04; "
    "ours are within 1e-6 of float64 there"
)
FAST_VARIANCE = Difference(
    "compares with E[x^2] - E[x]^2 over two channels, which loses the digits of two close values; "
    "ours shift before they square"
)
NO_SAMPLES = Difference(
    "masks all entries of a feature and compares the NaN that Flax gives; without samples ours "
    "stay finite and leave the running statistics alone"
)
ONE_VALUE = Difference(
    "trains on one value per feature and expects the statistics to move: Flax returns the bias and "
    "pulls the running variance to zero; ours warn and use the running statistics as they are",
    since="0.12.7",
)

# room -> test -> why ours are right to fail it. A number stands for the parameters of that number;
# with odd ones the comparisons of linen and nnx have a mask.
DIFFERENCES: dict[str, dict[str, Difference]] = {
    "linen": {
        "linen/linen_test.py::NormalizationTest::test_instance_norm3": LARGE_OFFSET,
        "linen/linen_test.py::NormalizationTest::test_layer_norm4": LARGE_OFFSET,
    },
    "nnx": {
        **{f"{CONSISTENCY.format('batchnorm')}{n}": NO_SAMPLES for n in range(1, 16, 2)},
        **{f"{CONSISTENCY.format('instancenorm')}{n}": NO_SAMPLES for n in range(1, 16, 2)},
        **{f"{CONSISTENCY.format('groupnorm')}{n}": FAST_VARIANCE for n in (0, 4)},
        **{
            f"nnx/transforms_test.py::TestVmap::test_state_axes_simple_functional{n}": ONE_VALUE
            for n in (0, 1)
        },
    },
}

# room -> test -> by how many units of the epsilon of the compared dtype, times the largest number,
# two results may differ that Flax compares bit by bit: with one of its two implementations replaced
# they no longer come from the same operations.
ROUNDING: dict[str, dict[str, float]] = {
    "linen": {},
    "nnx": {CONSISTENCY.format(name.lower()): 8.0 for name in CLASSES},
}
