"""Weight normalization of a layer's kernels as a linen module.

Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016.
"""

import dataclasses
from collections.abc import Iterable

import flax.linen as nn
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.linen._base import KernelNorm
from jaxnorm.typing import Axes, DTypeLike


class WeightNorm(KernelNorm):
    """Runs a layer with the direction and the length of its kernels as separate parameters.

    Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016. `flax.linen.WeightNorm`, pure:
    the layer's parameters are never written, at initialization neither.

    Each kernel is divided by its norm over all but the feature axes, in float32 or wider, and
    multiplied by the parameter `LAYER/KERNEL/scale` [*features]. As in Flax that starts at one,
    which changes the function; `scale_init=jaxnorm.weight_norm_scale` starts at the kernel's norm
    instead, as PyTorch does, so that the layer computes what it did without the wrapper.

    Attributes:
        layer_instance: the layer whose parameters are normalized.
        epsilon: added to the squared norm.
        dtype: the kernels' dtype; if None the promotion of kernel and scale.
        param_dtype: the dtype of the scale.
        use_scale: whether a scale is learned.
        scale_init: initializer of the scale, or `jaxnorm.weight_norm_scale`.
        feature_axes: the axes of a kernel that have a norm each; None for one norm of the whole.
        variable_filter: parts of the paths of those parameters that are normalized; all if None.

    Examples:
        >>> import jax, jaxnorm
        >>> dense = nn.Dense(2, use_bias=False, kernel_init=initializers.constant(4.0))
        >>> layer = WeightNorm(dense, scale_init=jaxnorm.weight_norm_scale)
        >>> x = jnp.array([[1.0, 2.0, 3.0, 4.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> variables["params"]["layer_instance/kernel/scale"], layer.apply(variables, x)
        (Array([8., 8.], dtype=float32), Array([[40., 40.]], dtype=float32))
    """

    spec = SPECS["weight_norm"]

    layer_instance: nn.Module
    epsilon: float = 1e-12
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_scale: bool = True
    scale_init: initializers.Initializer = initializers.ones
    feature_axes: Axes | None = -1
    variable_filter: Iterable[str] | None = dataclasses.field(default_factory=lambda: {"kernel"})
