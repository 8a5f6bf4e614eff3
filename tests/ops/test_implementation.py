"""Which code computes `standardize`: the first entry of the table that serves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.ops import show_config, standardize
from tests.laws.implementations import VARIABLE, why_no_kernels
from tests.ops.reference import reference_standardize
from tests.stats.reference import relative_error, rounding

X = jnp.arange(24.0).reshape(4, 6)

needs_native = pytest.mark.skipif(why_no_kernels() is not None, reason=str(why_no_kernels()))


def is_native(x=X, **options):
    """Returns whether the compiled program calls a kernel, whose output it compares first."""
    stats_shape = (len(x), 1)
    program = jax.jit(lambda x: standardize(x, stats_shape, epsilon=0.1, **options)[0])
    expected = reference_standardize(x, stats_shape, 0.1, weights=options.get("mask"))
    assert relative_error(program(x), expected) < rounding(np.float32, x.shape[1])
    return "custom_call @jaxnorm" in program.lower(x).as_text()


@pytest.fixture(autouse=True)
def no_wish(monkeypatch):
    """Takes away what the environment of the tests may ask for."""
    monkeypatch.delenv(VARIABLE, raising=False)


@needs_native
def test_the_kernels_stand_first():
    assert is_native()


@needs_native
def test_the_environment_decides_where_the_caller_does_not(monkeypatch):
    monkeypatch.setenv(VARIABLE, "xla")
    assert not is_native()
    assert is_native(implementation="native")


@needs_native
def test_the_caller_decides_before_the_environment(monkeypatch):
    monkeypatch.setenv(VARIABLE, "native")
    assert is_native()
    assert not is_native(implementation="xla")


@pytest.mark.parametrize("wish", ["", "native"])
def test_what_has_no_kernel_is_computed_by_plain_jax(monkeypatch, wish):
    monkeypatch.setenv(VARIABLE, wish)
    assert not is_native(mask=jnp.ones((4, 6), bool))


REFUSED = {
    "the kernels take no mask": {"mask": jnp.ones((4, 6), bool)},
    "the kernels take no array as epsilon": {"epsilon": jnp.ones((4, 1))},
    "the kernels have no variance='fast'": {"variance": "fast"},
}


@needs_native
@pytest.mark.parametrize("reason", REFUSED)
def test_a_kernel_that_cannot_serve_is_refused_with_the_reason(reason):
    options = {"epsilon": 0.1, "implementation": "native", **REFUSED[reason]}
    with pytest.raises(ValueError, match=f"{reason}.*use implementation=None"):
        standardize(X, (4, 1), **options)


@pytest.mark.skipif(why_no_kernels() is None, reason="the kernels are there")
def test_where_there_are_no_kernels_asking_for_them_is_refused():
    with pytest.raises(ValueError, match="does not serve"):
        standardize(X, (4, 1), epsilon=0.1, implementation="native")


def test_the_configuration_says_what_is_there_and_what_was_asked_for(monkeypatch):
    assert f"platform: {jax.default_backend()}" in show_config()
    assert ("native CPU kernels: yes" in show_config()) == (why_no_kernels() is None)
    monkeypatch.setenv(VARIABLE, "xla")
    assert f"{VARIABLE}=xla" in show_config()
