"""Weight standardization of a layer's kernels as a linen module.

Qiao, Wang, Liu, Shen, Yuille: Micro-Batch Training with Batch-Channel Normalization and Weight
Standardization, arXiv:1903.10520, 2019.
"""

import dataclasses
from collections.abc import Iterable

import flax.linen as nn
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.linen._base import KernelNorm
from jaxnorm.typing import Axes, DTypeLike


class WeightStandardization(KernelNorm):
    """Runs a layer with kernels of mean 0 and variance 1 for each output.

    Qiao et al.: Weight Standardization, arXiv:1903.10520, 2019. Pure: the layer's parameters are
    never written. Statistics over all but the feature axes of each kernel, in float32 or wider.
    With `use_scale` each kernel is multiplied by the parameter `LAYER/KERNEL/scale` [*features],
    the gain of Brock, De, Smith, arXiv:2101.08692, 2021.

    Attributes:
        layer_instance: the layer whose parameters are normalized.
        epsilon: added to the variance.
        dtype: the kernels' dtype; if None the promotion of kernel and scale.
        param_dtype: the dtype of the scale.
        use_scale: whether a scale is learned.
        scale_init: initializer of the scale.
        feature_axes: the axes of a kernel that have statistics of their own.
        variable_filter: parts of the paths of those parameters that are normalized; all if None.

    Examples:
        >>> import jax
        >>> layer = WeightStandardization(nn.Dense(1))
        >>> variables = layer.init(jax.random.key(0), jnp.eye(2))
        >>> variables["params"]["layer_instance"]["kernel"] = jnp.array([[3.0], [5.0]])
        >>> layer.apply(variables, jnp.eye(2)).round(3)
        Array([[-1.],
               [ 1.]], dtype=float32)
    """

    spec = SPECS["weight_standardization"]

    layer_instance: nn.Module
    epsilon: float = 1e-6
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_scale: bool = False
    scale_init: initializers.Initializer = initializers.ones
    feature_axes: Axes = -1
    variable_filter: Iterable[str] | None = dataclasses.field(default_factory=lambda: {"kernel"})
