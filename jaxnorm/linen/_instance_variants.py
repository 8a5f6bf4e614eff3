"""Norms of each example mixed with others, reversible, or started by data, as linen modules."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS, act_norm_init, act_norm_inverse, rev_in_inverse, run
from jaxnorm.linen._base import RunningNorm, Store
from jaxnorm.stats import Estimator, Moments, Variance
from jaxnorm.typing import Array, ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike, Shape


class BatchInstanceNorm(RunningNorm):
    """Normalizes each channel by a learned share of batch norm, and for the rest by instance norm.

    Nam, Kim: Batch-Instance Normalization, arXiv:1805.07925, 2018. Running statistics serve the
    batch norm only; all else about them is as in `jaxnorm.linen.BatchNorm`.

    Attributes:
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.

    Examples:
        >>> layer = BatchInstanceNorm(False, gate_init=initializers.zeros)
        >>> x = jnp.array([[[1.0], [3.0]], [[5.0], [7.0]]])
        >>> y, _ = layer.apply(layer.init(jax.random.key(0), x), x, mutable=["batch_stats"])
        >>> y.round(2).ravel()
        Array([-1.,  1., -1.,  1.], dtype=float32)
    """

    spec = SPECS["batch_instance_norm"]

    use_running_average: bool | None = None  # here or at the call
    axis: Axes = -1  # the feature axes, not the first
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to both variances
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_gate: bool = True  # whether the share is learned; it is one if not
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    gate_init: initializers.Initializer = initializers.ones  # of the share of batch norm
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share the batch
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None


class SwitchableNorm(RunningNorm):
    """Normalizes by a learned mixture of the statistics of instance, layer and batch norm.

    Luo et al.: Differentiable Learning-to-Normalize via Switchable Normalization,
    arXiv:1806.10779, 2018. Running statistics serve the batch's only; all else about them is as in
    `jaxnorm.linen.BatchNorm`.

    Attributes:
        candidates: which statistics are mixed, in the order of the logits.
        estimator: of the running statistics, ema(decay) if None; the paper's is `cumulative()`.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.

    Examples:
        >>> layer = SwitchableNorm(False, candidates=("instance",))
        >>> x = jnp.array([[[1.0], [3.0]], [[5.0], [7.0]]])
        >>> y, _ = layer.apply(layer.init(jax.random.key(0), x), x, mutable=["batch_stats"])
        >>> y.round(2).ravel()
        Array([-1.,  1., -1.,  1.], dtype=float32)
    """

    spec = SPECS["switchable_norm"]

    use_running_average: bool | None = None  # here or at the call
    candidates: Sequence[str] = ("instance", "layer", "batch")
    axis: Axes = -1  # the feature axes, not the first
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the mixed variance
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_mean_logits: bool = True  # true: there is no mixture without weights
    use_var_logits: bool = True  # true: there is no mixture without weights
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    mean_logits_init: initializers.Initializer = initializers.ones  # of [candidates]
    var_logits_init: initializers.Initializer = initializers.ones  # of [candidates]
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share the batch
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"
    estimator: Estimator | None = None


class RevIN(nn.Module):
    """Normalizes each channel of each series over time, and puts forecasts back.

    Kim et al.: Reversible Instance Normalization for Accurate Time-Series Forecasting, ICLR, 2022.
    The module keeps no statistics: the call returns them, and `denormalize` takes them.

    Examples:
        >>> layer, x = RevIN(), jnp.array([[[1.0], [5.0]]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> y, moments = layer.apply(variables, x, method="normalize")
        >>> layer.apply(variables, y, moments, method="denormalize").round(3).ravel()
        Array([1., 5.], dtype=float32)
    """

    spec = SPECS["rev_in"]
    inverse = spec._replace(function=rev_in_inverse, sample=())

    feature_axes: Axes = -1  # the axes that are kept besides the first
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within

    @nn.compact
    def __call__(
        self, x: ArrayLike, moments: Moments | None = None, *, mask: ArrayLike | None = None
    ) -> Any:
        """Returns `x` normalized and its statistics, or a forecast put back by such statistics.

        Args:
            x: [N, T, *features] (or features at `feature_axes`).
            moments: None to normalize, or those of an earlier call to denormalize.
            mask: true where an entry takes part in the statistics, or its weight if floating.

        Returns:
            `y` and `Moments`; an array where there are moments.
        """
        if moments is None:
            return run(self.spec, self, Store(self), x, mask=mask)
        return run(self.inverse, self, Store(self), x, moments=moments)

    def normalize(
        self, x: ArrayLike, *, mask: ArrayLike | None = None
    ) -> tuple[jax.Array, Moments]:
        """Returns `x` normalized, and the statistics for `denormalize`.

        Args:
            x: [N, T, *features] (or features at `feature_axes`).
            mask: see the call.

        Returns:
            The shape of `x`, and `Moments` of [N, 1, *features].
        """
        return self(x, mask=mask)

    def denormalize(self, y: ArrayLike, moments: Moments) -> jax.Array:
        """Returns `y` with the mean and variance that `normalize` took away.

        Args:
            y: [N, H, *features], of any length.
            moments: from `normalize`.

        Returns:
            The shape of `y`.
        """
        return self(y, moments)


class ActNorm(nn.Module):
    """Scales and shifts each feature, so that the first batch has mean 0 and variance 1.

    Kingma, Dhariwal: Glow, arXiv:1807.03039, 2018. `init` takes the parameters from its input. The
    call returns the log-determinants beside the output, and inverts if asked.

    Attributes:
        scale_init, bias_init: None to start from the batch that `init` sees.

    Examples:
        >>> layer, x = ActNorm(), jnp.array([[[1.0], [5.0]]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> y, log_det = layer.apply(variables, x)
        >>> y.round(3).ravel(), layer.apply(variables, y, inverse=True)[0].round(3).ravel()
        (Array([-1.,  1.], dtype=float32), Array([1., 5.], dtype=float32))
    """

    spec = SPECS["act_norm"]
    inverse = spec._replace(function=act_norm_inverse)

    feature_axes: Axes = -1  # the axes that scale and bias belong to, not the first
    epsilon: float = 1e-6  # added to the variance of the first batch
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer | None = None
    scale_init: initializers.Initializer | None = None

    @nn.compact
    def __call__(self, x: ArrayLike, *, inverse: bool = False) -> tuple[jax.Array, jax.Array]:
        """Returns `x` scaled and shifted, or the inverse, and the log-determinants.

        Args:
            x: [N, *spatial, *features] (or features at `feature_axes`), floating.
            inverse: whether the map is inverted.

        Returns:
            The shape of `x`, and [N], float32 or wider.
        """
        spec = self.inverse if inverse else self.spec
        return run(spec, self, _FirstBatchStore(self, x), x)


class _FirstBatchStore(Store):
    """The variables of a module that starts at the statistics of the batch."""

    def __init__(self, module: ActNorm, x: ArrayLike) -> None:
        super().__init__(module)
        self.x = x

    def parameter(self, name: str, shape: Shape, first: float = 0.0) -> Array | None:
        module = self.module
        if not getattr(module, f"use_{name}") or getattr(module, f"{name}_init") is not None:
            return super().parameter(name, shape, first)

        def start() -> Array:
            pair = act_norm_init(self.x, feature_axes=module.feature_axes, epsilon=module.epsilon)
            return pair[name == "bias"].astype(module.param_dtype)

        return module.param(name, lambda key: start())
