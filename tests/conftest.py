"""Settings of every test: eight devices on a CPU, and types checked in the lower floors."""

import gc
import itertools
import os
import zlib
from pathlib import Path

EIGHT_DEVICES = "--xla_force_host_platform_device_count=8"
# The suite runs thousands of programs once each: half of its time would be spent on their machine
# code. One piece instead of many compiles in two thirds of the time. `JAXNORM_OPTIMIZED=1` has the
# code that users get.
IN_HASTE = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
IN_HASTE += " --xla_cpu_parallel_codegen_split_count=1"
HOW = EIGHT_DEVICES if os.environ.get("JAXNORM_OPTIMIZED") == "1" else f"{EIGHT_DEVICES} {IN_HASTE}"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {HOW}".strip()
# Where in Python each operation stands takes a tenth of the time, and nobody reads it here.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
os.environ["MPLBACKEND"] = "agg"

import jax
import jaxtyping
import pytest

# Traces are many small objects that live on: looking through them for garbage takes a tenth.
gc.set_threshold(100_000, 20, 100)

# Types are checked here only: at run time the checks would cost more than small arrays do. They are
# on where the floors themselves are tested: elsewhere they would take a quarter of the time.
CHECKED_FLOORS = ("jaxnorm.stats", "jaxnorm.ops", "jaxnorm.functional", "jaxnorm.preprocessing")
CHECKED_BY = (
    "tests/stats/",
    "tests/ops/",
    "tests/functional/",
    "tests/preprocessing/",
    "tests/zoo/test_laws.py::test_output_and_gradients_are_those_of_the_definition",
)
jaxtyping.install_import_hook(CHECKED_FLOORS, "beartype.beartype")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Leaves to the nightly run all but a few cases of each test that is marked as sampled.

    Which cases stay depends on their names alone: a new case moves few of the others.
    """
    tests = {}
    for item in items:
        if item.get_closest_marker("sampled") and not item.get_closest_marker("nightly"):
            tests.setdefault(item.nodeid.split("[")[0], []).append(item)
    for cases in tests.values():
        (few,) = cases[0].get_closest_marker("sampled").args
        cases.sort(key=lambda item: zlib.crc32(item.nodeid.encode()))
        for item in cases[few:]:
            item.add_marker("nightly")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Switches the checks of types on or off, before any fixture is made."""
    jaxtyping.config.update("jaxtyping_disable", not item.nodeid.startswith(CHECKED_BY))
    return (yield)


# Each compiled program takes several maps of memory, of which Linux grants a process 65530. XLA
# ends the process where it gets no more.
MAPS = 40_000
MAPS_OF_THIS_PROCESS = Path("/proc/self/maps")
tests_run = itertools.count(1)


def pytest_runtest_teardown(item, nextitem):
    """Lets go of the compiled programs before they are too many."""
    if next(tests_run) % 25 or not MAPS_OF_THIS_PROCESS.exists():
        return
    if MAPS_OF_THIS_PROCESS.read_bytes().count(b"\n") > MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def x64():
    """Enables float64 within a test."""
    with jax.enable_x64(True):
        yield
