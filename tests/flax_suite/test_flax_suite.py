"""Flax's own tests of its norms hold for ours, and the harness that says so can say otherwise."""

import functools
import os

import pytest

from tests.downloads import UnavailableError
from tests.flax_suite import sources
from tests.flax_suite.differences import CLASSES, EVERY_TEST, ROUNDING, Difference
from tests.flax_suite.runner import Orders, Report, run, run_room

pytestmark = [pytest.mark.flax_suite, pytest.mark.slow]

NORMALIZATION = {"linen": "linen/linen_test.py", "nnx": "nnx/nn/normalization_test.py"}
# One test of Flax for each class, of those that look at its output.
PROBES = {
    "linen": {
        "BatchNorm": "NormalizationTest::test_batch_norm0",
        "LayerNorm": "NormalizationTest::test_layer_norm0",
        "RMSNorm": "NormalizationTest::test_rms_norm0",
        "GroupNorm": "NormalizationTest::test_group_norm",
        "InstanceNorm": "NormalizationTest::test_instance_norm0",
        "WeightNorm": "NormalizationTest::test_manual_weight_norm0",
        "SpectralNorm": "NormalizationTest::test_spectral_norm_sigma0",
    },
    "nnx": {
        name: f"TestLinenConsistency::test_nnx_linen_{name.lower()}_equivalence0"
        for name in CLASSES
    },
}


@pytest.fixture(scope="module", autouse=True)
def sources_of_flax():
    """Skips where Flax's source distribution is neither there nor to be had."""
    try:
        sources.flax_tests()
    except UnavailableError as error:
        if os.environ.get("JAXNORM_REQUIRE_FLAX_SUITE"):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("room", ["linen", "nnx"])
def test_flaxs_tests_pass_with_our_classes_in_one_of_its_rooms(room):
    report = run_room(room)
    print(report.summary())
    assert report.problems() == []


def test_flaxs_comparisons_of_linen_and_nnx_need_the_allowance_when_one_is_ours():
    select = {NORMALIZATION["nnx"]: r"def test_nnx_linen_(layer|weight)norm_equivalence\("}
    assert run(Orders(("nnx",), select, rounding=ROUNDING["nnx"])).rounded > 0


def test_flaxs_comparisons_of_linen_and_nnx_hold_in_every_bit_when_both_are_ours():
    report = run(Orders(("linen", "nnx"), {NORMALIZATION["nnx"]: EVERY_TEST}))
    assert report.problems() == []


@pytest.mark.parametrize("room", ["linen", "nnx"])
def test_a_test_of_flax_fails_for_each_class_when_our_core_is_off_by_a_tenth(room):
    file = NORMALIZATION[room]
    probes = tuple(f"{file}::{probe}" for probe in PROBES[room].values())
    report = run(Orders((room,), {file: EVERY_TEST}, only=probes, perturbation=0.1))
    assert report.outcomes == dict.fromkeys(probes, "failed")


@functools.cache
def run_of_two_tests() -> Report:
    """Returns the report of two sound tests, one of which is listed as one that has to fail."""
    select = {NORMALIZATION["linen"]: r"def test_(layer|rms)_norm_mask\("}
    listed = f"{NORMALIZATION['linen']}::NormalizationTest::test_rms_norm_mask"
    return run(Orders(("linen",), select, {listed: Difference("made up")}))


def test_a_class_that_never_calls_our_core_fails_the_run():
    report = run_of_two_tests()
    assert set(report.idle) == {*CLASSES} - {"LayerNorm", "RMSNorm"} and report.exit_status != 0


def test_a_listed_difference_that_is_none_fails_the_run():
    failed = run_of_two_tests().having("failed")
    assert [test.split("::")[-1] for test in failed] == ["test_rms_norm_mask"]
