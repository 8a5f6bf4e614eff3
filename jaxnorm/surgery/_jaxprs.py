"""The equations of a jaxpr and of all jaxprs inside it."""

from collections.abc import Iterator
from typing import Any


def equations(jaxpr: Any, times: int = 1) -> Iterator[tuple[Any, int]]:
    """Yields the equations of a jaxpr, then those inside them, with how often each runs.

    Args:
        jaxpr: a `jax.extend.core.Jaxpr`.
        times: how often it runs by itself.

    Yields:
        Equation, and how often it runs: in a scan once per step, in a while loop or in the branch
        of a condition as if once.

    Examples:
        >>> import jax
        >>> def double(x):
        ...     return jax.lax.fori_loop(0, 3, lambda i, x: 2 * x, x)
        >>> [n for eqn, n in equations(jax.make_jaxpr(double)(1.0).jaxpr) if "mul" in str(eqn)]
        [1, 3]
    """
    for eqn in jaxpr.eqns:
        yield eqn, times
        repeats = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        for inner in inner_jaxprs(eqn):
            yield from equations(inner, times * repeats)


def inner_jaxprs(eqn: Any) -> Iterator[Any]:
    """Yields the jaxprs among the parameters of an equation.

    Args:
        eqn: an equation.

    Yields:
        Open jaxprs.

    Examples:
        >>> import jax
        >>> [eqn] = jax.make_jaxpr(jax.jit(lambda x: 2 * x))(1.0).jaxpr.eqns
        >>> len(list(inner_jaxprs(eqn)))
        1
    """
    for param in eqn.params.values():
        for candidate in param if isinstance(param, tuple | list) else (param,):
            inner = getattr(candidate, "jaxpr", candidate)
            if hasattr(inner, "eqns"):
                yield inner
