"""The marks of layers in the data flow of a traced model."""

from collections import Counter
from collections.abc import Container, Iterable
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name

from jaxnorm._views import Path
from jaxnorm.surgery._jaxprs import equations
from jaxnorm.typing import Array

_MARK = "jaxnorm.surgery"


def marked(x: Array, role: str, path: Path, index: int = -1) -> Array:
    """Returns the value, with a mark that its jaxpr tells of.

    Args:
        x: an array.
        role: what the value is to a layer, such as "layer in".
        path: of the layer.
        index: of the call, by which `Flow` can leave it out; -1 for one that stays.

    Returns:
        `x`.

    Examples:
        >>> marked(jax.numpy.ones(1), "layer in", ("dense",))
        Array([1.], dtype=float32)
    """
    return checkpoint_name(x, "|".join((_MARK, str(index), role, *path)))


class Flow:
    """Where the marks of a jaxpr are, and how often each value is read.

    Attributes:
        uses: how often each value is read, as a result of a jaxpr too.
        reads: (role, path) -> the value that a mark reads.
        makes: (role, path) -> the value that a mark makes.
        makers: the value that a mark makes -> (role, path).
        readers: the value that a mark reads -> (role, path).
        calls: how often each (role, path) is there.

    Examples:
        >>> def double(x):
        ...     return 2 * marked(x, "layer in", ("dense",))
        >>> flow = Flow(jax.make_jaxpr(double)(1.0).jaxpr)
        >>> flow.calls["layer in", ("dense",)]
        1
    """

    def __init__(self, jaxpr: Any, void: Container[int] = ()) -> None:
        self.void = void  # calls whose marks are left out, as if the value went on
        self.same: dict[Any, Any] = {}  # what such a mark makes -> what it reads
        self.uses: Counter[Any] = Counter()
        self.reads: dict[tuple[str, Path], Any] = {}
        self.makes: dict[tuple[str, Path], Any] = {}
        self.makers: dict[Any, tuple[str, Path]] = {}
        self.readers: dict[Any, tuple[str, Path]] = {}
        self.calls: Counter[tuple[str, Path]] = Counter()
        for eqn, _ in equations(jaxpr):
            self._read(eqn)
        self._use(jaxpr.outvars)

    def _use(self, values: Iterable[Any]) -> None:
        self.uses.update(self.same.get(v, v) for v in values if _is_variable(v))

    def _read(self, eqn: Any) -> None:
        for param in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(param):
                self._use(getattr(param, "jaxpr", param).outvars)
        mark = eqn.params.get("name") if eqn.primitive.name == "name" else None
        if not isinstance(mark, str) or not mark.startswith(f"{_MARK}|"):
            self._use(eqn.invars)
            return
        _, index, role, *parts = mark.split("|")
        value = self.same.get(eqn.invars[0], eqn.invars[0])
        if int(index) in self.void:
            self.same[eqn.outvars[0]] = value
            return
        self._use(eqn.invars)
        at = role, tuple(parts)
        self.calls[at] += 1
        self.reads[at], self.makes[at] = value, eqn.outvars[0]
        self.makers[eqn.outvars[0]] = self.readers[value] = at


def _is_variable(value: Any) -> bool:
    return not hasattr(value, "val")  # a literal has its value


def _is_jaxpr(value: Any) -> bool:
    return hasattr(getattr(value, "jaxpr", value), "eqns")
