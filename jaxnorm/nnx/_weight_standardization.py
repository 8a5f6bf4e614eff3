"""Weight standardization of a layer's kernels as an nnx module.

Qiao, Wang, Liu, Shen, Yuille: Micro-Batch Training with Batch-Channel Normalization and Weight
Standardization, arXiv:1903.10520, 2019.
"""

import dataclasses
from dataclasses import InitVar

from flax import nnx
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.nnx._reparametrized import KernelNorm
from jaxnorm.typing import Axes, DTypeLike


@nnx.dataclass(eq=False)
class WeightStandardization(KernelNorm):
    """Runs a layer with kernels of mean 0 and variance 1 for each output.

    Qiao et al.: Weight Standardization, arXiv:1903.10520, 2019. Pure: the layer's kernels are never
    written. Statistics over all but the feature axes of each kernel, in float32 or wider. With
    `use_scale` each kernel is multiplied by the `nnx.Param` `scales[path]` [*features], the gain of
    Brock, De, Smith, arXiv:2101.08692, 2021.

    Args:
        layer_instance: the layer whose parameters are normalized.
        feature_axes: the axes of a kernel that have statistics of their own.
        use_scale: whether a scale is learned.
        scale_init: initializer of the scale.
        epsilon: added to the variance.
        dtype: the kernels' dtype; if None the promotion of kernel and scale.
        variable_filter: which parameters are normalized.
        rngs: keys.

    Examples:
        >>> import jax.numpy as jnp
        >>> linear = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> linear.kernel[...] = jnp.array([[3.0], [5.0]])
        >>> WeightStandardization(linear, rngs=nnx.Rngs(0))(jnp.eye(2)).round(3)
        Array([[-1.],
               [ 1.]], dtype=float32)
    """

    spec = SPECS["weight_standardization"]

    layer_instance: nnx.Module
    _: dataclasses.KW_ONLY
    feature_axes: Axes = -1
    use_scale: bool = False
    scale_init: initializers.Initializer = initializers.ones
    epsilon: float = 1e-6
    dtype: DTypeLike | None = None
    variable_filter: nnx.filterlib.Filter = nnx.PathContains("kernel")
    rngs: InitVar[nnx.Rngs]
