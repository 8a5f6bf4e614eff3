"""Weight normalization of a layer's kernels as an nnx module.

Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from flax.typing import PromoteDtypeFn
from jax.nn import initializers

from jaxnorm.functional import weight_norm, weight_norm_scale
from jaxnorm.functional._drop_in import errors_naming, result_dtype
from jaxnorm.nnx._reparametrized import Path, call_with, parameters
from jaxnorm.nnx._variables import feature_sizes
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


class WeightNorm(nnx.Module):
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
        >>> linear = nnx.Linear(4, 2, kernel_init=initializers.constant(4.0), rngs=nnx.Rngs(0))
        >>> layer = WeightNorm(linear, scale_init=weight_norm_scale, rngs=nnx.Rngs(0))
        >>> layer.scales["kernel",][...], layer(jnp.array([[1.0, 2.0, 3.0, 4.0]]))
        (Array([8., 8.], dtype=float32), Array([[40., 40.]], dtype=float32))
    """

    def __init__(
        self,
        layer_instance: nnx.Module,
        *,
        feature_axes: Axes | None = -1,
        use_scale: bool = True,
        scale_init: initializers.Initializer = initializers.ones,
        epsilon: float = 1e-12,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        variable_filter: nnx.filterlib.Filter = nnx.PathContains("kernel"),
        promote_dtype: PromoteDtypeFn = dtypes.promote_dtype,
        rngs: nnx.Rngs,
    ):
        self.layer_instance = layer_instance
        self.feature_axes = () if feature_axes is None else feature_axes
        self.use_scale = use_scale
        self.scale_init = scale_init
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.variable_filter = nnx.filterlib.to_predicate(variable_filter)
        self.promote_dtype = promote_dtype
        scales = {path: self._first(v[...], rngs) for path, v in self._kernels().items()}
        self.scales = nnx.data(scales) if use_scale else None

    def __call__(self, x: ArrayLike, *args: Any, **kwargs: Any) -> Any:
        """Returns the layer's output with normalized kernels.

        Args:
            x: for the layer.
            *args: for the layer.
            **kwargs: for the layer.

        Returns:
            What the layer returns.

        Raises:
            ValueError: a kernel lacks one of the `feature_axes`, or the layer did not have it when
                it was wrapped.
        """
        normalized = {
            path: self._normalized(path, kernel[...]) for path, kernel in self._kernels().items()
        }
        return call_with(self.layer_instance, normalized, x, *args, **kwargs)

    def _kernels(self) -> dict[Path, nnx.Param]:
        every = parameters(self.layer_instance).items()
        return {path: kernel for path, kernel in every if self.variable_filter(path, kernel)}

    def _first(self, kernel: Array, rngs: nnx.Rngs) -> nnx.Param:
        if self.scale_init is weight_norm_scale:
            return nnx.Param(weight_norm_scale(kernel, feature_axes=self.feature_axes))
        # Flax draws no key here: one of a copy leaves the stream of later layers as it is there.
        key = jax.random.fold_in(nnx.clone(rngs).params(), 0)
        return nnx.Param(self.scale_init(key, feature_sizes(kernel.shape, self.feature_axes)))

    def _normalized(self, path: Path, kernel: Array) -> Array:
        scale = None
        if self.scales is not None:
            if path not in self.scales:
                raise ValueError(
                    f"WeightNorm has no scale for the parameter {path}, which the layer got after "
                    "it was wrapped; wrap the complete layer"
                )
            scale = self.scales[path][...]
        with errors_naming(f"WeightNorm {path}"):
            return weight_norm(
                kernel,
                scale,
                feature_axes=self.feature_axes,
                epsilon=self.epsilon,
                dtype=result_dtype(kernel, scale, dtype=self.dtype),
            )
