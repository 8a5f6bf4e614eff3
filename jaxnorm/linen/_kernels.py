"""Norms of the kernels of a layer as linen modules that wrap it."""

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS, SpectralState, run
from jaxnorm.linen._base import KernelNorm, Store, call_with
from jaxnorm.typing import Array, Axes, DTypeLike


class WeightNorm(KernelNorm):
    """Runs a layer with the direction and the length of its kernels as separate parameters.

    Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016. `flax.linen.WeightNorm`, pure:
    the layer's parameters are never written, at initialization neither.

    Each kernel is divided by its norm over all but the feature axes, in float32 or wider, and
    multiplied by the parameter `LAYER/KERNEL/scale` [*features]. As in Flax that starts at one,
    which changes the function; `jaxnorm.weight_norm_scale` keeps it, as PyTorch does.

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
        >>> import jaxnorm
        >>> dense = nn.Dense(2, use_bias=False, kernel_init=initializers.constant(4.0))
        >>> layer = WeightNorm(dense, scale_init=jaxnorm.weight_norm_scale)
        >>> x = jnp.array([[1.0, 2.0, 3.0, 4.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> variables["params"]["layer_instance/kernel/scale"], layer.apply(variables, x)
        (Array([8., 8.], dtype=float32), Array([[40., 40.]], dtype=float32))
    """

    spec = SPECS["weight_norm"]

    layer_instance: nn.Module
    epsilon: float = 1e-12
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_scale: bool = True
    scale_init: initializers.Initializer = initializers.ones
    feature_axes: Axes | None = -1
    variable_filter: Iterable[str] | None = dataclasses.field(default_factory=lambda: {"kernel"})


class WeightStandardization(KernelNorm):
    """Runs a layer with kernels of mean 0 and variance 1 for each output.

    Qiao et al.: Weight Standardization, arXiv:1903.10520, 2019. Pure: the layer's parameters are
    never written. Statistics over all but the feature axes of each kernel, in float32 or wider.
    With `use_scale` each kernel is multiplied by the parameter `LAYER/KERNEL/scale` [*features],
    the gain of Brock, De, Smith, arXiv:2101.08692, 2021.

    Attributes:
        layer_instance: the layer whose parameters are normalized.
        feature_axes: the axes of a kernel that have statistics of their own.
        variable_filter: parts of the paths of those parameters that are normalized; all if None.

    Examples:
        >>> layer = WeightStandardization(nn.Dense(1))
        >>> variables = layer.init(jax.random.key(0), jnp.eye(2))
        >>> variables["params"]["layer_instance"]["kernel"] = jnp.array([[3.0], [5.0]])
        >>> layer.apply(variables, jnp.eye(2)).round(3)
        Array([[-1.],
               [ 1.]], dtype=float32)
    """

    spec = SPECS["weight_standardization"]

    layer_instance: nn.Module
    epsilon: float = 1e-6  # added to the variance
    dtype: DTypeLike | None = None  # of the kernels; as promoted if None
    param_dtype: DTypeLike = jnp.float32  # of the scale
    use_scale: bool = False  # whether a scale is learned
    scale_init: initializers.Initializer = initializers.ones  # its initializer
    feature_axes: Axes = -1
    variable_filter: Iterable[str] | None = dataclasses.field(default_factory=lambda: {"kernel"})


class ScaledWeightStandardization(KernelNorm):
    """Runs a layer with kernels that keep the variance of its input, for networks without norms.

    Brock, De, Smith: Characterizing signal propagation to close the performance gap in unnormalized
    ResNets, arXiv:2101.08692, 2021. Pure: the layer's parameters are never written. Statistics over
    all but the feature axes of each kernel, in float32 or wider. Each kernel is multiplied by the
    parameter `LAYER/KERNEL/scale` [*features], which starts at one, and by `gain`.

    Attributes:
        variable_filter: parts of the paths of those parameters that are normalized; all if None.

    Examples:
        >>> layer = ScaledWeightStandardization(nn.Dense(1), gain=2.0)
        >>> variables = layer.init(jax.random.key(0), jnp.eye(2))
        >>> variables["params"]["layer_instance"]["kernel"] = jnp.array([[3.0], [5.0]])
        >>> layer.apply(variables, jnp.eye(2)).round(3)
        Array([[-1.414],
               [ 1.414]], dtype=float32)
    """

    spec = SPECS["scaled_weight_standardization"]

    layer_instance: nn.Module  # the layer whose kernels are normalized
    gain: float = 1.0  # of the activation before the layer; see `jaxnorm.activation_gain`
    epsilon: float = 1e-4  # what the sum of squared deviations counts as at least
    dtype: DTypeLike | None = None  # of the kernels; as promoted if None
    param_dtype: DTypeLike = jnp.float32  # of the scale
    use_scale: bool = True  # whether a scale is learned
    scale_init: initializers.Initializer = initializers.ones  # its initializer
    feature_axes: Axes = -1  # the axes that have statistics of their own
    variable_filter: Iterable[str] | None = dataclasses.field(default_factory=lambda: {"kernel"})


