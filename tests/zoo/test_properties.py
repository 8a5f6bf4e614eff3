"""What holds for any finite input: no NaN, the definition where it is claimed, or a clear error."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxnorm.functional import CATALOGUE
from tests.laws.members import CORE, expected_output, output, over
from tests.stats.reference import relative_error
from tests.zoo.cases import changed, draw, in_float64, outputs
from tests.zoo.every import CASES
from tests.zoo.every import over as over_cases
from tests.zoo.test_laws import bound_of, programs

SHAPES = [(4, 6), (2, 3, 4), (4, 2, 3, 6), (2, 1, 2, 2, 4), (1, 5, 2)]
DTYPES = [jnp.float32, jnp.bfloat16, jnp.float16]
OFFSETS = [0.0, 1.0, -1e3, 1e6]
SIZES = [1e-20, 1e-8, 1.0, 1e8, 1e20]
# Programs are compiled once for each case or shape, so that many examples cost little; the first
# of them takes long.
quickly = settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
thoroughly = settings(quickly, max_examples=200)


def check_case(case, seed, offset, size):
    arrays = changed(case, draw(case, seed), lambda v: ((v + offset) * size).astype(v.dtype))
    call, oracle = programs(case.label)
    got = call(arrays, {})
    for leaf in (*outputs(got[0]), *got[1].values()):
        assert np.isfinite(np.asarray(leaf)).all()
    claims = case.row.claims
    if (offset == 0 or "offset" in claims) and (size == 1 or "range" in claims):
        want = in_float64(oracle, arrays, {})
        for have, expected in zip(outputs(got[0]), outputs(want[0]), strict=True):
            # Parameters by chance let the terms of an output cancel.
            assert relative_error(np.asarray(have), expected) < 16 * bound_of(arrays)


any_input = given(
    seed=st.integers(0, 2**16), offset=st.sampled_from(OFFSETS), size=st.sampled_from(SIZES)
)


@over_cases(CASES)
@quickly
@any_input
@pytest.mark.sampled(24)
def test_a_case_is_finite_and_right(case, seed, offset, size):
    check_case(case, seed, offset, size)


@pytest.mark.nightly
@over_cases(CASES)
@thoroughly
@any_input
def test_a_case_is_finite_and_right_for_many_inputs(case, seed, offset, size):
    check_case(case, seed, offset, size)


@functools.cache
def program(name, shape, dtype, masked):
    """Returns the compiled member from x (and a mask) to output and gradient."""
    member = next(m for m in CATALOGUE if m.name == name)

    def compute(x, mask):
        sample = {"mask": mask} if masked else {}
        y, pullback = jax.vjp(lambda x: output(member, x, **sample), x)
        return y, pullback(jnp.ones_like(y))[0]

    return jax.jit(compute)


def check_member(member, data):
    """Checks a member on a shape, a dtype, a mask, an offset and a size."""
    shape, dtype = data.draw(st.sampled_from(SHAPES)), data.draw(st.sampled_from(DTYPES))
    masked = "mask" in member.claims and data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    # float16 ends at 65504.
    size = 1.0 if dtype == jnp.float16 else data.draw(st.sampled_from(SIZES))
    offset = min(data.draw(st.sampled_from(OFFSETS)), 1e6 if dtype == jnp.float32 else 1e2)
    x = jnp.asarray((rng.normal(offset, 1, shape) * size).astype(np.float32), dtype)
    mask = rng.random(shape) < data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    try:
        y, dx = program(member.name, shape, dtype, masked)(x, mask)
    except (ValueError, TypeError) as error:
        # A shape that a member does not take is named with what to do.
        assert re.search(r"\d.*; (use|give|pass)|: .*\buse", str(error)), error
        return
    assert y.dtype == dtype and np.isfinite(np.asarray(y, np.float32)).all()
    assert np.isfinite(np.asarray(dx, np.float32)).all()
    if size != 1 and "range" not in member.claims:
        return
    exact = np.asarray(x, np.float64)
    want = expected_output(member, exact, weights=mask if masked else None)
    eps = float(jnp.finfo(dtype).eps)
    assert relative_error(np.asarray(y, np.float64), want) < 2 * eps + bound_of({"x": exact})


@over(CORE)
@settings(quickly, max_examples=4)
@given(data=st.data())
@pytest.mark.sampled(4)
def test_a_member_is_finite_and_right_or_says_why_not(member, data):
    check_member(member, data)


@pytest.mark.nightly
@over(CORE)
@settings(quickly, max_examples=40)
@given(data=st.data())
def test_a_member_is_finite_and_right_or_says_why_not_for_many_inputs(member, data):
    check_member(member, data)
