"""Samples that lie within a row: layer, RMS and per-head norms.

The kernels see `x` as [a, p, g, m]: `a` affines, each of `p` rows with g groups of m entries, one
statistic for each group. A program computes some rows of one group.
"""

from typing import NamedTuple

from jaxnorm.ops.kernels._layout import View
from jaxnorm.ops.kernels.pallas import _rows_gpu, _rows_tpu
from jaxnorm.ops.kernels.pallas._blocks import row_blocks
from jaxnorm.ops.kernels.pallas._targets import Target, is_gpu


class Rows(NamedTuple):
    """How the kernels see an array."""

    a: int  # affines
    p: int  # rows of each affine
    g: int  # groups of each row
    m: int  # entries of each group
    member: int  # the entry of each group that is the pivot


def rows_of(view: View) -> Rows:
    """Returns how the kernels see an array.

    Args:
        view: with one row in each sample.

    Examples:
        >>> rows_of(View(12, 1, 64, 2, 3, 0, 16))
        Rows(a=3, p=4, g=2, m=32, member=16)
    """
    return Rows(view.a, view.n // view.a, view.g, view.c // view.g, view.member)


def serves(view: View, dtypes, *, target: Target) -> str | None:
    """Returns why the kernels do not serve, or None where they do.

    Args:
        view: with one row in each sample.
        dtypes: of x and y.
        target: what they are compiled for.

    Examples:
        >>> serves(View(8, 1, 64, 1, 1, 0, 32), (jnp.dtype(jnp.float32),) * 2, target="tpu")
    """
    if is_gpu(target):
        return None
    rows, itemsize = rows_of(view), max(d.itemsize for d in dtypes)
    if rows.g > 1 and rows.m % 128:
        return f"the TPU kernels take groups of whole lanes of 128 entries, not of {rows.m}"
    if row_blocks("rows backward", target, rows.p, rows.m, itemsize).rows == 0:
        return f"a row of {rows.m} entries does not fit the fast memory of a TPU"
    return None


def standardize(view: View, x, scale, bias, *, epsilon, center, dtype, target: Target) -> list:
    """Returns y, mean, tail, var and rstd; the contract is in `_entry`."""
    rows = rows_of(view)
    kernels = _rows_gpu if is_gpu(target) else _rows_tpu
    x = x.reshape(rows.a, rows.p, rows.g * rows.m)
    options = {"epsilon": epsilon, "dtype": dtype, "target": target}
    y, *statistics = kernels.forward(rows, x, scale, bias, center=center, **options)
    statistics = [v.reshape(view.n, view.g) for v in statistics]
    return [y.reshape(view.n, 1, view.c), *([] if center else [None, None]), *statistics]


def cotangent(
    view: View, ct, x, scale, mean, tail, rstd, ct_mean, ct_half, *, wanted, target: Target
) -> list:
    """Returns the cotangents of x, scale and bias; the contract is in `_entry`."""
    rows = rows_of(view)
    kernels = _rows_gpu if is_gpu(target) else _rows_tpu
    ct, x = (v.reshape(rows.a, rows.p, rows.g * rows.m) for v in (ct, x))
    statistics = [
        None if v is None else v.reshape(rows.a, rows.p, rows.g)
        for v in (mean, tail, rstd, ct_mean, ct_half)
    ]
    d_x, *sums = kernels.backward(rows, ct, x, scale, *statistics, wanted=wanted, target=target)
    d_x = None if d_x is None else d_x.reshape(view.n, 1, view.c)
    return [d_x, *(None if v is None else v.reshape(view.a, view.c) for v in sums)]
