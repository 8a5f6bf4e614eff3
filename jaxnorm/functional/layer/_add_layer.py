"""The sum with the residual and its layer norm in one call.

Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450, 2016.
"""

from jaxnorm.functional.layer._fused import over_features
from jaxnorm.ops import Activation, Implementation
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


def add_layer_norm(
    x: ArrayLike,
    residual: ArrayLike,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    reduction_axes: Axes = -1,
    feature_axes: Axes = -1,
    epsilon: float = 1e-6,
    zero_centered: bool = False,
    mask: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    axis_name: AxisName | None = None,
    axis_index_groups: AxisIndexGroups = None,
    activation: Activation | None = None,
    dtype: DTypeLike | None = None,
    residual_dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> tuple[Array, Array]:
    """Returns `x + residual` with mean 0 and variance 1 over `reduction_axes`, and the sum itself.

    `s = x + residual`, `y = (s - mean) / sqrt(var + epsilon) * scale + bias`; statistics shape: 1
    on the reduced axes. The sum is taken in float32 or wider and normalized before it is rounded
    (the norm: Ba, Kiros, Hinton, arXiv:1607.06450, 2016).

    Args:
        x: [*batch, C], floating or complex: the output of a block.
        residual: [*batch, C]: the input of that block.
        scale: [*features], or of the rank of `x` and broadcastable to it; None for one.
        bias: like `scale`; None for zero.
        reduction_axes: the axes that the statistics are taken over.
        feature_axes: the axes that a [*features] scale and bias belong to.
        epsilon: added to the variance.
        zero_centered: whether `1 + scale` multiplies, the sum taken in float32 or wider.
        mask: boolean, broadcastable to `x`; true where an entry takes part in the statistics.
        weights: real, broadcastable to `x`, not negative; each entry's share.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        activation: "relu", "silu" or "gelu", applied after scale and bias; None for none.
        dtype: the dtype of `y`; that of `x` if None.
        residual_dtype: the dtype of the sum; what `x` and `residual` promote to if None.
        implementation: "xla", "native" (CPU), "pallas" (GPU, TPU) or None for the faster one.

    Returns:
        `y` [*batch, C] of `dtype`, and `x + residual` [*batch, C] of `residual_dtype`.

    Raises:
        ValueError: the shapes differ, an axis does not fit, or `axis_name` is not bound.
        TypeError: `x` or `residual` is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> y, total = add_layer_norm(jnp.array([[1.0, -3.0]]), jnp.array([[2.0, 0.0]]))
        >>> y.round(3), total
        (Array([[ 1., -1.]], dtype=float32), Array([[ 3., -3.]], dtype=float32))
    """
    y, _, total, _ = over_features(
        "add_layer_norm",
        x,
        scale,
        bias,
        residual=residual,
        residual_dtype=residual_dtype,
        reduction_axes=reduction_axes,
        feature_axes=feature_axes,
        epsilon=epsilon,
        zero_centered=zero_centered,
        center=True,
        mask=mask,
        weights=weights,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
        activation=activation,
        dtype=dtype,
        implementation=implementation,
    )
    assert total is not None  # there is a residual
    return y, total