class WeightCentralization(KernelNorm):
    """Runs a layer with kernels of mean 0 for each output, of the deviation that they have.

    Yan et al.: Towards Stabilizing Batch Statistics in Backward Propagation of Batch Normalization,
    arXiv:2001.06838, 2020. Pure: the layer's parameters are never written.

    Attributes:
        variable_filter: parts of the paths of those parameters that are centered; all if None.

    Examples:
        >>> layer = WeightCentralization(nn.Dense(1))
        >>> variables = layer.init(jax.random.key(0), jnp.eye(2))
        >>> variables["params"]["layer_instance"]["kernel"] = jnp.array([[3.0], [7.0]])
        >>> layer.apply(variables, jnp.eye(2))
        Array([[-2.],
               [ 2.]], dtype=float32)
    """

    spec = SPECS["weight_centralization"]

    layer_instance: nn.Module  # the layer whose kernels are centered
    dtype: DTypeLike | None = None  # of the kernels; their own if None
    feature_axes: Axes = -1  # the axes that have a mean of their own
    variable_filter: Iterable[str] | None = dataclasses.field(default_factory=lambda: {"kernel"})


class SpectralNorm(nn.Module):
    """Runs a layer with its kernels divided by their largest singular value.

    Miyato et al.: Spectral Normalization for GANs, arXiv:1802.05957, 2018. `flax.linen`'s
    `SpectralNorm`, pure: parameters are never written, and evaluation uses the stored vectors.

    A kernel is seen as a matrix `[-1, out]`, in float32 or wider; vectors and scalars are left as
    they are. The collection named `collection_name` holds `LAYER/KERNEL/u` [1, out] and
    `LAYER/KERNEL/sigma` [].

    Attributes:
        layer_instance: the layer whose parameters are normalized.
        n_steps: steps of power iteration at each update; without any the kernels stay as they are.
        epsilon: added to the squared norm of the vectors.
        dtype: the kernels' dtype; if None the promotion of kernel and vectors.
        param_dtype: the dtype of the stored vectors and singular values.
        error_on_non_matrix: whether a kernel of rank 3 or more is an error.
        collection_name: where the vectors are stored.

    Examples:
        >>> layer = SpectralNorm(nn.Dense(2, use_bias=False), n_steps=20)
        >>> x = jnp.array([[1.0, 0.0]])
        >>> variables = layer.init(jax.random.key(0), x, update_stats=True)
        >>> kernel = jnp.array([[4.0, 0.0], [0.0, 1.0]])
        >>> variables["params"] = {"layer_instance": {"kernel": kernel}}
        >>> layer.apply(variables, x, update_stats=True, mutable=["batch_stats"])[0].round(3)
        Array([[1., 0.]], dtype=float32)
    """

    spec = SPECS["spectral_norm"]

    layer_instance: nn.Module
    n_steps: int = 1
    epsilon: float = 1e-12
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    error_on_non_matrix: bool = False
    collection_name: str = "batch_stats"

    @nn.compact
    def __call__(self, *args: Any, update_stats: bool, **kwargs: Any) -> Any:
        """Returns the layer's output with normalized kernels.

        Args:
            *args: for the layer.
            update_stats: whether the vectors take `n_steps` of power iteration. If not, those that
                are stored serve; before the first update, what `n_steps` make of the random ones.
            **kwargs: for the layer.

        Returns:
            What the layer returns.

        Raises:
            ValueError: a kernel of rank 3 or more with `error_on_non_matrix`.
        """
        return call_with(self, functools.partial(_normalized, self, update_stats), *args, **kwargs)


# Functions, not methods: `nn.tabulate` calls every method of a module that was called, by itself.
def _normalized(norm: SpectralNorm, update: bool, name: str, kernel: Array) -> Array:
    if kernel.ndim < 2 or norm.n_steps < 1:
        return kernel
    store = Store(norm)
    if kernel.ndim > 2 and norm.error_on_non_matrix:
        raise ValueError(
            f"{store.label}: Input is {kernel.ndim}D but error_on_non_matrix is True: {name} "
            f"{list(kernel.shape)}; set it to False to flatten the leading axes"
        )
    where, shape = norm.collection_name, (1, kernel.shape[-1])
    key = None if norm.has_variable(where, f"{name}/u") else norm.make_rng("params")
    u = norm.variable(where, f"{name}/u", jax.random.normal, key, shape, norm.param_dtype)
    sigma = norm.variable(where, f"{name}/sigma", jnp.ones, (), norm.param_dtype)
    state = SpectralState(u.value.reshape(-1), sigma.value)
    w, state = run(norm.spec, norm, store, kernel, state=state, update_state=update)
    if update:
        u.value, sigma.value = state.u.reshape(shape), state.sigma
    return w
