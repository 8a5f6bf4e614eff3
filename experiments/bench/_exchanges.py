"""What a compiled program exchanges between chips, in the order in which the chips do it."""

import math
import re
from collections.abc import Collection
from typing import NamedTuple

COLLECTIVES = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
_WORK = re.compile(r" (?:fusion|convolution|dot|custom-call)\(")


class Exchange(NamedTuple):
    """One collective operation."""

    kind: str
    bytes: int  # of the result on each chip
    name: str  # of what asked for it, in the source
    apart: bool  # whether it begins in one place and is waited for in another
    between: int  # programs that run between the two places
    of_parameters: int = 0  # bytes of kernels and their gradients, which XLA exchanges along

    @property
    def of_norm(self) -> bool:
        """Whether a norm asked for it."""
        return "Norm_" in self.name


def exchanges(text: str, parameters: Collection[tuple[int, ...]] = ()) -> list[Exchange]:
    """Return the collective operations of a program, of one pass over it.

    Args:
        text: `compiled.as_text()`.
        parameters: shapes by which kernels and their gradients are known.
    """
    return [
        found
        for computation in re.split(r"\n(?=(?:ENTRY )?%)", text)
        for found in _of_computation(computation.splitlines(), parameters)
    ]


def _of_computation(lines: list[str], parameters: Collection[tuple[int, ...]]) -> list[Exchange]:
    found = []
    for number, line in enumerate(lines):
        match = re.match(rf"\s+(?:ROOT )?(%[\w.\-]+) = (.*?) ({COLLECTIVES})(-start)?\(", line)
        if match is None:
            continue
        name, shapes, kind, apart = match.groups()
        between = 0
        if apart:
            ended = rf"\s+(?:ROOT )?%[\w.\-]+ = (.*?) {kind}-done\({re.escape(name)}[,)]"
            for later in lines[number + 1 :]:
                if done := re.match(ended, later):
                    shapes = done[1]
                    break
                between += bool(_WORK.search(later))
        called = _source(lines[number:], name)
        arrays = _arrays(shapes)
        total = sum(size for _, size in arrays)
        kernels = sum(size for shape, size in arrays if shape in parameters)
        found.append(Exchange(kind, total, called, apart is not None, between, kernels))
    return found


def _source(lines: list[str], name: str) -> str:
    """Return what in the source asked for the operation in the first line.

    XLA for TPU sums arrays of slots in place of a gather over many chips, and drops the name. What
    reads the result has it.
    """
    readers = {name}
    for line in lines:
        result = re.match(r"\s+(?:ROOT )?(%[\w.\-]+) = ", line)
        if result and (result[1] == name or readers & {*re.findall(r"%[\w.\-]+", line)}):
            if source := re.search(r'op_name="([^"]+)"', line):
                return source[1]
            readers.add(result[1])
    return ""


def _arrays(shapes: str) -> list[tuple[tuple[int, ...], int]]:
    """Return the shape and the bytes of each array, given their types as a program writes them.

    Examples:
        >>> _arrays("(bf16[2,3]{1,0:T(8,128)(2,1)}, f32[]{:T(128)})")
        [((2, 3), 12), ((), 4)]
    """
    found = []
    for kind, sizes in re.findall(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]", shapes):
        bits = re.search(r"\d+", kind)
        shape = tuple(map(int, filter(None, sizes.split(","))))
        found.append((shape, math.prod(shape) * (int(bits[0]) if bits else 8) // 8))
    return found
