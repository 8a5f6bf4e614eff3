"""One norm of another framework beside ours: weights there and back, evaluation, one step."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Case(NamedTuple):
    """A norm elsewhere that was converted, and what it gives there in float64."""

    module: Any  # ours, a linen module
    variables: Mapping[str, Any]  # converted
    x: np.ndarray  # as ours has it, the features last
    evaluated: np.ndarray  # their output, laid out as ours
    after: Mapping[str, Any] | None = None  # their state after one training step, converted
    call: Mapping[str, Any] = MappingProxyType({})  # more arguments of ours


def template(module: Any, x: np.ndarray, **call: Any) -> Any:
    """Returns the shapes of a linen module's variables."""
    call = {**evaluation(module), **call}
    return jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.asarray(x), **call))


def in_float64(like: Any) -> Any:
    """Returns the shapes of variables for weights of float64."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float64), like)


def evaluation(module: Any) -> dict[str, bool]:
    """Returns what a call of a norm with running statistics has to say in evaluation."""
    open_choice = getattr(module, "use_running_average", False) is None
    return {"use_running_average": True} if open_choice else {}


def outputs(cases: Mapping[str, Case]) -> dict[str, tuple[Any, Any]]:
    """Returns for each case what ours gives in evaluation, and its variables after one step."""

    def run(given: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        results = {}
        for name, case in cases.items():
            variables, x = given[name]
            y = case.module.apply(variables, x, **evaluation(case.module), **case.call)
            after = None
            if case.after:
                kwargs = {"use_running_average": False, "mutable": ["batch_stats"]}
                after = case.module.apply(variables, x, **kwargs, **case.call)[1]
            results[name] = y, after
        return results

    given = {name: (case.variables, case.x) for name, case in cases.items()}
    return jax.jit(run)(given)


def one_sided(shape: tuple[int, int]) -> np.ndarray:
    """Returns a matrix whose largest singular value stands out, so that iterations end soon."""
    rng = np.random.default_rng(0)
    first, second = (np.outer(rng.normal(size=n), rng.normal(size=m)) for n, m in (shape, shape))
    return 10 * first + 0.1 * second


def check(cases: Mapping[str, Case], ulps: float = 8, theirs: type = np.float64) -> None:
    """Asserts that ours gives what theirs gives, to some units of the dtype that theirs has."""
    faults = []
    for name, (y, after) in outputs(cases).items():
        case = cases[name]
        pairs = [("evaluation", y, case.evaluated)]
        if case.after is not None:
            found = jax.tree.leaves(after["batch_stats"])
            wanted = jax.tree.leaves(case.after["batch_stats"])
            pairs += [("one step", a, b) for a, b in zip(found, wanted, strict=True)]
        for what, found, wanted in pairs:
            error = distance(found, wanted, theirs)
            if not error <= ulps:
                faults.append(f"{name}, {what}: {error:.3g} ulp")
    assert not faults, "\n".join(faults)


def distance(found: Any, wanted: Any, dtype: type = np.float64) -> float:
    """Returns the largest difference in units of the last place of the largest entry."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape and found.dtype == wanted.dtype == np.float64
    if not wanted.size:
        return 0.0
    return float(np.abs(found - wanted).max() / np.spacing(dtype(np.abs(wanted).max())))


def same_bits(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Asserts that arrays are equal bit for bit."""
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        there, back = np.asarray(value), np.asarray(found[key])
        assert there.dtype == back.dtype and there.shape == back.shape, key
        assert there.tobytes() == back.tobytes(), key
