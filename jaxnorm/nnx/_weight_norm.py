"""Weight normalization of a layer's kernels as an nnx module.

Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016.
"""

import dataclasses
from dataclasses import InitVar

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from flax.typing import PromoteDtypeFn
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.nnx._reparametrized import KernelNorm
from jaxnorm.typing import Axes, DTypeLike


@nnx.dataclass(eq=False)
class WeightNorm(KernelNorm):
    """Runs a layer with the direction and the length of its kernels as separate parameters.

    Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016. `flax.nnx.WeightNorm`, pure:
    the layer's kernels are never written, and each scale is an `nnx.Param`, so that it trains.

    Each kernel is divided by its norm over all but the feature axes, in float32 or wider, and
    multiplied by `scales[path]` [*features]. As in Flax that starts at one, which changes the
    function; `scale_init=jaxnorm.weight_norm_scale` starts at the kernel's norm instead, as PyTorch
    does, so that the layer computes what it did without the wrapper.

    Args:
        layer_instance: the layer whose parameters are normalized.
        feature_axes: the axes of a kernel that have a norm each; None for one norm of the whole.
        use_scale: whether a scale is learned.
        scale_init: initializer of the scale, or `jaxnorm.weight_norm_scale`.
        epsilon: added to the squared norm.
        dtype: the kernels' dtype; if None the promotion of kernel and scale.
        param_dtype: without effect as in Flax, scales are made in float32.
        variable_filter: which parameters are normalized.
        promote_dtype: without effect as in Flax.
        rngs: keys.

    Examples:
        >>> import jaxnorm
        >>> linear = nnx.Linear(4, 2, kernel_init=initializers.constant(4.0), rngs=nnx.Rngs(0))
        >>> layer = WeightNorm(linear, scale_init=jaxnorm.weight_norm_scale, rngs=nnx.Rngs(0))
        >>> layer.scales["kernel",][...], layer(jnp.array([[1.0, 2.0, 3.0, 4.0]]))
        (Array([8., 8.], dtype=float32), Array([[40., 40.]], dtype=float32))
    """

    spec = SPECS["weight_norm"]

    layer_instance: nnx.Module
    _: dataclasses.KW_ONLY
    feature_axes: Axes | None = -1
    use_scale: bool = True
    scale_init: initializers.Initializer = initializers.ones
    epsilon: float = 1e-12
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    variable_filter: nnx.filterlib.Filter = nnx.PathContains("kernel")
    promote_dtype: PromoteDtypeFn = dtypes.promote_dtype
    rngs: InitVar[nnx.Rngs]
