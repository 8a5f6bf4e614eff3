"""Norms of each example mixed with others, reversible, or started by data, as nnx modules."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import InitVar
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from jaxnorm.functional import SPECS, act_norm_init, act_norm_inverse, rev_in_inverse, run
from jaxnorm.nnx._base import RunningNorm, Store, make_parameters
from jaxnorm.stats import Estimator, Moments, Variance
from jaxnorm.typing import ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


@nnx.dataclass(eq=False)
class BatchInstanceNorm(RunningNorm):
    """Normalizes each channel by a learned share of batch norm, and for the rest by instance norm.

    Nam, Kim: Batch-Instance Normalization, arXiv:1805.07925, 2018. Running statistics serve the
    batch norm only; all else about them is as in `jaxnorm.nnx.BatchNorm`.

    Args:
        num_features: the size of the feature axis, or one for each of several.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.

    Examples:
        >>> layer = BatchInstanceNorm(1, gate_init=initializers.zeros, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[[1.0], [3.0]], [[5.0], [7.0]]])).round(2).ravel()
        Array([-1.,  1., -1.,  1.], dtype=float32)
    """

    spec = SPECS["batch_instance_norm"]

    num_features: int | Sequence[int]
    _: dataclasses.KW_ONLY
    use_running_average: bool | None = False  # whether running statistics normalize
    axis: Axes = -1  # the feature axes, not the first
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to both variances
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_gate: bool = True  # whether the share is learned; it is one if not
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    gate_init: InitVar[initializers.Initializer] = initializers.ones  # of the share of batch norm
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share the batch
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"
    rngs: InitVar[nnx.Rngs]  # keys
    gate_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the gate
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None


@nnx.dataclass(eq=False)
class SwitchableNorm(RunningNorm):
    """Normalizes by a learned mixture of the statistics of instance, layer and batch norm.

    Luo et al.: Differentiable Learning-to-Normalize via Switchable Normalization,
    arXiv:1806.10779, 2018. Running statistics serve the batch's only; all else about them is as in
    `jaxnorm.nnx.BatchNorm`.

    Args:
        num_features: the size of the feature axis, or one for each of several.
        candidates: which statistics are mixed, in the order of the logits.
        estimator: of the running statistics, ema(decay) if None; the paper's is `cumulative()`.
        variance: "one_pass", "two_pass" or "fast"; see `jaxnorm.stats.moments`.

    Examples:
        >>> layer = SwitchableNorm(1, candidates=("instance",), rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[[1.0], [3.0]], [[5.0], [7.0]]])).round(2).ravel()
        Array([-1.,  1., -1.,  1.], dtype=float32)
    """

    spec = SPECS["switchable_norm"]

    num_features: int | Sequence[int]
    _: dataclasses.KW_ONLY
    use_running_average: bool | None = False  # whether running statistics normalize
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
    mean_logits_init: InitVar[initializers.Initializer] = initializers.ones  # of [candidates]
    var_logits_init: InitVar[initializers.Initializer] = initializers.ones  # of [candidates]
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share the batch
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"
    rngs: InitVar[nnx.Rngs]  # keys
    mean_logits_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of these logits
    var_logits_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of these logits
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale
    estimator: Estimator | None = None


@nnx.dataclass(eq=False)
class RevIN(nnx.Module):
    """Normalizes each channel of each series over time, and puts forecasts back.

    Kim et al.: Reversible Instance Normalization for Accurate Time-Series Forecasting, ICLR, 2022.
    The module keeps no statistics: the call returns them, and `denormalize` takes them.

    Args:
        num_features: the size of the feature axis, or one for each of several.

    Examples:
        >>> layer = RevIN(1, rngs=nnx.Rngs(0))
        >>> y, moments = layer.normalize(jnp.array([[[1.0], [5.0]]]))
        >>> layer.denormalize(y, moments).round(3).ravel()
        Array([1., 5.], dtype=float32)
    """

    spec = SPECS["rev_in"]
    inverse = spec._replace(function=rev_in_inverse, sample=())

    num_features: int | Sequence[int]
    _: dataclasses.KW_ONLY
    feature_axes: Axes = -1  # the axes that are kept besides the first
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale

    def __post_init__(self, *given: Any) -> None:
        make_parameters(self, self.spec, given)

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


@nnx.dataclass(eq=False)
class ActNorm(nnx.Module):
    """Scales and shifts each feature, so that the first batch has mean 0 and variance 1.

    Kingma, Dhariwal: Glow, arXiv:1807.03039, 2018. `init_from` takes the parameters from a batch;
    before, the layer is the identity. The call returns the log-determinants beside the output, and
    inverts if asked.

    Args:
        num_features: the size of the feature axis, or one for each of several.

    Examples:
        >>> layer, x = ActNorm(1, rngs=nnx.Rngs(0)), jnp.array([[[1.0], [5.0]]])
        >>> layer.init_from(x)
        >>> y, log_det = layer(x)
        >>> y.round(3).ravel(), layer(y, inverse=True)[0].round(3).ravel()
        (Array([-1.,  1.], dtype=float32), Array([1., 5.], dtype=float32))
    """

    spec = SPECS["act_norm"]
    inverse = spec._replace(function=act_norm_inverse)

    num_features: int | Sequence[int]
    _: dataclasses.KW_ONLY
    feature_axes: Axes = -1  # the axes that scale and bias belong to, not the first
    epsilon: float = 1e-6  # added to the variance of the first batch
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # until `init_from`
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # until `init_from`
    rngs: InitVar[nnx.Rngs]  # keys
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale

    def __post_init__(self, *given: Any) -> None:
        make_parameters(self, self.spec, given)

    def __call__(self, x: ArrayLike, *, inverse: bool = False) -> tuple[jax.Array, jax.Array]:
        """Returns `x` scaled and shifted, or the inverse, and the log-determinants.

        Args:
            x: [N, *spatial, *features] (or features at `feature_axes`), floating.
            inverse: whether the map is inverted.

        Returns:
            The shape of `x`, and [N], float32 or wider.
        """
        return run(self.inverse if inverse else self.spec, self, Store(self), x)

    def init_from(self, x: ArrayLike, *, mask: ArrayLike | None = None) -> None:
        """Sets the parameters so that `x` gets mean 0 and variance 1.

        Args:
            x: the first batch, [N, *spatial, *features] (or features at `feature_axes`).
            mask: boolean, broadcastable to `x`; true where an entry takes part.

        Returns:
            Nothing.
        """
        axes, epsilon = self.feature_axes, self.epsilon
        pair = act_norm_init(x, feature_axes=axes, epsilon=epsilon, mask=mask)
        for name, value in zip(("scale", "bias"), pair, strict=True):
            if getattr(self, name) is not None:
                getattr(self, name)[...] = value.astype(self.param_dtype)
