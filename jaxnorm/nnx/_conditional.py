"""Norms whose scale and bias follow from a condition, as nnx modules."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import InitVar
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from jaxnorm.functional import SPECS, Spec, resize_segmentation, run
from jaxnorm.nnx._base import RunningNorm, Store, averages, make_parameters, taken_only
from jaxnorm.stats import Estimator
from jaxnorm.typing import ArrayLike, AxisIndexGroups, AxisName, DTypeLike

Activation = Callable[[jax.Array], jax.Array]


class _ConditionalNorm(nnx.Module):
    """Normalizes by the statistics of the input, scaled and shifted as a condition says; the base.

    Each of `learned` is the output of a layer `to_NAME`: an `nnx.Linear` of a condition of
    `condition_features` entries, or an `nnx.Embed` where it is one of `num_classes`.
    """

    spec: ClassVar[Spec]
    learned: ClassVar[tuple[str, ...]] = ("scale", "bias")

    def __post_init__(self, *given: Any) -> None:
        make_parameters(self, self.spec, given)
        _make_layers(self, given)

    def __call__(self, x: ArrayLike, condition: ArrayLike, *, mask: ArrayLike | None = None) -> Any:
        """Returns `x` normalized, then scaled and shifted as the condition says.

        Args:
            x: [N, *positions, C].
            condition: [N, D], or [N] integers where there are `num_classes`; [N, *positions, D] for
                one condition per position.
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.

        Returns:
            The shape of `x`.
        """
        return run(self.spec, self, Store(self), x, mask=mask, **_outputs(self, condition))


def _make_layers(norm: Any, given: Sequence[Any]) -> None:
    taken = taken_only(norm, given)
    how = {"dtype": norm.dtype, "param_dtype": norm.param_dtype, "rngs": taken["rngs"]}
    size, init = norm.num_features, taken["kernel_init"]
    if (norm.condition_features is None) == (norm.num_classes is None):
        raise ValueError(
            f"{Store(norm).label} got condition_features={norm.condition_features} and "
            f"num_classes={norm.num_classes}; give one of the two"
        )
    for name in norm.learned:
        if norm.num_classes is None:
            layer = nnx.Linear(norm.condition_features, size, kernel_init=init, **how)
        else:
            layer = nnx.Embed(norm.num_classes, size, embedding_init=init, **how)
        setattr(norm, f"to_{name}", layer)


def _outputs(norm: Any, condition: ArrayLike) -> dict[str, Any]:
    """Returns what the layers of a norm make of the condition, by name."""
    given = jnp.asarray(condition)
    if norm.activation is not None and norm.num_classes is None:
        given = norm.activation(given)
    return {name: getattr(norm, f"to_{name}")(given) for name in norm.learned}


@nnx.dataclass(eq=False)
class ConditionalBatchNorm(RunningNorm):
    """Normalizes each feature over the batch, scaled and shifted per example by its condition.

    de Vries et al.: Modulating early visual processing by language, arXiv:1707.00683, 2017. The
    layers start at zero, and so the module as a batch norm without scale and bias. With
    `num_classes` it is class-conditional batch norm. All else is as in `jaxnorm.nnx.BatchNorm`.

    Examples:
        >>> layer = ConditionalBatchNorm(1, num_classes=3, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0], [3.0]]), jnp.array([2, 0])).ravel().round(2)
        Array([-1.,  1.], dtype=float32)
    """

    spec = SPECS["conditional_batch_norm"]
    learned = ("scale", "bias")

    num_features: int  # the size of the feature axis
    _: dataclasses.KW_ONLY
    condition_features: int | None = None  # the size of a condition that is a vector
    num_classes: int | None = None  # where the condition is a class, which is embedded
    use_running_average: bool | None = False  # whether running statistics normalize
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype, and that of the layers; if None that of x
    param_dtype: DTypeLike = jnp.float32  # of the layers
    kernel_init: InitVar[initializers.Initializer] = initializers.zeros  # of the layers
    activation: Activation | None = None  # of a condition that is a vector
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None

    def __post_init__(self, *given: Any) -> None:
        super().__post_init__(*given)
        _make_layers(self, given)

    def __call__(
        self,
        x: ArrayLike,
        condition: ArrayLike,
        use_running_average: bool | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> jax.Array:
        """Returns `x` normalized per feature, and updates the running statistics by the batch.

        Args:
            x: [N, *spatial, C].
            condition: [N, D], or [N] integers where there are `num_classes`.
            use_running_average: whether the running statistics normalize; the attribute if None.
            mask: see `jaxnorm.nnx.BatchNorm`.

        Returns:
            The shape of `x`.
        """
        average, given = averages(self, use_running_average), _outputs(self, condition)
        return run(self.spec, self, Store(self), x, mask=mask, use_running_average=average, **given)


@nnx.dataclass(eq=False)
class FiLM(_ConditionalNorm):
    """Scales and shifts each feature as a condition says, without statistics.

    Perez et al.: FiLM: Visual Reasoning with a General Conditioning Layer, arXiv:1709.07871, 2017.
    The layer gives the difference of the scale from one, so that a small output changes little.

    Examples:
        >>> layer = FiLM(2, condition_features=1, kernel_init=initializers.ones, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, 2.0]]), jnp.array([[3.0]]))
        Array([[ 7., 11.]], dtype=float32)
    """

    spec = SPECS["film"]

    num_features: int  # the size of the feature axis
    _: dataclasses.KW_ONLY
    condition_features: int | None = None  # the size of a condition that is a vector
    num_classes: int | None = None  # where the condition is a class, which is embedded
    dtype: DTypeLike | None = None  # the output's dtype, and that of the layers; if None that of x
    param_dtype: DTypeLike = jnp.float32  # of the layers
    kernel_init: InitVar[initializers.Initializer] = initializers.lecun_normal()  # of the layers
    activation: Activation | None = None  # of a condition that is a vector
    rngs: InitVar[nnx.Rngs]  # keys

    def __call__(self, x: ArrayLike, condition: ArrayLike) -> jax.Array:
        """Returns `x` scaled and shifted as the condition says.

        Args:
            x: [N, *positions, C].
            condition: [N, D], or [N] integers where there are `num_classes`.

        Returns:
            The shape of `x`.
        """
        return run(self.spec, self, Store(self), x, **_outputs(self, condition))


@nnx.dataclass(eq=False)
class AdaptiveInstanceNorm(_ConditionalNorm):
    """Normalizes each channel of each example, scaled and shifted by a function of its style.

    Huang, Belongie: Arbitrary Style Transfer in Real-time, arXiv:1703.06868, 2017, with the layer
    from a style vector of StyleGAN (Karras, Laine, Aila, arXiv:1812.04948, 2018), whose output is
    the difference of the scale from one. For the moments of a style's features use the function.

    Examples:
        >>> ones = initializers.ones
        >>> layer = AdaptiveInstanceNorm(
        ...     1, condition_features=1, kernel_init=ones, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[[1.0], [3.0]]]), jnp.array([[2.0]])).ravel().round(2)
        Array([-1.,  5.], dtype=float32)
    """

    spec = SPECS["adaptive_instance_norm"]

    num_features: int  # the size of the feature axis
    _: dataclasses.KW_ONLY
    condition_features: int | None = None  # the size of a condition that is a vector
    num_classes: int | None = None  # where the condition is a class, which is embedded
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype, and that of the layers; if None that of x
    param_dtype: DTypeLike = jnp.float32  # of the layers
    kernel_init: InitVar[initializers.Initializer] = initializers.lecun_normal()  # of the layers
    activation: Activation | None = None  # of a condition that is a vector
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys


@nnx.dataclass(eq=False)
class SPADE(RunningNorm):
    """Normalizes each channel over the batch, scaled and shifted per position by a segmentation.

    Park et al.: Semantic Image Synthesis with Spatially-Adaptive Normalization, arXiv:1903.07291,
    2019. The segmentation is resized to `x`; a convolution `shared` with a ReLU leads to those of
    the scale, `to_scale`, and of the bias, `to_bias`. All else is as in `jaxnorm.nnx.BatchNorm`.

    Examples:
        >>> layer = SPADE(3, segmentation_features=5, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 4, 4, 3)), jnp.ones((2, 8, 8, 5))).shape
        (2, 4, 4, 3)
        >>> layer.shared.kernel.shape
        (3, 3, 5, 128)
    """

    spec = SPECS["spade"]

    num_features: int  # the size of the feature axis
    _: dataclasses.KW_ONLY
    segmentation_features: int  # the number of its classes
    hidden_features: int = 128  # of the convolution that scale and bias share
    kernel_size: Sequence[int] = (3, 3)  # of all convolutions, on each spatial axis
    use_running_average: bool | None = False  # whether running statistics normalize
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype, and that of the layers; if None that of x
    param_dtype: DTypeLike = jnp.float32  # of the layers
    kernel_init: InitVar[initializers.Initializer] = initializers.lecun_normal()  # of the layers
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None

    def __post_init__(self, *given: Any) -> None:
        super().__post_init__(*given)
        taken, hidden = taken_only(self, given), self.hidden_features
        how = {"dtype": self.dtype, "param_dtype": self.param_dtype, "rngs": taken["rngs"]}

        def conv(inputs: int, outputs: int) -> nnx.Conv:
            size, init = tuple(self.kernel_size), taken["kernel_init"]
            return nnx.Conv(inputs, outputs, size, kernel_init=init, **how)

        self.shared = conv(self.segmentation_features, hidden)
        self.to_scale = conv(hidden, self.num_features)
        self.to_bias = conv(hidden, self.num_features)

    def __call__(
        self,
        x: ArrayLike,
        segmentation: ArrayLike,
        use_running_average: bool | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> jax.Array:
        """Returns `x` normalized per channel, and updates the running statistics by the batch.

        Args:
            x: [N, *spatial, C].
            segmentation: [N, *spatial', classes], of any resolution, one-hot or weighted.
            use_running_average: whether the running statistics normalize; the attribute if None.
            mask: see `jaxnorm.nnx.BatchNorm`.

        Returns:
            The shape of `x`.
        """
        average = averages(self, use_running_average)
        resized = resize_segmentation(segmentation, jnp.shape(x)[1:-1])
        hidden = nnx.relu(self.shared(resized))
        given = {"scale": self.to_scale(hidden), "bias": self.to_bias(hidden)}
        return run(self.spec, self, Store(self), x, mask=mask, use_running_average=average, **given)


@nnx.dataclass(eq=False)
class AdaLayerNorm(_ConditionalNorm):
    """Normalizes each position over its features, scaled and shifted as a condition says.

    Peebles, Xie: Scalable Diffusion Models with Transformers, arXiv:2212.09748, 2022 (adaLN). The
    layers come after a SiLU of the condition and give the difference of the scale from one.

    Examples:
        >>> layer = AdaLayerNorm(
        ...     2, condition_features=3, kernel_init=initializers.zeros, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[[1.0, 3.0]]]), jnp.array([[2.0, 5.0, 1.0]])).round(3)
        Array([[[-1.,  1.]]], dtype=float32)
    """

    spec = SPECS["ada_layer_norm"]

    num_features: int  # the size of the feature axis
    _: dataclasses.KW_ONLY
    condition_features: int | None = None  # the size of a condition that is a vector
    num_classes: int | None = None  # where the condition is a class, which is embedded
    epsilon: float = 1e-6  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype, and that of the layers; if None that of x
    param_dtype: DTypeLike = jnp.float32  # of the layers
    kernel_init: InitVar[initializers.Initializer] = initializers.lecun_normal()  # of the layers
    activation: Activation | None = nnx.silu  # of a condition that is a vector
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys


@nnx.dataclass(eq=False)
class AdaLayerNormZero(_ConditionalNorm):
    """Normalizes each position as `AdaLayerNorm` does, and gives the gate of the branch behind it.

    Peebles, Xie: Scalable Diffusion Models with Transformers, arXiv:2212.09748, 2022 (adaLN-Zero).
    A call returns `y` and a gate with the rank of `x`, for `x + gate * branch(y)`. The layers start
    at zero, and so the block at the identity.

    Examples:
        >>> layer = AdaLayerNormZero(2, condition_features=3, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[[1.0, 3.0]]]), jnp.array([[2.0, 5.0, 1.0]]))[1]
        Array([[[0., 0.]]], dtype=float32)
    """

    spec = SPECS["ada_layer_norm_zero"]
    learned = ("scale", "bias", "gate")

    num_features: int  # the size of the feature axis
    _: dataclasses.KW_ONLY
    condition_features: int | None = None  # the size of a condition that is a vector
    num_classes: int | None = None  # where the condition is a class, which is embedded
    epsilon: float = 1e-6  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype, and that of the layers; if None that of x
    param_dtype: DTypeLike = jnp.float32  # of the layers
    kernel_init: InitVar[initializers.Initializer] = initializers.zeros  # of the layers
    activation: Activation | None = nnx.silu  # of a condition that is a vector
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys


@nnx.dataclass(eq=False)
class ModulatedRMSNorm(_ConditionalNorm):
    """Divides each position by its root mean square, scaled and shifted as a condition says.

    Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019, modulated as in
    `AdaLayerNorm`.

    Examples:
        >>> layer = ModulatedRMSNorm(
        ...     2, condition_features=2, kernel_init=initializers.zeros, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[[7.0, -7.0]]]), jnp.array([[2.0, 5.0]])).round(2)
        Array([[[ 1., -1.]]], dtype=float32)
    """

    spec = SPECS["modulated_rms_norm"]

    num_features: int  # the size of the feature axis
    _: dataclasses.KW_ONLY
    condition_features: int | None = None  # the size of a condition that is a vector
    num_classes: int | None = None  # where the condition is a class, which is embedded
    epsilon: float = 1e-6  # added to the mean square
    dtype: DTypeLike | None = None  # the output's dtype, and that of the layers; if None that of x
    param_dtype: DTypeLike = jnp.float32  # of the layers
    kernel_init: InitVar[initializers.Initializer] = initializers.lecun_normal()  # of the layers
    activation: Activation | None = nnx.silu  # of a condition that is a vector
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    rngs: InitVar[nnx.Rngs]  # keys
