"""Which tests of Flax are run, and where their outcome is meant to differ.

The one table of what our drop-in classes do otherwise than Flax on purpose, as far as a test of
Flax pins it. Every row is checked: a test in `DIFFERENCES` has to fail, and a test in `ROUNDING`
has to need its allowance.
"""

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

LARGE_OFFSET = (
    "it compares with a formula in float32 whose rounded mean is off by more than the numbers it "
    "normalizes can bear; ours are within 4e-6 of float64"
)
ONE_VALUE = (
    "it trains on one value per feature, whose variance is zero: Flax returns the bias and pulls "
    "the running variance to zero, ours says so and names the remedies"
)

# room -> test -> why ours is right to fail it. A number stands for the parameters of that number.
DIFFERENCES: dict[str, dict[str, str]] = {
    "linen": {
        "linen/linen_module_test.py::ModuleTest::test_bind_stateful": ONE_VALUE,
        "linen/linen_test.py::NormalizationTest::test_instance_norm3": LARGE_OFFSET,
        "linen/linen_test.py::NormalizationTest::test_layer_norm4": LARGE_OFFSET,
    },
    "nnx": {},
}

# With one of Flax's two implementations replaced, these can no longer be equal in every bit. In
# units of the epsilon of the dtype that is compared.
_CONSISTENCY = "nnx/nn/normalization_test.py::TestLinenConsistency::test_nnx_linen_{}_equivalence"
ROUNDING: dict[str, dict[str, float]] = {
    "linen": {},
    "nnx": {
        _CONSISTENCY.format(name.lower()): 8.0
        for name in ("BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm")
    },
}
