"""Norms whose scale and bias follow from a condition, as linen modules."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS, Spec, resize_segmentation, run
from jaxnorm.linen._base import RunningNorm, Store, averages
from jaxnorm.stats import Estimator
from jaxnorm.typing import ArrayLike, AxisIndexGroups, AxisName, DTypeLike

Activation = Callable[[jax.Array], jax.Array]


class _ConditionalNorm(nn.Module):
    """Normalizes by the statistics of the input, scaled and shifted as a condition says; the base.

    Each of `learned` is the output of a layer `to_NAME`: an `nn.Dense` of a condition that is a
    vector, or an `nn.Embed` where it is one of `num_classes`.
    """

    spec: ClassVar[Spec]
    learned: ClassVar[tuple[str, ...]] = ("scale", "bias")

    @nn.compact
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
        return run(self.spec, self, Store(self), x, mask=mask, **_outputs(self, x, condition))


def _outputs(module: Any, x: ArrayLike, condition: ArrayLike) -> dict[str, Any]:
    """Returns what the layers of a module make of the condition, by name."""
    size, how = jnp.shape(x)[-1], {"dtype": module.dtype, "param_dtype": module.param_dtype}

    def layer(name: str) -> nn.Module:
        if module.num_classes is None:
            return nn.Dense(size, kernel_init=module.kernel_init, name=name, **how)
        init = module.kernel_init
        return nn.Embed(module.num_classes, size, embedding_init=init, name=name, **how)

    given = jnp.asarray(condition)
    if module.activation is not None and module.num_classes is None:
        given = module.activation(given)
    return {name: layer(f"to_{name}")(given) for name in module.learned}


class ConditionalBatchNorm(RunningNorm):
    """Normalizes each feature over the batch, scaled and shifted per example by its condition.

    de Vries et al.: Modulating early visual processing by language, arXiv:1707.00683, 2017. The
    layers start at zero, and so the module as a batch norm without scale and bias. With
    `num_classes` it is class-conditional batch norm. All else is as in `jaxnorm.linen.BatchNorm`.

    Examples:
        >>> layer = ConditionalBatchNorm(num_classes=3, use_running_average=False)
        >>> x, labels = jnp.array([[1.0], [3.0]]), jnp.array([2, 0])
        >>> y, _ = layer.init_with_output(jax.random.key(0), x, labels)
        >>> y.ravel().round(2)
        Array([-1.,  1.], dtype=float32)
    """

    spec = SPECS["conditional_batch_norm"]
    learned = ("scale", "bias")

    use_running_average: bool | None = None  # here or at the call
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype, and that of the layers; if None that of x
    param_dtype: DTypeLike = jnp.float32  # of the layers
    num_classes: int | None = None  # where the condition is a class, which is embedded
    kernel_init: initializers.Initializer = initializers.zeros  # of the layers
    activation: Activation | None = None  # of a condition that is a vector
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None

    @nn.compact
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
            use_running_average: whether the running statistics normalize and stay as they are.
            mask: see `jaxnorm.linen.BatchNorm`.

        Returns:
            The shape of `x`.
        """
        average = averages(self, use_running_average)
        given = _outputs(self, x, condition)
        return run(self.spec, self, Store(self), x, mask=mask, use_running_average=average, **given)


class FiLM(_ConditionalNorm):
    """Scales and shifts each feature as a condition says, without statistics.

    Perez et al.: FiLM: Visual Reasoning with a General Conditioning Layer, arXiv:1709.07871, 2017.
    The layer gives the difference of the scale from one, so that a small output changes little.

    Examples:
        >>> layer = FiLM(kernel_init=initializers.ones)
        >>> x, condition = jnp.array([[1.0, 2.0]]), jnp.array([[3.0]])
        >>> layer.init_with_output(jax.random.key(0), x, condition)[0]
        Array([[ 7., 11.]], dtype=float32)
    """

    spec = SPECS["film"]

    dtype: DTypeLike | None = None  # the output's dtype, and that of the layers; if None that of x
    param_dtype: DTypeLike = jnp.float32  # of the layers
    num_classes: int | None = None  # where the condition is a class, which is embedded
    kernel_init: initializers.Initializer = initializers.lecun_normal()  # of the layers
    activation: Activation | None = None  # of a condition that is a vector

    @nn.compact
    def __call__(self, x: ArrayLike, condition: ArrayLike) -> jax.Array:
        """Returns `x` scaled and shifted as the condition says.

        Args:
            x: [N, *positions, C].
            condition: [N, D], or [N] integers where there are `num_classes`.

        Returns:
            The shape of `x`.
        """
        return run(self.spec, self, Store(self), x, **_outputs(self, x, condition))


class AdaptiveInstanceNorm(_ConditionalNorm):
    """Normalizes each channel of each example, scaled and shifted by a function of its style.

    Huang, Belongie: Arbitrary Style Transfer in Real-time, arXiv:1703.06868, 2017, with the layer
    from a style vector of StyleGAN (Karras, Laine, Aila, arXiv:1812.04948, 2018), whose output is
    the difference of the scale from one. For the moments of a style's features use the function.

    Examples:
        >>> layer = AdaptiveInstanceNorm(kernel_init=initializers.ones)
        >>> x, style = jnp.array([[[1.0], [3.0]]]), jnp.array([[2.0]])
        >>> layer.init_with_output(jax.random.key(0), x, style)[0].ravel().round(2)
        Array([-1.,  5.], dtype=float32)
    """

    spec = SPECS["adaptive_instance_norm"]

    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype, and that of the layers; if None that of x
    param_dtype: DTypeLike = jnp.float32  # of the layers
    num_classes: int | None = None  # where the condition is a class, which is embedded
    kernel_init: initializers.Initializer = initializers.lecun_normal()  # of the layers
    activation: Activation | None = None  # of a condition that is a vector
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


