"""Adaptive layer normalization with a gate, by which a residual branch starts at zero.

Peebles, Xie: Scalable Diffusion Models with Transformers, arXiv:2212.09748, 2022.
"""

import jax.numpy as jnp

from jaxnorm.functional.conditional._ada_layer import ada_layer_norm
from jaxnorm.functional.conditional._placing import of_examples
from jaxnorm.numerics import as_array
from jaxnorm.ops import Implementation
from jaxnorm.stats import Variance
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def ada_layer_norm_zero(
    x: ArrayLike,
    scale: ArrayLike | None,
    bias: ArrayLike | None,
    gate: ArrayLike,
    *,
    scale_offset: float = 1.0,
    reduction_axes: Axes = -1,
    feature_axes: Axes = -1,
    epsilon: float = 1e-6,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    variance: Variance = "one_pass",
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> tuple[Array, Array]:
    """Returns `x` as `ada_layer_norm` has it, and the gate of the branch that follows.

    `y = (x - mean) / sqrt(var + epsilon) * (scale_offset + scale) + bias`. With
    `y, g = ada_layer_norm_zero(x, ...)` a block is `x + g * branch(y)`; its condition starts scale,
    bias and gate at zero, and so the block at the identity. Statistics shape: 1 on the reduced
    axes, float32 or wider (Peebles, Xie, arXiv:2212.09748, 2022, section 3.2, adaLN-Zero).

    Args:
        x: [N, *positions, C], floating or complex.
        scale: [N, *features], [*features], or of the rank of `x` and broadcastable to it; None for
            a factor of one.
        bias: the shift, like `scale`; None for zero.
        gate: like `scale`; no offset is added to it.
        scale_offset: added to the scale, which is stored around zero.
        reduction_axes: the axes that the statistics are taken over.
        feature_axes: the axes that scale, bias and gate belong to.
        epsilon: added to the variance.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        dtype: the dtype of both outputs; that of `x` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        [N, *positions, C], and the gate with the rank of `x`: [N, 1, .., C] for one per example.

    Raises:
        ValueError: an axis or a shape does not fit, or `axis_name` is not bound.
        TypeError: `x` is not floating or complex.

    Examples:
        >>> x, zero = jnp.array([[[1.0, 3.0]]]), jnp.zeros((1, 2))
        >>> y, gate = ada_layer_norm_zero(x, zero, zero, zero)
        >>> y.round(3), gate.shape
        (Array([[[-1.,  1.]]], dtype=float32), (1, 1, 2))
    """
    x = as_array(x)
    y = ada_layer_norm(
        x,
        scale,
        bias,
        scale_offset=scale_offset,
        reduction_axes=reduction_axes,
        feature_axes=feature_axes,
        epsilon=epsilon,
        mask=mask,
        weights=weights,
        variance=variance,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        dtype=dtype,
        implementation=implementation,
    )
    placed = of_examples(gate, x.shape, feature_axes, "gate")
    return y, jnp.asarray(placed, y.dtype)
