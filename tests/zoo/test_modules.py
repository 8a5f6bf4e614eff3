"""Each case by the module of its member, in both rooms: parameters and state set, numbers equal."""

import jax
import numpy as np
import pytest
from flax import nnx

import jaxnorm
from jaxnorm.functional import SPECS
from tests.stats.reference import relative_error
from tests.zoo.cases import draw, in_float64, outputs, with_gradients
from tests.zoo.every import CASES, over
from tests.zoo.test_laws import bound_of

OF_MODULES = [case for case in CASES if case.module is not None]


def parameters(case, arrays):
    """Returns the arrays of a case that are parameters of its module."""
    return {n: arrays[n] for n in SPECS[case.member].parameters if n in arrays}


def flags(case):
    """Returns the arguments of a call in training mode."""
    spec = SPECS[case.member]
    return {"use_running_average": False} if spec.state or spec.decay else {}


def fields(case, arrays):
    """Returns the fields of the module: a parameter that the case lacks is not used."""
    unused = {f"use_{n}": n in arrays for n in SPECS[case.member].parameters}
    return {**unused, **case.module}


def expected(case, arrays):
    return in_float64(with_gradients(case, case.oracle), arrays, {})[0]


def assert_equal(case, arrays, y, state):
    want = expected(case, arrays)
    have = y if isinstance(y, tuple) else (y,)
    for got, wanted in zip(have, outputs(want), strict=True):
        assert relative_error(np.asarray(got), wanted) < bound_of(arrays)
    for name in set(want if isinstance(want, dict) else {}) - {"y"}:
        assert relative_error(np.asarray(state[name]), want[name]) < bound_of(arrays), name


@over(OF_MODULES)
@pytest.mark.sampled(6)
def test_the_linen_module_computes_the_definition(case):
    arrays = draw(case)
    given = {name: arrays[name] for name in case.given}
    norm = getattr(jaxnorm.linen, SPECS[case.member].module)(**fields(case, arrays))

    @jax.jit
    def run(x, given, params, state):
        variables = norm.init(jax.random.key(0), x, **given, **flags(case))
        made = jax.tree.map(np.shape, variables)
        variables = {"params": params, "batch_stats": {**variables.get("batch_stats", {}), **state}}
        y, updated = norm.apply(variables, x, **given, **flags(case), mutable=["batch_stats"])
        return y, updated.get("batch_stats", {}), made["params"] if params else {}

    params = parameters(case, arrays)
    y, state, made = run(arrays["x"], given, params, {n: arrays[n] for n in case.state})
    assert set(made) == set(params)
    assert_equal(case, arrays, y, state)


@over(OF_MODULES)
@pytest.mark.sampled(8)
def test_the_nnx_module_computes_the_definition(case):
    arrays = draw(case)
    given = {name: arrays[name] for name in case.given}
    size = () if case.features is None else (case.features,)
    cls = getattr(jaxnorm.nnx, SPECS[case.member].module)
    norm = cls(*size, **fields(case, arrays), rngs=nnx.Rngs(0))
    for name, value in {**parameters(case, arrays), **{n: arrays[n] for n in case.state}}.items():
        variable = getattr(norm, name)
        assert variable.shape == np.shape(value), name
        variable[...] = value
    y = nnx.jit(lambda norm, x, given: norm(x, **given, **flags(case)))(norm, arrays["x"], given)
    state = expected(case, arrays)
    names = set(state if isinstance(state, dict) else {}) - {"y"}
    assert_equal(case, arrays, y, {name: getattr(norm, name)[...] for name in names})


@pytest.mark.nightly
@over([case for case in OF_MODULES if SPECS[case.member].state or SPECS[case.member].decay])
def test_evaluation_changes_no_state_in_either_room(case):
    arrays = draw(case)
    given = {name: arrays[name] for name in case.given}
    norm = getattr(jaxnorm.linen, SPECS[case.member].module)(**fields(case, arrays))
    variables = norm.init(jax.random.key(0), arrays["x"], **given, use_running_average=True)
    _, updated = norm.apply(
        variables, arrays["x"], **given, use_running_average=True, mutable=["batch_stats"]
    )
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])
    cls = getattr(jaxnorm.nnx, SPECS[case.member].module)
    size = () if case.features is None else (case.features,)
    module = cls(*size, **fields(case, arrays), rngs=nnx.Rngs(0))
    before = nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))
    module(arrays["x"], **given, use_running_average=True)
    after = nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))
    jax.tree.map(np.testing.assert_array_equal, after, before)
