"""Batch normalization as a linen module.

Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015.
"""

import functools
import warnings
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import batch_norm
from jaxnorm.functional._drop_in import (
    errors_naming,
    mean_dtype,
    normalizable,
    result_dtype,
    sample_of,
    variance_of,
    warn_of_single_values,
)
from jaxnorm.linen._variables import affine, layer_name
from jaxnorm.numerics import accumulation_dtype, canonical_axes
from jaxnorm.stats import BatchStats, cumulative, ema
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike, Shape

BATCH_MOMENTS = "batch_moments"
"""The collection that takes the moments of the batch in the place of an update."""


class BatchNorm(nn.Module):
    """Normalizes each feature over the batch: `flax.linen.BatchNorm` with right statistics.

    Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015. Statistics in float32 or wider,
    about a member of the sample, pooled over shards by their counts.

    Running statistics are in the collection `batch_stats`, as `mean` and `var` [*features]. Where
    that is not mutable the batch normalizes and nothing is updated. Where the collection
    `batch_moments` is named mutable, `batch_stats` stays as it is and the layer writes `moments`
    there, the `jaxnorm.Moments` of this batch merged with those that were passed in, and `decay`:
    enough for one exact update from many micro-batches.

    Attributes:
        use_running_average: whether the running statistics normalize; here or at the call.
        axis: the feature axes; all others are reduced.
        momentum: the weight of the old running statistics; one minus PyTorch's.
        epsilon: added to the variance.
        dtype: the output's dtype; if None the promotion of input and parameters, so that bfloat16
            with float32 parameters gives float32.
        param_dtype: the dtype of scale and bias.
        use_bias: whether a bias is learned.
        use_scale: whether a scale is learned.
        bias_init: initializer of the bias.
        scale_init: initializer of the scale.
        axis_name: mapped axes over which the statistics are shared; not during initialization.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        use_fast_variance: one pass over the shifted values if true, two if false; both are right
            at every offset.
        force_float32_reductions: if false, running statistics are kept in `param_dtype`; one
            narrower than float32 makes them stall, of which a warning tells.

    Examples:
        >>> layer = BatchNorm(use_running_average=False, momentum=0.9)
        >>> x = jnp.array([[1.0, 10.0], [3.0, 30.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> y, updated = layer.apply(variables, x, mutable=["batch_stats"])
        >>> y.round(3), updated["batch_stats"]["mean"]
        (Array([[-1., -1.],
               [ 1.,  1.]], dtype=float32), Array([0.2, 2. ], dtype=float32))
    """

    use_running_average: bool | None = None
    axis: Axes = -1
    momentum: float = 0.99
    epsilon: float = 1e-5
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: initializers.Initializer = initializers.zeros
    scale_init: initializers.Initializer = initializers.ones
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True

    @nn.compact
    def __call__(
        self,
        x: ArrayLike,
        use_running_average: bool | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> jax.Array:
        """Returns `x` normalized per feature, and updates the running statistics by the batch.

        Initialization takes nothing from the batch but its shape and dtype, and needs no axis. A
        batch of one value per feature has no variance: the running statistics serve, with a
        warning, and stay as they are.

        Args:
            x: [N, *spatial, *features] (or features at `axis`), of any rank.
            use_running_average: whether the running statistics normalize and stay as they are.
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.

        Returns:
            The shape of `x`.

        Raises:
            ValueError: `use_running_average` given twice or never, a shape that does not fit, or
                `axis_name` not bound.
        """
        use_running_average = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        valid, weights = sample_of(mask)
        with errors_naming(layer_name(self)):
            sample = normalizable(x, self.dtype)
            axes = canonical_axes(self.axis, sample.ndim, "axis")
            features = tuple(sample.shape[axis] for axis in axes)
            initializing = self.is_initializing()
            mean, var = _running(self, features, sample.dtype)
            scale, bias = affine(self, features)
            axis_name = None if initializing else self.axis_name
            learns = not (initializing or use_running_average)
            if learns:
                warn_of_single_values(sample.shape, axes, axis_name, self.axis_index_groups)
            normalized = functools.partial(
                batch_norm,
                sample,
                scale=scale,
                bias=bias,
                use_running_average=use_running_average,
                axis=axes,
                epsilon=self.epsilon,
                mask=valid,
                weights=weights,
                variance=variance_of(self.use_fast_variance),
                axis_name=axis_name,
                axis_index_groups=self.axis_index_groups,
                single_value="running",
                dtype=result_dtype(x, scale, bias, dtype=self.dtype),
            )
            if learns and _collects(self):
                moments = _collected(self, features, sample.dtype)
                y, moments.value = normalized(moments.value, estimator=cumulative())
                return y
            y, stats = normalized(
                _stored(mean.value, var.value, sample.dtype), estimator=ema(self.momentum)
            )
            if learns and self.is_mutable_collection("batch_stats"):
                mean.value, var.value = stats
            return y


# Functions, not methods: `nn.tabulate` calls every method of a module that was called, by itself.
def _running(norm: BatchNorm, features: Shape, dtype: DTypeLike) -> tuple[nn.Variable, nn.Variable]:
    kept = jnp.float32 if norm.force_float32_reductions else norm.param_dtype
    if accumulation_dtype(kept) != kept:
        warnings.warn(
            f"{layer_name(norm)} keeps running statistics in {jnp.dtype(kept)}, where a step with "
            f"momentum={norm.momentum} is soon too small to change them; leave "
            "force_float32_reductions=True",
            stacklevel=2,
        )
    mean = norm.variable("batch_stats", "mean", jnp.zeros, features, mean_dtype(dtype, kept))
    var = norm.variable("batch_stats", "var", jnp.ones, features, kept)
    return mean, var


def _collects(norm: BatchNorm) -> bool:
    # Asked for by name: mutable=True and a deny list let every name be mutable.
    named, any_name = map(norm.is_mutable_collection, (BATCH_MOMENTS, f"not {BATCH_MOMENTS}"))
    return named and not any_name


def _collected(norm: BatchNorm, features: Shape, dtype: DTypeLike) -> nn.Variable:
    norm.variable(BATCH_MOMENTS, "decay", jnp.asarray, norm.momentum, jnp.float32)
    return norm.variable(BATCH_MOMENTS, "moments", cumulative().init, features, dtype)


def _stored(mean: Array, var: Array, dtype: DTypeLike) -> BatchStats:
    """Returns the running statistics, a mean that Flax started as real in the dtype of `x`."""
    wide = jnp.promote_types(mean.dtype, mean_dtype(dtype, var.dtype))
    return BatchStats(mean.astype(wide), var)
