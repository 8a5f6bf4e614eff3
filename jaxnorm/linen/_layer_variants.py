"""Relatives of layer norm and RMS norm as linen modules."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS, run
from jaxnorm.linen._base import Norm, Store
from jaxnorm.stats import Moments
from jaxnorm.typing import ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


class PRMSNorm(Norm):
    """Divides each position by the root mean square of its first features.

    Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019: pRMSNorm. The
    mean square is taken in float32 or wider.

    Examples:
        >>> import jax
        >>> layer, x = PRMSNorm(share=0.5), jnp.array([[2.0, 2.0, 4.0, -8.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(3)
        Array([[ 1.,  1.,  2., -4.]], dtype=float32)
    """

    spec = SPECS["p_rms_norm"]

    share: float = 0.0625  # of the features that are measured
    epsilon: float = 1e-6  # added to the mean square
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = False  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis: int = -1  # the feature axis
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


class ScaleNorm(Norm):
    """Divides each position by its length and multiplies by one learned number.

    Nguyen, Salazar: Transformers without Tears, arXiv:1910.05895, 2019. The length is taken in
    float32 or wider.

    Attributes:
        epsilon: the smallest length that is divided by.
        scale_init: initializer of the scale []; None starts it at the root of the number of
            features, as the authors do.

    Examples:
        >>> import jax
        >>> layer, x = ScaleNorm(), jnp.array([[3.0, -4.0, 0.0, 0.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(3)
        Array([[ 1.2, -1.6,  0. ,  0. ]], dtype=float32)
    """

    spec = SPECS["scale_norm"]

    epsilon: float = 1e-5
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and scale give
    param_dtype: DTypeLike = jnp.float32  # of the scale
    use_scale: bool = True  # whether a scale is learned
    scale_init: initializers.Initializer | None = None
    reduction_axes: Axes = -1  # the axes that the length is taken over
    axis_name: AxisName | None = None  # of shards that share the length
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


class PixelNorm(Norm):
    """Divides each position by the root mean square of its features; nothing is learned.

    Karras et al.: Progressive Growing of GANs, arXiv:1710.10196, 2017. The mean square is taken in
    float32 or wider.

    Examples:
        >>> PixelNorm().apply({}, jnp.array([[4.0, 0.0, 0.0, 0.0]])).round(3)
        Array([[2., 0., 0., 0.]], dtype=float32)
    """

    spec = SPECS["pixel_norm"]

    epsilon: float = 1e-8  # added to the mean square
    dtype: DTypeLike | None = None  # the output's dtype; that of the input if None
    reduction_axes: Axes = -1  # the axes that the mean square is taken over
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


class PositionalNorm(Norm):
    """Normalizes each position over its features and returns the moments; nothing is learned.

    Li et al.: Positional Normalization, arXiv:1907.04312, 2019. `jaxnorm.moment_shortcut` puts the
    moments back behind the layers in between. Statistics in float32 or wider.

    Examples:
        >>> y, moments = PositionalNorm(epsilon=0.0).apply({}, jnp.array([[1.0, 3.0]]))
        >>> y, moments.mean
        (Array([[-1.,  1.]], dtype=float32), Array([[2.]], dtype=float32))
    """

    spec = SPECS["positional_norm"]

    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype; that of the input if None
    reduction_axes: Axes = -1  # the axes that the statistics are taken over
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within

    @nn.compact
    def __call__(self, x: ArrayLike, *, mask: ArrayLike | None = None) -> tuple[jax.Array, Moments]:
        """Returns `x` normalized, and its moments.

        Args:
            x: [*batch, C].
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.

        Returns:
            [*batch, C], and `jaxnorm.Moments` of [*batch, 1].
        """
        return run(self.spec, self, Store(self), x, mask=mask)


class PolyNorm(Norm):
    """Mixes the powers of the features, each of mean square 1: an activation and a norm in one.

    Zhuo et al.: Polynomial Composition Activations, arXiv:2411.03884, 2024. Statistics in float32
    or wider, of powers that do not overflow.

    Attributes:
        order: the highest power.
        scale_init: initializer of the weights of the powers [order], the highest power first; None
            starts each at `1 / order`, as the authors do.

    Examples:
        >>> import jax
        >>> layer, x = PolyNorm(), jnp.array([[1.0, -1.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x), x).round(3)
        Array([[ 1.   , -0.333]], dtype=float32)
    """

    spec = SPECS["poly_norm"]

    order: int = 3
    epsilon: float = 1e-6  # added to each mean square
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_scale: bool = True  # whether the weights of the powers are learned
    use_bias: bool = True  # whether a bias is learned
    scale_init: initializers.Initializer | None = None
    bias_init: initializers.Initializer = initializers.zeros  # of the bias []
    reduction_axes: Axes = -1  # the axes that the mean squares are taken over
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within


class QKNorm(Norm):
    """Normalizes the queries and the keys of each attention head.

    Henry et al.: Query-Key Normalization for Transformers, arXiv:2010.04245, 2020. Statistics in
    float32 or wider. With "l2", attention takes the softmax of the products themselves: the learned
    temperature stands in the place of a division by the root of the head's size.

    Attributes:
        kind: "l2" (lengths of 1), "rms" (mean squares of 1) or "layer" (variances of 1).
        feature_axes: the axes of the scales: -1 for [D], all heads alike, (-2, -1) for [H, D].
        num_key_heads: how many heads `k` has, where they have scales of their own and are fewer.
        temperature_init: of the temperature [], which multiplies the queries. The authors start it
            at `log2(L^2 - L)` for sequences of L positions, about 10 for 33 positions.

    Examples:
        >>> import jax
        >>> layer, q, k = QKNorm(), jnp.array([[3.0, 4.0]]), jnp.array([[0.0, -2.0]])
        >>> q, k = layer.apply(layer.init(jax.random.key(0), q, k), q, k)
        >>> q.round(), k.round()
        (Array([[6., 8.]], dtype=float32), Array([[ 0., -1.]], dtype=float32))
    """

    spec = SPECS["qk_norm"]

    kind: Literal["l2", "rms", "layer"] = "l2"
    epsilon: float = 1e-6  # added to the mean square or the variance
    dtype: DTypeLike | None = None  # of both outputs; if None what q and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_q_scale: bool = False  # whether queries have a scale
    use_k_scale: bool = False  # whether keys have a scale
    use_temperature: bool = True  # whether a temperature is learned
    q_scale_init: initializers.Initializer = initializers.ones  # of the queries' scale
    k_scale_init: initializers.Initializer = initializers.ones  # of the keys' scale
    temperature_init: initializers.Initializer = initializers.constant(10.0)
    feature_axes: Axes = -1
    num_key_heads: int | None = None

    @nn.compact
    def __call__(self, q: ArrayLike, k: ArrayLike) -> tuple[jax.Array, jax.Array]:
        """Returns queries and keys, normalized and scaled.

        Args:
            q: [*batch, H, D].
            k: [*batch, G, D].

        Returns:
            The shapes of `q` and of `k`.
        """
        return run(self.spec, self, Store(self), q, k=k)


class GatedRMSNorm(Norm):
    """Gates the features by `silu(z)` and divides them by their root mean square.

    Dao, Gu: Transformers are SSMs, arXiv:2405.21060, 2024: the norm of the Mamba-2 block. Gate and
    statistics in float32 or wider.

    Examples:
        >>> import jax
        >>> layer, x, z = GatedRMSNorm(), jnp.array([[1.0, -1.0]]), jnp.array([[20.0, 10.0]])
        >>> layer.apply(layer.init(jax.random.key(0), x, z), x, z).round(2)
        Array([[ 1.26, -0.63]], dtype=float32)
    """

    spec = SPECS["gated_rms_norm"]

    norm_before_gate: bool = False  # whether the gate multiplies the normalized value
    num_groups: int = 1  # groups of features, each with a statistic of its own
    epsilon: float = 1e-5  # added to the mean square
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_scale: bool = True  # whether a scale is learned
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis: int = -1  # the feature axis
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within

    @nn.compact
    def __call__(self, x: ArrayLike, z: ArrayLike, *, mask: ArrayLike | None = None) -> jax.Array:
        """Returns `x` gated and normalized, then scaled.

        Args:
            x: [*batch, C].
            z: [*batch, C], what opens the gate.
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.

        Returns:
            [*batch, C].
        """
        return run(self.spec, self, Store(self), x, z=z, mask=mask)


class AddRMSNorm(Norm):
    """Adds the residual and returns its RMS norm, and the sum for the next block.

    Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019. The
    sum is taken in float32 or wider and normalized before it is rounded.

    Examples:
        >>> import jax
        >>> layer, x, residual = AddRMSNorm(), jnp.array([[1.0, -3.0]]), jnp.array([[2.0, 0.0]])
        >>> y, total = layer.apply(layer.init(jax.random.key(0), x, residual), x, residual)
        >>> y.round(3), total
        (Array([[ 1., -1.]], dtype=float32), Array([[ 3., -3.]], dtype=float32))
    """

    spec = SPECS["add_rms_norm"]

    epsilon: float = 1e-6  # added to the mean square
    zero_centered: bool = False  # whether 1 + scale multiplies; start at zeros then
    residual_dtype: DTypeLike | None = None  # of the sum; what both inputs promote to if None
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_scale: bool = True  # whether a scale is learned
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    reduction_axes: Axes = -1  # the axes that the statistics are taken over
    feature_axes: Axes = -1  # the axes that the parameters belong to
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within

    @nn.compact
    def __call__(
        self, x: ArrayLike, residual: ArrayLike, *, mask: ArrayLike | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the norm of `x + residual`, and the sum.

        Args:
            x: [*batch, C].
            residual: [*batch, C].
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.

        Returns:
            Two arrays [*batch, C].
        """
        return run(self.spec, self, Store(self), x, residual=residual, mask=mask)


class AddLayerNorm(Norm):
    """Adds the residual and returns its layer norm, and the sum for the next block.

    Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450, 2016. The
    sum is taken in float32 or wider and normalized before it is rounded.

    Examples:
        >>> import jax
        >>> layer, x, residual = AddLayerNorm(), jnp.array([[1.0, -3.0]]), jnp.array([[2.0, 0.0]])
        >>> y, total = layer.apply(layer.init(jax.random.key(0), x, residual), x, residual)
        >>> y.round(3), total
        (Array([[ 1., -1.]], dtype=float32), Array([[ 3., -3.]], dtype=float32))
    """

    spec = SPECS["add_layer_norm"]

    epsilon: float = 1e-6  # added to the variance
    zero_centered: bool = False  # whether 1 + scale multiplies; start at zeros then
    residual_dtype: DTypeLike | None = None  # of the sum; what both inputs promote to if None
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    reduction_axes: Axes = -1  # the axes that the statistics are taken over
    feature_axes: Axes = -1  # the axes that the parameters belong to
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within

    @nn.compact
    def __call__(
        self, x: ArrayLike, residual: ArrayLike, *, mask: ArrayLike | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the norm of `x + residual`, and the sum.

        Args:
            x: [*batch, C].
            residual: [*batch, C].
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.

        Returns:
            Two arrays [*batch, C].
        """
        return run(self.spec, self, Store(self), x, residual=residual, mask=mask)
