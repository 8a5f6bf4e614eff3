"""Each case against its oracle: output and gradients at offsets and sizes, masked and mapped."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import CATALOGUE
from tests import oracles
from tests.stats.reference import relative_error, rounding
from tests.zoo.cases import (
    changed,
    differentiated,
    direction,
    draw,
    in_float64,
    outputs,
    uncompiled,
    with_gradients,
)
from tests.zoo.every import CASES, claiming, labelled, over

OFFSETS = (1e2, 1e4, 1e6)
SIZES = (1e-20, 1e-10, 1e10, 1e20)
VANISHING = 1e-30  # the smallest normal float is 1e-38: below this size digits are lost


@functools.cache
def programs(label):
    """Returns the compiled call and oracle of a case, each with gradients."""
    case = labelled(label)
    return with_gradients(case, case.call), with_gradients(case, case.oracle)


def assert_equal(case, arrays, state=True):
    """Checks result and gradients of a case against its oracle, with or without the state."""
    call, oracle = programs(case.label)
    bound = bound_of(arrays)
    got, want = call(arrays, {}), in_float64(oracle, arrays, {})
    if not state:
        got, want = ((outputs(result), gradients) for result, gradients in (got, want))
    for where, (have, expected) in _leaves(got, want):
        have, expected = np.asarray(have), np.asarray(expected)
        # A variance may be beyond the largest float where the input's square is.
        representable = np.abs(expected) < np.finfo(np.float32).max
        assert np.isfinite(have[representable]).all(), f"{where} is not finite"
        have, expected = (np.where(representable, v, 0) for v in (have, expected))
        assert relative_error(have, expected, VANISHING) < bound, where


def _leaves(got, want):
    paths, tree = jax.tree.flatten_with_path(got)
    assert tree == jax.tree.structure(want)
    for (path, have), expected in zip(paths, jax.tree.leaves(want), strict=True):
        yield jax.tree_util.keystr(path), (have, expected)


def bound_of(arrays, dtype=np.float32):
    return rounding(dtype, max(v.size for v in arrays.values()))


def test_each_member_has_an_oracle():
    missing = [m.name for m in CATALOGUE if not hasattr(oracles, m.name)]
    assert set(missing) == {case.member for case in CASES}


@over(CASES)
@pytest.mark.sampled(8)
def test_output_and_gradients_are_those_of_the_definition(case):
    arrays = draw(case)
    assert_equal(case, arrays)


@over(claiming("offset"))
def test_output_and_gradients_keep_their_digits_at_every_offset(case):
    for offset in OFFSETS:
        arrays = changed(case, draw(case), lambda v, offset=offset: (v + offset).astype(v.dtype))
        assert_equal(case, arrays)


@over(claiming("range"))
def test_output_and_gradients_are_right_for_inputs_of_every_size(case):
    for size in SIZES:
        arrays = changed(case, draw(case), lambda v, size=size: (v * size).astype(v.dtype))
        # A running variance of such inputs may be no float32.
        assert_equal(case, arrays, state=False)


@pytest.mark.nightly
@over(CASES)
def test_bfloat16_input_is_normalized_in_float32_and_rounded_once(case):
    arrays = changed(case, draw(case), lambda v: v if v.dtype.kind == "c" else _bfloat16(v))
    got, _ = programs(case.label)[0](arrays, {})
    want, _ = in_float64(programs(case.label)[1], arrays, {})
    for have, expected in zip(outputs(got), outputs(want), strict=True):
        real = arrays["x"].dtype == jnp.bfloat16
        assert have.dtype == arrays["x"].dtype
        error = relative_error(np.asarray(have.astype(jnp.float32) if real else have), expected)
        assert error < (2.0**-8 if real else bound_of(arrays))


def _bfloat16(v):
    return jnp.asarray(v, jnp.bfloat16)


@pytest.mark.nightly
@over(claiming("mask"))
def test_what_a_mask_excludes_changes_nothing(case):
    arrays = draw(case)
    mask = np.random.default_rng(1).random(arrays["x"].shape) < 0.7
    hidden = {**arrays, "x": np.where(mask, arrays["x"], np.nan)}
    zeroed = {**arrays, "x": np.where(mask, arrays["x"], 0)}
    # What stands behind the mask is itself normalized, so the loss leaves it out.
    got = with_gradients(case, _within(case.call))(hidden, {"mask": mask})
    want = in_float64(with_gradients(case, _within(case.oracle)), zeroed, {"mask": mask})
    for where, (have, expected) in _leaves(got, want):
        assert relative_error(np.asarray(have), expected) < bound_of(arrays), where


def _within(function):
    """Returns a function whose output is zero where it is masked."""

    def masked(*, mask, **arrays):
        result = function(**arrays, mask=mask)
        if isinstance(result, dict):
            return {**result, "y": jnp.where(mask, result["y"], 0)}
        return jax.tree.map(lambda y: jnp.where(mask, y, 0), result)

    return masked


@pytest.mark.nightly
@over(CASES)
def test_every_transform_gives_the_same(case):
    # Three draws: mapped, scanned and checkpointed, each as the loop over them gives it.
    drawn = [draw(case, seed) for seed in range(3)]
    stacked = {name: np.stack([arrays[name] for arrays in drawn]) for name in drawn[0]}

    plain = uncompiled(case, case.call)
    checkpointed = uncompiled(case, jax.checkpoint(case.call))

    def scanned(arrays):
        return jax.lax.scan(lambda carry, some: (carry, plain(some, {})), None, arrays)[1]

    runs = (jax.vmap(lambda v: plain(v, {})), scanned, jax.vmap(lambda v: checkpointed(v, {})))
    want = [programs(case.label)[0](arrays, {}) for arrays in drawn]
    want = jax.tree.map(lambda *v: np.stack(v), *want)
    bound = bound_of(drawn[0])
    for run in runs:
        for where, (have, expected) in _leaves(jax.jit(run)(stacked), want):
            assert relative_error(np.asarray(have), np.asarray(expected)) < bound, where


@pytest.mark.nightly
@over([case for case in CASES if case.differentiated != ()])
def test_forward_mode_is_the_transpose_of_reverse_mode(case):
    arrays = draw(case)
    names = differentiated(case, arrays)
    some = {name: arrays[name] for name in names}
    moved = {
        name: np.asarray(direction(jnp.asarray(v)).astype(v.dtype)) for name, v in some.items()
    }

    @jax.jit
    def run(some, moved):
        def normalized(some):
            return outputs(case.call(**{**arrays, **some}))

        ys, tangents = jax.jvp(normalized, (some,), (moved,))
        _, pullback = jax.vjp(normalized, some)
        weights = tuple(direction(y).astype(y.dtype) for y in ys)
        (gradients,) = pullback(weights)
        return tangents, weights, gradients, moved

    tangents, weights, gradients, moved = jax.tree.map(np.asarray, run(some, moved))
    forward = sum((t * w).real.sum() for t, w in zip(tangents, weights, strict=True))
    size = sum(np.abs(t * w).sum() for t, w in zip(tangents, weights, strict=True))
    reverse = sum((gradients[name] * moved[name]).real.sum() for name in names)
    assert abs(forward - reverse) < bound_of(arrays) * size
