"""Polynomial normalization: powers of the features, each to mean square 1, mixed.

Zhuo, Wang, Zeng, Li, Zhou, Ma: Polynomial Composition Activations, arXiv:2411.03884, 2024.
"""

import math

import jax
import jax.numpy as jnp

from jaxnorm.numerics import (
    accumulation_dtype,
    as_array,
    check_epsilon,
    power_of_two,
    real_dtype,
    require_inexact,
)
from jaxnorm.ops import standardize
from jaxnorm.stats import reduced_stats_shape
from jaxnorm.stats.measuring import measure
from jaxnorm.stats.sampling import Sampling, check_sampling, sample_weights, settled
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def poly_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    order: int = 3,
    reduction_axes: Axes = -1,
    epsilon: float = 1e-6,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
) -> Array:
    """Returns a mixture of the powers of `x`, each of mean square 1 over `reduction_axes`.

    `y = scale[0] N(x^3) + scale[1] N(x^2) + scale[2] N(x) + bias` for order 3, with
    `N(u) = u / sqrt(mean(u^2) + epsilon)`; statistics shape: 1 on the reduced axes, float32 or
    wider (Zhuo et al., arXiv:2411.03884, 2024). The powers are taken of `x` in units of
    a power of two of its size, in which none overflows.

    Args:
        x: [*batch, C], floating or complex, of any rank from 1.
        scale: [order], the weight of the highest power first; None for `1 / order` each.
        bias: [], or broadcastable to `x`; None for zero.
        order: the highest power.
        reduction_axes: the axes that the mean squares are taken over.
        epsilon: added to each mean square, inside the root.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the output's dtype; that of `x` if None.

    Returns:
        [*batch, C], of `dtype`.

    Raises:
        ValueError: `order` is no power, a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> x = jnp.array([[1.0, -1.0], [1e30, -1e30]])
        >>> poly_norm(x, jnp.array([1.0, 2.0, 3.0]), epsilon=0.0).round()
        Array([[ 6., -2.],
               [ 6., -2.]], dtype=float32)
    """
    x = as_array(x)
    require_inexact(x)
    check_epsilon(epsilon)
    if order < 1:
        raise ValueError(f"order={order} must be 1 or more; the authors use 3")
    wide = accumulation_dtype(x.dtype)
    scale = jnp.full(order, 1 / order, real_dtype(wide)) if scale is None else jnp.asarray(scale)
    if scale.shape != (order,):
        raise ValueError(
            f"scale {list(scale.shape)} must have one weight for each of the {order} powers; give "
            f"it shape [{order}] or pass order="
        )
    w = sample_weights(x, mask, weights)
    x, given = settled(x, x, w), x.dtype
    stats_shape = reduced_stats_shape(x.shape, reduction_axes)
    sample = {"axis_name": axis_name, "axis_index_groups": axis_index_groups}
    sampling = check_sampling(x.shape, Sampling(stats_shape, center=False, **sample))
    inverse = 1 / _unit(sampling, x, w, epsilon, order)
    unitless = x.astype(wide) * inverse
    y = jnp.zeros((), wide) if bias is None else jnp.asarray(bias)
    power, shift = jnp.ones((), wide), jnp.asarray(epsilon, inverse.dtype)
    for weight in scale[::-1]:
        power, shift = power * unitless, shift * inverse * inverse
        normalized, _ = standardize(
            power,
            stats_shape,
            center=False,
            epsilon=shift,
            mask=mask,
            weights=weights,
            **sample,
        )
        y = y + weight * normalized
    return y.astype(dtype or given)


def _unit(sampling: Sampling, x: Array, w: Array | None, epsilon: float, order: int) -> Array:
    """Returns a power of two of the size of `x`; the output does not depend on which.

    No smaller than where `epsilon`, divided by the unit as often as the powers are, overflows.
    """
    measured = measure(sampling, *jax.lax.stop_gradient((x, w)), epsilon=0.0)
    unit = power_of_two(jnp.sqrt(measured.var) * measured.unit)
    if not epsilon:
        return unit
    largest = math.log2(float(jnp.finfo(unit.dtype).max)) - 8
    return jnp.maximum(unit, 2.0 ** math.ceil((math.log2(epsilon) - largest) / (2 * order)))
