"""Samples that fit a block: one kernel forward, one backward, which reads its arrays once."""

import functools

import jax.numpy as jnp
from jax import lax

from jaxnorm.ops._operands import present, which
from jaxnorm.ops.kernels._layout import View
from jaxnorm.ops.kernels.pallas._column_blocks import Grid
from jaxnorm.ops.kernels.pallas._column_moments import block_moments
from jaxnorm.ops.kernels.pallas._column_passes import (
    affine_lines,
    block_sums,
    normalized,
    pulled,
)
from jaxnorm.ops.kernels.pallas._column_pool import united
from jaxnorm.ops.kernels.pallas._column_run import Block, run
from jaxnorm.typing import Array, DTypeLike


def forward(
    view: View,
    grid: Grid,
    x: Array,
    affine: tuple[Array | None, Array | None],
    *,
    epsilon: float,
    center: bool,
    dtype: DTypeLike,
    activation: str | None = None,
) -> list[Array]:
    """Returns the normalized array and the statistics.

    Args:
        view: of `x`.
        grid: whose blocks hold all rows of whole groups.
        x: [n, r, c].
        affine: scale and bias, each [a, 1, c] or None.
        epsilon: added to the variance.
        center: whether the mean is subtracted.
        dtype: of `y`.
        activation: behind scale and bias, or None.

    Returns:
        `y` [n, r, c]; mean, tail, variance and `1 / std`, each [n, g].

    Examples:
        >>> view, x = View(1, 2, 1, 1, 1, 0, 0), jnp.array([[[1.0], [3.0]]])
        >>> grid = Grid(1, 2, 1, 2, 1, 1, "gpu_interpreted")
        >>> options = {"epsilon": 3.0, "center": True}
        >>> forward(view, grid, x, (None, None), dtype=x.dtype, **options)[0].ravel()
        Array([-0.5,  0.5], dtype=float32)
    """
    has = tuple(v is not None for v in affine)
    groups = _Groups(view.c // view.g)
    kernel = functools.partial(_forward, groups, has, epsilon, center, activation)
    lines = [v for v in affine if v is not None]
    out = [jnp.dtype(dtype)] + [(1, groups.members)] * 4
    y, *statistics = run("jaxnorm_column_forward", kernel, grid, [x], lines, out)
    return [y, *(v.reshape(view.n, view.g) for v in statistics)]


def backward(
    view: View,
    grid: Grid,
    x: Array,
    ct: Array,
    location: Array,
    affine: tuple[Array | None, Array | None],
    given: Array | None,
    center: bool,
    activation: str | None = None,
) -> list[Array]:
    """Returns the cotangent of `x`, and the sums of `ct` and of `ct xhat` for each channel.

    Args:
        view: of `x`.
        grid: whose blocks hold all rows of whole groups.
        x: [n, r, c].
        ct: [n, r, c].
        location: [n, 3, c], mean, tail and `1 / std`.
        affine: scale, and bias where it is activated, each [a, 1, c] or None.
        given: [n, 2, c], the cotangents of the mean and of `rstd / 2 dvar`; or None.
        center: whether the mean was subtracted.
        activation: behind scale and bias, or None.

    Returns:
        [n, r, c], and [n, 1, 2, c].

    Examples:
        >>> view, x = View(1, 2, 1, 1, 1, 0, 0), jnp.array([[[-1.0], [1.0]]])
        >>> grid = Grid(1, 2, 1, 2, 1, 1, "gpu_interpreted")
        >>> location = jnp.array([[[0.0], [0.0], [1.0]]])
        >>> backward(view, grid, x, x, location, (None, None), None, True)[1].ravel()
        Array([0., 2.], dtype=float32)
    """
    has = which((*affine, given))
    kernel = functools.partial(_backward, _Groups(view.c // view.g), has, center, activation)
    lines = [location, *present((*affine, given))]
    return run("jaxnorm_column_backward", kernel, grid, [x, ct], lines, [x.dtype, (2, 1)])


class _Groups:
    """Sums over groups of adjacent channels, of values [1, channels]."""

    def __init__(self, members: int):
        self.members = members

    def split(self, values: Array) -> Array:
        """Returns the values as [groups, members]; as they are without groups."""
        return values if self.members == 1 else values.reshape(-1, self.members)

    def total(self, values: Array) -> Array:
        """Returns the sums of values [groups, members], [groups, 1]."""
        return values if self.members == 1 else jnp.sum(values, axis=1, keepdims=True)

    def largest(self, values: Array) -> Array:
        """Returns the largest of values [groups, members], [groups, 1]."""
        return values if self.members == 1 else jnp.max(values, axis=1, keepdims=True)

    def first(self, values: Array) -> Array:
        """Returns the first of values [groups, members], [groups, 1]."""
        lane = lax.broadcasted_iota(jnp.int32, values.shape, 1)
        return values if self.members == 1 else self.total(jnp.where(lane == 0, values, 0))

    def of_channels(self, values: Array) -> Array:
        """Returns values [groups, 1] for each channel, [1, channels]."""
        if self.members == 1:
            return values
        wide = jnp.broadcast_to(values, (values.shape[0], self.members))
        return wide.reshape(1, wide.size)


def _forward(
    groups: _Groups, has, epsilon: float, center: bool, activation, block: Block, x_ref, *refs
):
    affine_refs, (y_ref, *statistics_refs) = refs[: sum(has)], refs[sum(has) :]
    moments = tuple(groups.split(v) for v in block_moments(block, x_ref, epsilon, center))
    statistics = united(
        moments, 1 / groups.members, groups.first, groups.total, groups.largest, epsilon
    )
    for ref, value in zip(statistics_refs, statistics, strict=True):
        block.store_line(ref, 0, value.reshape(1, value.size), groups.members)
    mean, tail, _, rstd = (groups.of_channels(v) for v in statistics)
    affine = affine_lines(block, has, affine_refs)
    normalized(block, x_ref, y_ref, (mean, tail, rstd), affine, activation)


def _backward(groups: _Groups, has, center: bool, activation, block: Block, x_ref, ct_ref, *refs):
    location_ref, *rest, out_ref, sums_ref = refs
    rstd = (location := tuple(block.line(location_ref, k) for k in range(3)))[2]
    affine = affine_lines(block, has[:2], rest)
    sums = block_sums(block, x_ref, ct_ref, location, affine, activation)
    for k, value in enumerate(sums):
        block.store_line(sums_ref, k, value)
    scale = jnp.float32(1) if affine[0] is None else affine[0]
    share = 1 / (block.grid.r * groups.members)
    pull = []
    for k, value in enumerate(sums):
        total = groups.of_channels(groups.total(groups.split(scale * value)))
        of_given = block.line(rest[-1], k) if has[2] else 0
        pull.append((of_given - rstd * total) * share)
    start, slope = pull
    start = start if center else jnp.zeros_like(start)
    pulled(block, x_ref, ct_ref, out_ref, location, affine, (start, slope), activation)
