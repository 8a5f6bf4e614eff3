"""Weight normalization of a layer's kernels as a linen module.

Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016.
"""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import weight_norm, weight_norm_scale
from jaxnorm.functional._drop_in import errors_naming, result_dtype
from jaxnorm.linen._variables import layer_name, leaf_name
from jaxnorm.numerics import canonical_axes
from jaxnorm.typing import Axes, DTypeLike, PyTree


class WeightNorm(nn.Module):
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
        >>> dense = nn.Dense(2, use_bias=False, kernel_init=nn.initializers.constant(4.0))
        >>> layer = WeightNorm(dense, scale_init=weight_norm_scale)
        >>> x = jnp.array([[1.0, 2.0, 3.0, 4.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> variables["params"]["layer_instance/kernel/scale"], layer.apply(variables, x)
        (Array([8., 8.], dtype=float32), Array([[40., 40.]], dtype=float32))
    """

    layer_instance: nn.Module
    epsilon: float = 1e-12
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_scale: bool = True
    scale_init: initializers.Initializer = initializers.ones
    feature_axes: Axes | None = -1
    variable_filter: Iterable[str] | None = dataclasses.field(default_factory=lambda: {"kernel"})

    @nn.compact
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the layer's output with normalized kernels.

        Args:
            *args: for the layer.
            **kwargs: for the layer.

        Returns:
            What the layer returns.

        Raises:
            ValueError: a kernel lacks one of the `feature_axes`.
        """
        if self.is_initializing():
            self.layer_instance(*args, **kwargs)
        normalized = functools.partial(_normalized, self)
        run = nn.map_variables(
            lambda layer: layer(*args, **kwargs),
            "params",
            trans_in_fn=functools.partial(jax.tree_util.tree_map_with_path, normalized),
        )
        return run(self.layer_instance)


# Functions, not methods: `nn.tabulate` calls every method of a module that was called, by itself.
def _normalized(norm: WeightNorm, path: tuple[Any, ...], leaf: PyTree) -> jax.Array:
    kernel = jnp.asarray(leaf)
    name = leaf_name(norm.layer_instance, path)
    if norm.variable_filter and not any(part in name for part in norm.variable_filter):
        return kernel
    with errors_naming(layer_name(norm)):
        scale = _scale(norm, f"{name}/scale", kernel) if norm.use_scale else None
        return weight_norm(
            kernel,
            scale,
            feature_axes=norm.feature_axes,
            epsilon=norm.epsilon,
            dtype=result_dtype(kernel, scale, dtype=norm.dtype),
        )


def _scale(norm: WeightNorm, name: str, kernel: jax.Array) -> jax.Array:
    axes = () if norm.feature_axes is None else norm.feature_axes
    axes = canonical_axes(axes, kernel.ndim, "feature_axes")
    if norm.scale_init is weight_norm_scale:

        def length(key: jax.Array) -> jax.Array:
            return weight_norm_scale(kernel, feature_axes=axes).astype(norm.param_dtype)

        return norm.param(name, length)
    shape = tuple(kernel.shape[axis] for axis in axes)
    return norm.param(name, norm.scale_init, shape, norm.param_dtype)
