"""The fixture that lets each implementation compute in turn."""

import pytest

from jaxnorm.ops import kernels
from jaxnorm.ops._implementations import VARIABLE


@pytest.fixture(params=["xla", "native"])
def implementation(request, monkeypatch):
    """Makes one implementation compute whatever it can within a test."""
    if request.param == "native" and (why_not := kernels.why_not()) is not None:
        pytest.skip(f"no native kernels: {why_not}")
    monkeypatch.setenv(VARIABLE, request.param)
    return request.param
