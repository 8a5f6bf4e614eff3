"""Flax's own tests of its norms hold for ours, and the harness that says so can say otherwise."""

import functools
import os

import pytest

from tests.flax_suite import sources
from tests.flax_suite.differences import CLASSES, EVERY_TEST
from tests.flax_suite.runner import Orders, Report, run, run_room

pytestmark = pytest.mark.flax_suite

NORMALIZATION = {"linen": "linen/linen_test.py", "nnx": "nnx/nn/normalization_test.py"}
# One test of Flax for each class, of those that look at its output.
PROBES = {
    "linen": {
        "BatchNorm": "test_batch_norm",
        "LayerNorm": "test_layer_norm_mask",
        "RMSNorm": "test_rms_norm_mask",
        "GroupNorm": "test_group_norm_mask",
        "InstanceNorm": "test_instance_norm",
        "WeightNorm": "test_manual_weight_norm",
        "SpectralNorm": "test_spectral_norm_sigma",
    },
    "nnx": {name: f"test_nnx_linen_{name.lower()}_equivalence" for name in CLASSES},
}


@pytest.fixture(scope="module", autouse=True)
def sources_of_flax():
    """Skips where Flax's source distribution is neither there nor to be had."""
    try:
        sources.flax_tests()
    except sources.SourcesUnavailableError as error:
        if os.environ.get("JAXNORM_REQUIRE_FLAX_SUITE"):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("room", ["linen", "nnx"])
def test_flaxs_tests_pass_with_our_classes_in_one_of_its_rooms(room):
    report = run_room(room)
    print(report.summary())
    assert report.problems() == []


def test_flaxs_comparisons_of_linen_and_nnx_hold_in_every_bit_when_both_are_ours():
    report = run(Orders(("linen", "nnx"), {NORMALIZATION["nnx"]: EVERY_TEST}))
    assert report.problems() == []


@pytest.mark.parametrize("room", ["linen", "nnx"])
def test_flaxs_tests_fail_for_each_class_when_our_core_is_off_by_a_tenth(room):
    names = "|".join(PROBES[room].values())
    select = {NORMALIZATION[room]: rf"def ({names})\("}
    failed = run(Orders((room,), select, perturbation=0.1)).having("failed")
    unharmed = [
        name for name, probe in PROBES[room].items() if not any(f"::{probe}" in t for t in failed)
    ]
    assert unharmed == []


@functools.cache
def run_of_two_tests() -> Report:
    """Returns the report of two sound tests, one of which is listed as one that has to fail."""
    select = {NORMALIZATION["linen"]: r"def test_(layer|rms)_norm_mask\("}
    listed = f"{NORMALIZATION['linen']}::NormalizationTest::test_rms_norm_mask"
    return run(Orders(("linen",), select, {listed: "made up"}))


def test_a_class_that_never_calls_our_core_fails_the_run():
    report = run_of_two_tests()
    assert set(report.idle) == {*CLASSES} - {"LayerNorm", "RMSNorm"} and report.exit_status != 0


def test_a_listed_difference_that_is_none_fails_the_run():
    failed = run_of_two_tests().having("failed")
    assert [test.split("::")[-1] for test in failed] == ["test_rms_norm_mask"]
