"""Which statistics shapes the native kernels know: the (n, r, c, g) view of an array.

The kernels see `x` as (n, r, c) with g groups of c / g adjacent channels and one statistic for each
(n, g). Runs of kept and of reduced axes are merged first, so most arrays of any rank have the view:
`kr` (layer, RMS), `rk` (batch), `krk` (instance), `krkr` (group).
"""

import math
import re
from typing import NamedTuple

import numpy as np

from jaxnorm.typing import Shape

LONG_ROW = 1 << 16  # elements of a row that is cut, so that several threads can share it
FEW_ROWS = 16


class View(NamedTuple):
    """What the kernels see; the native code has the same in `kernels.h`."""

    n: int  # samples: what is kept before the first reduced axis
    r: int  # rows of each sample
    c: int  # channels of each row
    g: int  # groups of adjacent channels, each with a statistic of its own
    a: int  # affines: each scale and bias [c] serves n / a adjacent samples
    row: int  # where the middle member of a group is: its row
    member: int  # and its place in the row, counted from the group's first channel


def native_view(shape: Shape, stats_shape: Shape, affine_shape: Shape | None) -> View | None:
    """Returns the kernels' view of an array, or None where they have none.

    Args:
        shape: the array's shape.
        stats_shape: one entry per axis: 1 reduced, its size kept, a divisor grouped.
        affine_shape: the shape of scale and bias, of the same rank; None where there is neither.

    Returns:
        The view, or None: channels first with a scale, say, or a scale for each position.

    Examples:
        >>> native_view((8, 14, 14, 64), (8, 1, 1, 32), (1, 1, 1, 64))
        View(n=8, r=196, c=64, g=32, a=1, row=105, member=1)
        >>> native_view((8, 64, 14, 14), (1, 64, 1, 1), (1, 64, 1, 1)) is None
        True
    """
    if 0 in shape or not shape:
        return None
    runs = _merge(_split(shape, stats_shape, affine_shape or (1,) * len(shape)))
    letters = "".join(run.letter for run in runs)
    # Scale and bias make a channel of what they vary along; without them position does.
    pattern = "()(k?)(r?)(k?)(r?)" if affine_shape is None else "(K?)(k?)(r?)(K?)(R?)"
    match = re.fullmatch(pattern, letters)
    if match is None or "r" not in letters.lower():
        return None
    rest = iter(runs)
    found = [next(rest) if letter else _Run(1, "", 0) for letter in match.groups()]
    a, k, r, groups, members = (run.size for run in found)
    row, member = found[2].middle, found[4].middle
    if affine_shape is None and groups * members == 1:
        width = _row_width(k, r)
        return View(k, r // width, width, 1, 1, row // width, row % width)
    return View(a * k, r, groups * members, groups, a, row, member)


def affine_shape_of(*parameters) -> Shape | None:
    """Returns the shape that scale and bias, or what is made of them, have together.

    Args:
        *parameters: whatever has a shape, or None.

    Returns:
        The shape that they broadcast to; None where there are none.

    Examples:
        >>> import numpy as np
        >>> affine_shape_of(np.ones((1, 6)), None), affine_shape_of(None)
        ((1, 6), None)
    """
    shapes = [v.shape for v in parameters if v is not None]
    return np.broadcast_shapes(*shapes) if shapes else None


class _Run(NamedTuple):
    size: int
    letter: str  # k kept, r reduced; a capital where scale and bias vary along it
    middle: int  # the index of the middle, as `stats.shapes.median_member` counts it


def _split(shape: Shape, stats_shape: Shape, affine_shape: Shape) -> list[_Run]:
    """Returns the axes, a grouped one as its groups and their members."""
    runs = []
    for n, s, affine in zip(shape, stats_shape, affine_shape, strict=True):
        kept, reduced = ("k", "r") if affine == 1 else ("K", "R")
        runs += [_Run(s, kept, 0), _Run(n // s, reduced, n // s // 2)]
    return [run for run in runs if run.size != 1]


def _merge(runs: list[_Run]) -> list[_Run]:
    merged: list[_Run] = []
    for run in runs:
        if merged and merged[-1].letter == run.letter:
            outer = merged.pop()
            middle = outer.middle * run.size + run.middle
            run = _Run(outer.size * run.size, run.letter, middle)
        merged.append(run)
    return merged


def _row_width(n: int, length: int) -> int:
    """Returns the length of `n` rows without affine, less where few long ones are to be cut."""
    width = math.gcd(length, 1 << 10)
    return width if n < FEW_ROWS and length >= LONG_ROW and width >= 64 else length
