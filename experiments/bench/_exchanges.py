"""What a compiled program exchanges between chips, in the order in which the chips do it."""

import re
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

    @property
    def of_norm(self) -> bool:
        """Whether a norm asked for it."""
        return "Norm_" in self.name


def exchanges(text: str) -> list[Exchange]:
    """Return the collective operations of a program, `compiled.as_text()`, of one pass over it."""
    return [
        found
        for computation in re.split(r"\n(?=(?:ENTRY )?%)", text)
        for found in _of_computation(computation.splitlines())
    ]


def _of_computation(lines: list[str]) -> list[Exchange]:
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
        found.append(Exchange(kind, _bytes(shapes), called, apart is not None, between))
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


def _bytes(shapes: str) -> int:
    """Return the bytes of arrays, given their types as a program writes them.

    Examples:
        >>> _bytes("(bf16[2,3]{1,0:T(8,128)(2,1)}, f32[]{:T(128)})")
        16
    """
    total = 0
    for kind, sizes in re.findall(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]", shapes):
        bits = re.search(r"\d+", kind)
        entries = 1
        for size in filter(None, sizes.split(",")):
            entries *= int(size)
        total += entries * (int(bits[0]) if bits else 8) // 8
    return total
