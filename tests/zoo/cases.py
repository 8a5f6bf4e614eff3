"""What a case of a member is: a call, its definition in float64, and the arrays of both.

Each theme has a file of cases beside this one. The laws in `test_laws.py` and `test_modules.py` run
over all of them; a member that is called as most are has an oracle in `tests.oracles` instead.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm import CATALOGUE
from tests.stats.reference import wide

Arrays = dict[str, np.ndarray]


class Case(NamedTuple):
    """One way to call a member, with an oracle that never touches jaxnorm.

    `call` and `oracle` take the arrays by name and return an array, a tuple of arrays, or a
    dictionary whose "y" is the output and whose other entries are the new state by field. Where the
    member claims "mask" both also take `mask`, boolean and of the shape of `x`. The oracle gets
    float64 (and integers as they are) and computes with `jax.numpy`, so that it can be
    differentiated; a member whose paper has a backward pass of its own names no `differentiated`
    arrays and has a test of that pass.
    """

    member: str  # its name in the catalogue
    call: Callable[..., Any]
    oracle: Callable[..., Any]
    arrays: Callable[[np.random.Generator], Arrays]
    variant: str = ""  # tells the cases of one member apart
    differentiated: tuple[str, ...] | None = None  # all floating arrays if None
    moved: tuple[str, ...] = ("x",)  # the arrays that get an offset, another size, another dtype
    module: Mapping[str, Any] | None = None  # fields of the module; None where it has own tests
    features: int | tuple[int, ...] | None = None  # `num_features` of the nnx module, if it has one
    given: tuple[str, ...] = ()  # arrays that the module is called with beside x, by name
    state: tuple[str, ...] = ()  # arrays that are leaves of the state

    @property
    def row(self):
        """The member's row of the catalogue."""
        return next(m for m in CATALOGUE if m.name == self.member)

    @property
    def label(self) -> str:
        """The name of the case in the output of the tests."""
        return "-".join(part for part in (self.member, self.variant) if part)


def draw(case: Case, seed: int = 0) -> Arrays:
    """Returns the arrays of a case, floating ones in float32."""
    drawn = case.arrays(np.random.default_rng(seed))
    return {name: _narrow(np.asarray(value)) for name, value in drawn.items()}


def changed(case: Case, arrays: Arrays, change: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """Returns the arrays with those of the case that move changed."""
    return {name: change(v) if name in case.moved else v for name, v in arrays.items()}


def differentiated(case: Case, arrays: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the arrays that gradients are taken of."""
    if case.differentiated is not None:
        return case.differentiated
    return tuple(name for name, v in arrays.items() if jnp.issubdtype(v.dtype, jnp.inexact))


def outputs(result: Any) -> tuple:
    """Returns what is normalized in a result, without the state."""
    if isinstance(result, dict):
        return (result["y"],)
    return result if isinstance(result, tuple) else (result,)


def with_gradients(case: Case, function: Callable[..., Any]) -> Callable:
    """Returns what `uncompiled` returns, as one program."""
    return jax.jit(uncompiled(case, function))


def uncompiled(case: Case, function: Callable[..., Any]) -> Callable:
    """Returns the function from arrays, and from what is fixed, to result and gradients.

    The gradients are those of a sum of the outputs with fixed weights, by name of array.
    """

    def compute(arrays, fixed):
        names = differentiated(case, arrays)

        def loss(some):
            result = function(**{**arrays, **some}, **fixed)
            total = sum(
                jnp.sum(jnp.real(y * direction(y).astype(y.dtype))) for y in outputs(result)
            )
            return total, result

        some = {name: arrays[name] for name in names}
        gradients, result = jax.grad(loss, has_aux=True)(some) if names else ({}, loss(some)[1])
        return result, gradients

    return compute


def direction(y):
    """Returns fixed weights of the entries of an output, the same numbers in every precision."""
    weights = np.cos(1.7 * np.arange(y.size)).astype(np.float32)
    return jnp.asarray(weights, jnp.finfo(y.dtype).dtype).reshape(y.shape)


def in_float64(program: Callable, arrays: Mapping[str, Any], fixed: Mapping[str, Any]) -> Any:
    """Returns what a program makes of the arrays in float64."""
    with jax.enable_x64(True):
        exact = {name: _widened(value) for name, value in arrays.items()}
        return jax.tree.map(np.asarray, program(exact, dict(fixed)))


def _narrow(value: np.ndarray) -> np.ndarray:
    kinds = {"f": np.float32, "c": np.complex64, "i": np.int32}
    return value.astype(kinds.get(value.dtype.kind, value.dtype))


def _widened(value: Any) -> np.ndarray:
    value = np.asarray(value)
    return value if value.dtype.kind in "iub" else wide(value)
