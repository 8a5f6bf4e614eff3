"""The fixture that lets each implementation compute in turn."""

import functools

import jax.numpy as jnp
import pytest

from jaxnorm import standardize

VARIABLE = "JAXNORM_IMPLEMENTATION"


# The interpreter of the Pallas kernels takes seconds to compile what they take milliseconds for.
PALLAS = pytest.param("pallas", marks=pytest.mark.nightly)

# The kernels in the suite, plain JAX every night.
MOSTLY_KERNELS = pytest.mark.parametrize(
    "implementation",
    ["native", pytest.param("xla", marks=pytest.mark.nightly), PALLAS],
    indirect=True,
)


@functools.cache
def why_no_kernels():
    """Returns why the kernels cannot be asked for on this machine, or None."""
    try:
        standardize(jnp.ones((8, 64)), (8, 1), epsilon=1e-6, implementation="native")
    except ValueError as error:
        return str(error)
    return None


@pytest.fixture(params=["xla", "native", PALLAS])
def implementation(request, monkeypatch):
    """Makes one implementation compute whatever it can within a test."""
    if request.param == "native" and (why_not := why_no_kernels()) is not None:
        pytest.skip(why_not)
    monkeypatch.setenv(VARIABLE, request.param)
    return request.param