class SPADE(RunningNorm):
    """Normalizes each channel over the batch, scaled and shifted per position by a segmentation.

    Park et al.: Semantic Image Synthesis with Spatially-Adaptive Normalization, arXiv:1903.07291,
    2019. The segmentation is resized to `x`; a convolution `shared` with a ReLU leads to those of
    the scale, `to_scale`, and of the bias, `to_bias`. All else is as in `jaxnorm.linen.BatchNorm`.

    Examples:
        >>> layer, x = SPADE(use_running_average=False), jnp.ones((2, 4, 4, 3))
        >>> y, variables = layer.init_with_output(jax.random.key(0), x, jnp.ones((2, 8, 8, 5)))
        >>> y.shape, variables["params"]["shared"]["kernel"].shape
        ((2, 4, 4, 3), (3, 3, 5, 128))
    """

    spec = SPECS["spade"]

    hidden_features: int = 128  # of the convolution that scale and bias share
    kernel_size: Sequence[int] = (3, 3)  # of all convolutions, on each spatial axis
    use_running_average: bool | None = None  # here or at the call
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype, and that of the layers; if None that of x
    param_dtype: DTypeLike = jnp.float32  # of the layers
    kernel_init: initializers.Initializer = initializers.lecun_normal()  # of the convolutions
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None

    @nn.compact
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
            use_running_average: whether the running statistics normalize and stay as they are.
            mask: see `jaxnorm.linen.BatchNorm`.

        Returns:
            The shape of `x`.
        """
        average, (*sizes, channels) = averages(self, use_running_average), jnp.shape(x)[1:]

        def conv(features: int, name: str) -> nn.Module:
            return nn.Conv(
                features,
                tuple(self.kernel_size),
                kernel_init=self.kernel_init,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=name,
            )

        hidden = nn.relu(
            conv(self.hidden_features, "shared")(resize_segmentation(segmentation, sizes))
        )
        given = {name: conv(channels, f"to_{name}")(hidden) for name in ("scale", "bias")}
        return run(self.spec, self, Store(self), x, mask=mask, use_running_average=average, **given)


class AdaLayerNorm(_ConditionalNorm):
    """Normalizes each position over its features, scaled and shifted as a condition says.

    Peebles, Xie: Scalable Diffusion Models with Transformers, arXiv:2212.09748, 2022 (adaLN). The
    layers come after a SiLU of the condition and give the difference of the scale from one.

    Examples:
        >>> layer = AdaLayerNorm(kernel_init=initializers.zeros)
        >>> x, condition = jnp.array([[[1.0, 3.0]]]), jnp.array([[2.0, 5.0, 1.0]])
        >>> layer.init_with_output(jax.random.key(0), x, condition)[0].round(3)
        Array([[[-1.,  1.]]], dtype=float32)
    """

    spec = SPECS["ada_layer_norm"]

    epsilon: float = 1e-6  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype, and that of the layers; if None that of x
    param_dtype: DTypeLike = jnp.float32  # of the layers
    num_classes: int | None = None  # where the condition is a class, which is embedded
    kernel_init: initializers.Initializer = initializers.lecun_normal()  # of the layers
    activation: Activation | None = nn.silu  # of a condition that is a vector
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


class AdaLayerNormZero(_ConditionalNorm):
    """Normalizes each position as `AdaLayerNorm` does, and gives the gate of the branch behind it.

    Peebles, Xie: Scalable Diffusion Models with Transformers, arXiv:2212.09748, 2022 (adaLN-Zero).
    A call returns `y` and a gate with the rank of `x`, for `x + gate * branch(y)`. The layers start
    at zero, and so the block at the identity.

    Examples:
        >>> x, condition = jnp.array([[[1.0, 3.0]]]), jnp.array([[2.0, 5.0, 1.0]])
        >>> (y, gate), _ = AdaLayerNormZero().init_with_output(jax.random.key(0), x, condition)
        >>> y.round(3), gate
        (Array([[[-1.,  1.]]], dtype=float32), Array([[[0., 0.]]], dtype=float32))
    """

    spec = SPECS["ada_layer_norm_zero"]
    learned = ("scale", "bias", "gate")

    epsilon: float = 1e-6  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype, and that of the layers; if None that of x
    param_dtype: DTypeLike = jnp.float32  # of the layers
    num_classes: int | None = None  # where the condition is a class, which is embedded
    kernel_init: initializers.Initializer = initializers.zeros  # of the layers
    activation: Activation | None = nn.silu  # of a condition that is a vector
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


class ModulatedRMSNorm(_ConditionalNorm):
    """Divides each position by its root mean square, scaled and shifted as a condition says.

    Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019, modulated as in
    `AdaLayerNorm`.

    Examples:
        >>> layer = ModulatedRMSNorm(kernel_init=initializers.zeros)
        >>> x, condition = jnp.array([[[7.0, -7.0]]]), jnp.array([[2.0, 5.0]])
        >>> layer.init_with_output(jax.random.key(0), x, condition)[0].round(2)
        Array([[[ 1., -1.]]], dtype=float32)
    """

    spec = SPECS["modulated_rms_norm"]

    epsilon: float = 1e-6  # added to the mean square
    dtype: DTypeLike | None = None  # the output's dtype, and that of the layers; if None that of x
    param_dtype: DTypeLike = jnp.float32  # of the layers
    num_classes: int | None = None  # where the condition is a class, which is embedded
    kernel_init: initializers.Initializer = initializers.lecun_normal()  # of the layers
    activation: Activation | None = nn.silu  # of a condition that is a vector
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
