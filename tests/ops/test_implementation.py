"""Which code computes `standardize`."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from jaxnorm.ops import _implementation, standardize
from jaxnorm.ops._implementations import VARIABLE, Measured
from tests.ops.kernels.cases import needs_native

X = jnp.arange(24.0).reshape(4, 6)


def is_native(x=X, **options):
    stats_shape = (len(x), 1)
    program = jax.jit(lambda x: standardize(x, stats_shape, epsilon=0.1, **options)[0])
    return "jaxnorm_forward" in program.lower(x).as_text()


def measured(monkeypatch, *rows):
    table = {("cpu", "float32", "kr"): [Measured(*row) for row in rows]}
    monkeypatch.setattr(_implementation, "_measurements", lambda: table)
    monkeypatch.delenv(VARIABLE, raising=False)


@needs_native
@pytest.mark.parametrize(("native_us", "chosen"), [(1.0, True), (3.0, False)])
def test_the_faster_one_is_chosen(monkeypatch, native_us, chosen):
    measured(monkeypatch, (24, 2.0, native_us))
    assert is_native() is chosen


@needs_native
@pytest.mark.parametrize(("rows", "chosen"), [(4, True), (4000, False)])
def test_the_measurement_next_in_size_counts(monkeypatch, rows, chosen):
    measured(monkeypatch, (64, 2.0, 1.0), (1 << 15, 2.0, 3.0))
    assert is_native(jnp.ones((rows, 6))) is chosen


@needs_native
def test_the_environment_decides_where_the_caller_does_not(monkeypatch):
    measured(monkeypatch, (24, 2.0, 1.0))
    monkeypatch.setenv(VARIABLE, "xla")
    assert not is_native()
    assert is_native(implementation="native")


@needs_native
def test_what_has_no_kernel_is_computed_by_plain_jax_whatever_the_measurements(monkeypatch):
    measured(monkeypatch, (24, 2.0, 1.0))
    assert not is_native(mask=jnp.ones((4, 6), bool))


def test_a_kernel_that_cannot_serve_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="the kernels take no mask|is set|not built"):
        is_native(mask=jnp.ones((4, 6), bool), implementation="native")


def test_every_dtype_and_layout_was_measured_at_six_sizes():
    table = _implementation._measurements()
    dtypes, layouts = ("float32", "bfloat16", "float16"), ("kr", "rk", "krk", "krkr")
    for key in itertools.product(["cpu"], dtypes, layouts):
        assert len({row.size for row in table[key]}) == 6
