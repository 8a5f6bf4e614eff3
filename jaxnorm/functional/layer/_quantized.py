"""Norms over features whose output is counted in steps, for products of narrow numbers.

Xiao et al.: SmoothQuant, arXiv:2211.10438, 2022. Micikevicius et al.: FP8 Formats for Deep
Learning, arXiv:2209.05433, 2022.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxnorm.functional.layer._fused import over_features
from jaxnorm.ops import Activation, Fused, Implementation
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


class Quantized(NamedTuple):
    """Entries counted in steps, each off by half a step at most: `values * step`.

    Examples:
        >>> quantized_rms_norm(jnp.array([[3.0, -3.0]])).values
        Array([[ 127, -127]], dtype=int8)
    """

    values: Array  # [*batch, C], int8 or float8_e4m3fn
    step: Array  # of the rank of values, 1 on the reduced axes, float32 or wider
    total: Array | None = None  # [*batch, C], x + residual where there is a residual


def quantized_rms_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    residual: ArrayLike | None = None,
    step: ArrayLike | None = None,
    reduction_axes: Axes = -1,
    feature_axes: Axes = -1,
    epsilon: float = 1e-6,
    zero_centered: bool = False,
    activation: Activation | None = None,
    dtype: DTypeLike = jnp.int8,
    residual_dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> Quantized:
    """Returns `x` with mean square 1 over `reduction_axes`, scaled, and counted in steps.

    `values` is `rms_norm(x + residual) / step`, rounded to the nearest number that `dtype` has.
    So `values * step` is off by half a step at most, and where float8 counts more than eight
    steps by a sixteenth of the entry (the norm: Zhang, Sennrich, arXiv:1910.07467, 2019; steps for
    each row: Xiao et al., arXiv:2211.10438, 2022).

    Args:
        x: [*batch, C], floating.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        residual: [*batch, C], added to `x` before; None for nothing.
        step: positive, [] for a whole tensor, or of the rank of `x` and broadcastable to its
            statistics; None for one of each row, in which its largest entry counts 127 (int8) or
            448 (float8). What exceeds these numbers of a given step becomes them.
        reduction_axes: the axes that the mean square is taken over.
        feature_axes: the axes that a [*features] scale and bias belong to.
        epsilon: added to the mean square, inside the root.
        zero_centered: whether `1 + scale` multiplies, the sum taken in float32 or wider.
        activation: "relu", "silu" or "gelu", applied after scale and bias; None for none.
        dtype: int8 or float8_e4m3fn.
        residual_dtype: the dtype of the sum; what `x` and `residual` promote to if None.
        implementation: "xla", "native" (CPU), "pallas" (GPU, TPU) or None for the faster one.

    Returns:
        `Quantized`.

    Raises:
        ValueError: an axis or a shape does not fit.
        TypeError: `dtype` is another one, `x` is not floating, or the output is differentiated.

    Examples:
        >>> values, step, _ = quantized_rms_norm(jnp.array([[3.0, -4.0, 1.0, 0.0]]))
        >>> values, float(step[0, 0]) * 127
        (Array([[  95, -127,   32,    0]], dtype=int8), 1.5689...)
    """
    return _quantized(
        over_features(
            "quantized_rms_norm",
            x,
            scale,
            bias,
            residual=residual,
            residual_dtype=residual_dtype,
            step=step,
            reduction_axes=reduction_axes,
            feature_axes=feature_axes,
            epsilon=epsilon,
            zero_centered=zero_centered,
            center=False,
            activation=activation,
            quantize=dtype,
            implementation=implementation,
        )
    )


def quantized_layer_norm(
    x: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    residual: ArrayLike | None = None,
    step: ArrayLike | None = None,
    reduction_axes: Axes = -1,
    feature_axes: Axes = -1,
    epsilon: float = 1e-6,
    zero_centered: bool = False,
    activation: Activation | None = None,
    dtype: DTypeLike = jnp.int8,
    residual_dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> Quantized:
    """Returns `x` with mean 0 and variance 1 over `reduction_axes`, scaled, counted in steps.

    `values` is `layer_norm(x + residual) / step`, rounded to the nearest number that `dtype` has;
    see `quantized_rms_norm` (the norm: Ba, Kiros, Hinton, arXiv:1607.06450, 2016).

    Args:
        x: [*batch, C], floating.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        residual: [*batch, C], added to `x` before; None for nothing.
        step: as `quantized_rms_norm` takes it.
        reduction_axes: the axes that the statistics are taken over.
        feature_axes: the axes that a [*features] scale and bias belong to.
        epsilon: added to the variance.
        zero_centered: whether `1 + scale` multiplies, the sum taken in float32 or wider.
        activation: "relu", "silu" or "gelu", applied after scale and bias; None for none.
        dtype: int8 or float8_e4m3fn.
        residual_dtype: the dtype of the sum; what `x` and `residual` promote to if None.
        implementation: "xla", "native" (CPU), "pallas" (GPU, TPU) or None for the faster one.

    Returns:
        `Quantized`.

    Raises:
        ValueError: one value stands behind a statistic, or an axis or a shape does not fit.
        TypeError: `dtype` is another one, `x` is not floating, or the output is differentiated.

    Examples:
        >>> values, step, _ = quantized_layer_norm(jnp.array([[1.0, 3.0, 5.0, 3.0]]))
        >>> values, (step * 127).round(3)
        (Array([[-127,    0,  127,    0]], dtype=int8), Array([[1.414]], dtype=float32))
    """
    return _quantized(
        over_features(
            "quantized_layer_norm",
            x,
            scale,
            bias,
            residual=residual,
            residual_dtype=residual_dtype,
            step=step,
            reduction_axes=reduction_axes,
            feature_axes=feature_axes,
            epsilon=epsilon,
            zero_centered=zero_centered,
            center=True,
            activation=activation,
            quantize=dtype,
            implementation=implementation,
        )
    )


def _quantized(fused: Fused) -> Quantized:
    assert fused.step is not None  # it was quantized
    return Quantized(fused.y, fused.step, fused.total)
