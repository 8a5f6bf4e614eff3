"""Settings of every test: eight devices on a CPU, and types checked in the lower floors."""

import os

EIGHT_DEVICES = "--xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {EIGHT_DEVICES}".strip()
os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
os.environ["MPLBACKEND"] = "agg"

import jax
import jaxtyping
import pytest

# Types are checked here only: at run time the checks would cost more than small arrays do.
CHECKED_FLOORS = ("jaxnorm.stats", "jaxnorm.ops", "jaxnorm.functional", "jaxnorm.preprocessing")
jaxtyping.install_import_hook(CHECKED_FLOORS, "beartype.beartype")


@pytest.fixture
def x64():
    """Enables float64 within a test."""
    with jax.enable_x64(True):
        yield
