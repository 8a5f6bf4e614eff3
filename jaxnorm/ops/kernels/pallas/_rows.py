"""Samples that lie within a row: layer, RMS and per-head norms.

The kernels see `x` as [a, p, g, m]: `a` affines, each of `p` rows with g groups of m entries, one
statistic for each group. A program computes some rows of one group.
"""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxnorm.ops.kernels._layout import View
from jaxnorm.ops.kernels.pallas import _rows_gpu, _rows_tpu
from jaxnorm.ops.kernels.pallas._around import Backward, Forward
from jaxnorm.ops.kernels.pallas._blocks import row_blocks
from jaxnorm.ops.kernels.pallas._targets import Target, is_gpu
from jaxnorm.typing import Shape


class Rows(NamedTuple):
    """How the kernels see an array."""

    a: int  # affines
    p: int  # rows of each affine
    g: int  # groups of each row
    m: int  # entries of each group
    member: int  # the entry of each group that is the pivot


@runtime_checkable
class Kernels(Protocol):
    """The two functions of the file of a platform, `_rows_gpu` or `_rows_tpu`."""

    def forward(
        self,
        rows: Rows,
        x,
        scale,
        bias,
        *,
        epsilon,
        center,
        dtype,
        target: Target,
        around: Forward = ...,
    ) -> list:
        """Returns y, what is written around it, and the statistics.

        Args:
            rows: how the kernels see `x`.
            x: [a, p, g m].
            scale: [a, g m] in float32, or None.
            bias: [a, g m] in float32, or None.
            epsilon: added to the variance.
            center: whether the mean is subtracted.
            dtype: of y.
            target: what the kernel is compiled for.
            around: what is done before and behind; the step is [a, p, g].

        Returns:
            y [a, p, g m]; the sum, like y, where a residual is added; then in float32 [a, p, g] the
            step where y counts steps of its own, mean, tail (where centred), var and rstd.
        """
        ...

    def backward(
        self,
        rows: Rows,
        ct,
        x,
        scale,
        mean,
        tail,
        rstd,
        ct_mean,
        ct_half,
        *,
        wanted,
        target: Target,
        around: Backward = ...,
    ) -> list:
        """Returns the cotangents of x, scale and bias.

        Args:
            rows: how the kernels see `x`.
            ct: [a, p, g m], the cotangent of y.
            x: [a, p, g m].
            scale: [a, g m] in float32, or None.
            mean: [a, p, g], as the others; None where nothing is centred.
            tail: the rest of the mean.
            rstd: the reciprocal deviation.
            ct_mean: the cotangent of the mean, or None.
            ct_half: the cotangent of half the variance's relative change, or None.
            wanted: which of the three are computed.
            target: what the kernels are compiled for.
            around: what was done before and behind.

        Returns:
            The first [a, p, g m] in each of the dtypes that are asked for, and two of [a, g m] in
            float32; None where not wanted.
        """
        ...


def _kernels(target: Target) -> Kernels:
    return _rows_gpu if is_gpu(target) else _rows_tpu


def rows_of(view: View) -> Rows:
    """Returns how the kernels see an array.

    Args:
        view: with one row in each sample.

    Examples:
        >>> rows_of(View(12, 1, 64, 2, 3, 0, 16))
        Rows(a=3, p=4, g=2, m=32, member=16)
    """
    return Rows(view.a, view.n // view.a, view.g, view.c // view.g, view.member)


def serves(view: View, dtypes, *, target: Target, arrays: int = 0) -> str | None:
    """Returns why the kernels do not serve, or None where they do.

    Args:
        view: with one row in each sample.
        dtypes: of x, y and what else is read and written.
        target: what they are compiled for.
        arrays: how many the backward pass reads and writes; three if 0.

    Examples:
        >>> import numpy as np
        >>> serves(View(8, 1, 64, 2, 1, 0, 16), (np.dtype("float32"),) * 2, target="tpu")
        'the TPU kernels take groups of whole lanes of 128 entries, not of 32'
    """
    if is_gpu(target):
        return None
    rows, sizes = rows_of(view), [d.itemsize for d in dtypes]
    if rows.g > 1 and rows.m % 128:
        return f"the TPU kernels take groups of whole lanes of 128 entries, not of {rows.m}"
    given = (rows.p, rows.m, max(sizes), arrays, min(sizes))
    if row_blocks("rows backward", target, *given).rows == 0:
        return f"a row of {rows.m} entries does not fit the fast memory of a TPU"
    return None


def standardize(
    view: View, x, scale, bias, *, epsilon, center, dtype, target: Target, around: Forward
) -> list:
    """Returns y, what is written around it, mean, tail, var and rstd; see `_entry`."""
    rows = rows_of(view)
    whole, small = (rows.a, rows.p, rows.g * rows.m), (rows.a, rows.p, rows.g)
    around = around._replace(
        residual=_shaped(around.residual, whole), step=_shaped(around.step, small)
    )
    options = {"epsilon": epsilon, "dtype": dtype, "target": target, "around": around}
    ys = 1 + (around.total is not None)
    out = _kernels(target).forward(rows, x.reshape(whole), scale, bias, center=center, **options)
    wholes = [v.reshape(view.n, 1, view.c) for v in out[:ys]]
    statistics = [v.reshape(view.n, view.g) for v in out[ys:]]
    steps, statistics = statistics[: around.own_step], statistics[around.own_step :]
    return [*wholes, *steps, *([] if center else [None, None]), *statistics]


def cotangent(
    view: View,
    ct,
    x,
    scale,
    mean,
    tail,
    rstd,
    ct_mean,
    ct_half,
    *,
    wanted,
    target: Target,
    around: Backward,
) -> list:
    """Returns the cotangents of what is normalized, scale and bias; see `_entry`."""
    rows = rows_of(view)
    whole, small = (rows.a, rows.p, rows.g * rows.m), (rows.a, rows.p, rows.g)
    around = around._replace(
        residual=_shaped(around.residual, whole), ct_total=_shaped(around.ct_total, whole)
    )
    ct, x = (v.reshape(whole) for v in (ct, x))
    statistics = [_shaped(v, small) for v in (mean, tail, rstd, ct_mean, ct_half)]
    d_x, *sums = _kernels(target).backward(
        rows, ct, x, scale, *statistics, wanted=wanted, target=target, around=around
    )
    d_x = None if d_x is None else [v.reshape(view.n, 1, view.c) for v in d_x]
    return [d_x, *(None if v is None else v.reshape(view.a, view.c) for v in sums)]


def _shaped(value, shape: Shape):
    return None if value is None else value.reshape(shape)
