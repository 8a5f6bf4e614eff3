"""Batch normalization as an nnx module.

Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from flax.typing import PromoteDtypeFn
from jax.nn import initializers

from jaxnorm.functional import batch_norm
from jaxnorm.functional._drop_in import (
    constant,
    errors_naming,
    mean_dtype,
    sample_of,
    variance_of,
    warn_of_single_values,
)
from jaxnorm.nnx._variables import affine, feature_shape, feature_sizes, parameter, placed, promoted
from jaxnorm.numerics import canonical_axes
from jaxnorm.stats import BatchStats, ema
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


class BatchNorm(nnx.Module):
    """Normalizes each feature over the batch: `flax.nnx.BatchNorm` with right statistics.

    Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015. Statistics in float32 or wider, of
    the input as it came, about a member of the sample, pooled over shards by their counts.

    Running statistics are the `nnx.BatchStat`s `mean` and `var`, of the shape of the parameters.
    Which statistics normalize is `use_running_average`, as set by `train()`, `eval()`, `nnx.view`
    or the call. Whether the batch updates them is the attribute `update_stats`: None for "where it
    normalizes", or a boolean (`model.set_attributes(BatchNorm, update_stats=False)`).

    Args:
        num_features: the size of the feature axis, or one for each of several.
        use_running_average: whether the running statistics normalize.
        axis: the feature axes; all others are reduced.
        momentum: the weight of the old running statistics; one minus PyTorch's.
        epsilon: added to the variance.
        dtype: the output's dtype; if None the promotion of input and parameters, so that bfloat16
            with float32 parameters gives float32. For complex inputs a complex one.
        param_dtype: the dtype of scale and bias.
        use_bias: whether a bias is learned.
        use_scale: whether a scale is learned.
        bias_init: initializer of the bias.
        scale_init: initializer of the scale.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        use_fast_variance: one pass over the shifted values if true, two if false; both are right
            at every offset.
        promote_dtype: (inputs, mean, var, scale, bias), dtype -> the same promoted; decides the
            dtypes of the result and of the parameters, not of the statistics.
        rngs: keys.
        bias_metadata: metadata of the bias.
        scale_metadata: metadata of the scale.

    Examples:
        >>> layer = BatchNorm(2, momentum=0.9, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, 10.0], [3.0, 30.0]])).round(3)
        Array([[-1., -1.],
               [ 1.,  1.]], dtype=float32)
        >>> layer.mean[...]
        Array([0.2, 2. ], dtype=float32)
    """

    def __init__(
        self,
        num_features: int | Sequence[int],
        *,
        use_running_average: bool | None = False,
        axis: Axes = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: initializers.Initializer = initializers.zeros,
        scale_init: initializers.Initializer = initializers.ones,
        axis_name: str | None = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: PromoteDtypeFn = dtypes.promote_dtype,
        rngs: nnx.Rngs,
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
        scale_metadata: Mapping[str, Any] = MappingProxyType({}),
    ):
        shape = feature_shape(num_features)
        self.mean = nnx.BatchStat(jnp.zeros(shape, mean_dtype(dtype, jnp.float32)))
        self.var = nnx.BatchStat(jnp.ones(shape, jnp.float32))
        self.scale = parameter(use_scale, scale_init, shape, param_dtype, rngs, scale_metadata)
        self.bias = parameter(use_bias, bias_init, shape, param_dtype, rngs, bias_metadata)
        self.num_features = num_features
        self.use_running_average = use_running_average
        self.update_stats: bool | None = None
        self.axis = axis
        self.momentum = momentum
        self.epsilon = epsilon
        self.dtype = dtype
        self.param_dtype = param_dtype
        self.use_bias = use_bias
        self.use_scale = use_scale
        self.axis_name = axis_name
        self.axis_index_groups = axis_index_groups
        self.use_fast_variance = use_fast_variance
        self.promote_dtype = promote_dtype

    def __call__(
        self,
        x: ArrayLike,
        use_running_average: bool | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> jax.Array:
        """Returns `x` normalized per feature, and updates the running statistics by the batch.

        A batch of one value per feature has no variance: the running statistics serve, with a
        warning, and stay as they are.

        Args:
            x: [N, *spatial, *features] (or features at `axis`), of any rank.
            use_running_average: whether the running statistics normalize; the attribute if None.
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.

        Returns:
            The shape of `x`.

        Raises:
            ValueError: `use_running_average` never given, a shape that does not fit, or
                `axis_name` not bound.
            TypeError: `x` is complex, but the running mean is not.
        """
        if use_running_average is None:
            use_running_average = self.use_running_average
        if use_running_average is None:
            raise ValueError(
                "No `use_running_average` argument was provided to BatchNorm; pass it to the "
                "constructor or to the call, or set it by train(), eval() or nnx.view"
            )
        update = not use_running_average if self.update_stats is None else self.update_stats
        valid, weights = sample_of(mask)
        with errors_naming(f"BatchNorm({self.num_features})"):
            sizes = feature_sizes(jnp.shape(x), self.axis)
            mean, var = (placed(v[...], sizes, "mean and var") for v in (self.mean, self.var))
            scale, bias = affine(self, sizes)
            sample, dtype, (_, _, scale, bias) = promoted(
                self.promote_dtype, self.dtype, x, mean, var, scale, bias
            )
            if not use_running_average:
                axes = canonical_axes(self.axis, sample.ndim, "axis")
                warn_of_single_values(sample.shape, axes, self.axis_name, self.axis_index_groups)
            y, stats = batch_norm(
                sample,
                _stored(mean, var, self.dtype, sample.dtype if update else None),
                scale,
                bias,
                use_running_average=use_running_average,
                update_stats=update,
                estimator=ema(self.momentum),
                axis=self.axis,
                epsilon=self.epsilon,
                mask=valid,
                weights=weights,
                variance=variance_of(self.use_fast_variance),
                axis_name=self.axis_name,
                axis_index_groups=self.axis_index_groups,
                single_value="running",
                dtype=dtype,
            )
        if update:
            self.mean[...] = constant(stats.mean).reshape(self.mean.shape)
            self.var[...] = constant(stats.var).reshape(self.var.shape)
        return y

    # nnx.view_info finds the argument in the docstring if it is indented by two, as in Flax.
    def set_view(self, use_running_average: bool | None = None) -> None:
        """Sets which statistics normalize, for `nnx.view`.

        Args:
          use_running_average: whether the running statistics normalize; None changes nothing.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average


def _stored(
    mean: Array, var: Array, dtype: DTypeLike | None, update_dtype: DTypeLike | None
) -> BatchStats:
    """Returns the running statistics, a mean that Flax started as real as complex as `dtype`."""
    wide = jnp.promote_types(mean.dtype, mean_dtype(dtype, var.dtype))
    if mean_dtype(update_dtype, wide) != wide:
        raise TypeError(
            f"x is {update_dtype}, but the running mean is {wide} and keeps its dtype; pass a "
            "complex dtype to the constructor"
        )
    return BatchStats(mean.astype(wide), var)
