"""Norms of the kernels of a layer as nnx modules that wrap it."""

import dataclasses
from dataclasses import InitVar
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from flax.typing import PromoteDtypeFn
from jax.nn import initializers

from jaxnorm.functional import SPECS, SpectralState, constant, result_dtype, run
from jaxnorm.nnx._reparametrized import KernelNorm, KernelStore, Path, call_with, parameters
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


@nnx.dataclass(eq=False)
class WeightNorm(KernelNorm):
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
        >>> import jaxnorm
        >>> linear = nnx.Linear(4, 2, kernel_init=initializers.constant(4.0), rngs=nnx.Rngs(0))
        >>> layer = WeightNorm(linear, scale_init=jaxnorm.weight_norm_scale, rngs=nnx.Rngs(0))
        >>> layer.scales["kernel",][...], layer(jnp.array([[1.0, 2.0, 3.0, 4.0]]))
        (Array([8., 8.], dtype=float32), Array([[40., 40.]], dtype=float32))
    """

    spec = SPECS["weight_norm"]

    layer_instance: nnx.Module
    _: dataclasses.KW_ONLY
    feature_axes: Axes | None = -1
    use_scale: bool = True
    scale_init: initializers.Initializer = initializers.ones
    epsilon: float = 1e-12
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    variable_filter: nnx.filterlib.Filter = nnx.PathContains("kernel")
    promote_dtype: PromoteDtypeFn = dtypes.promote_dtype
    rngs: InitVar[nnx.Rngs]


@nnx.dataclass(eq=False)
class WeightStandardization(KernelNorm):
    """Runs a layer with kernels of mean 0 and variance 1 for each output.

    Qiao et al.: Weight Standardization, arXiv:1903.10520, 2019. Pure: the layer's kernels are never
    written. Statistics over all but the feature axes of each kernel, in float32 or wider. With
    `use_scale` each kernel is multiplied by the `nnx.Param` `scales[path]` [*features], the gain of
    Brock, De, Smith, arXiv:2101.08692, 2021.

    Args:
        layer_instance: the layer whose parameters are normalized.
        feature_axes: the axes of a kernel that have statistics of their own.
        variable_filter: which parameters are normalized.

    Examples:
        >>> linear = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> linear.kernel[...] = jnp.array([[3.0], [5.0]])
        >>> WeightStandardization(linear, rngs=nnx.Rngs(0))(jnp.eye(2)).round(3)
        Array([[-1.],
               [ 1.]], dtype=float32)
    """

    spec = SPECS["weight_standardization"]

    layer_instance: nnx.Module
    _: dataclasses.KW_ONLY
    feature_axes: Axes = -1
    use_scale: bool = False  # whether a scale is learned
    scale_init: initializers.Initializer = initializers.ones  # its initializer
    epsilon: float = 1e-6  # added to the variance
    dtype: DTypeLike | None = None  # of the kernels; as promoted if None
    variable_filter: nnx.filterlib.Filter = nnx.PathContains("kernel")
    rngs: InitVar[nnx.Rngs]  # keys


@nnx.dataclass(eq=False)
class SpectralNorm(nnx.Module):
    """Runs a layer with its kernels divided by their largest singular value.

    Miyato et al.: Spectral Normalization for GANs, arXiv:1802.05957, 2018. `flax.nnx`'s
    `SpectralNorm`, pure: the layer's kernels are never written, and evaluation uses the stored
    vectors.

    A kernel is seen as a matrix `[-1, out]`, in float32 or wider; vectors and scalars are left as
    they are. The dictionary `batch_stats` holds `(*path, "u")` [1, out] and `(*path, "sigma")` [].
    `train()` and `eval()` switch updates on and off.

    Args:
        layer_instance: the layer whose parameters are normalized.
        n_steps: steps of power iteration at each update; without any the kernels stay as they are.
        epsilon: added to the squared norm of the vectors.
        dtype: the kernels' dtype; if None the promotion of kernel and vectors.
        param_dtype: the dtype of the stored vectors and singular values.
        error_on_non_matrix: whether a kernel of rank 3 or more is an error.
        update_stats: whether the vectors take `n_steps` of power iteration at each call.
        rngs: keys.

    Examples:
        >>> linear = nnx.Linear(2, 2, use_bias=False, rngs=nnx.Rngs(0))
        >>> linear.kernel[...] = jnp.array([[4.0, 0.0], [0.0, 1.0]])
        >>> layer = SpectralNorm(linear, n_steps=20, rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, 1.0]])).round(3), linear.kernel[0, 0]
        (Array([[1.  , 0.25]], dtype=float32), Array(4., dtype=float32))
    """

    spec = SPECS["spectral_norm"]

    layer_instance: nnx.Module
    _: dataclasses.KW_ONLY
    n_steps: int = 1
    epsilon: float = 1e-12
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    error_on_non_matrix: bool = False
    update_stats: InitVar[bool] = True
    rngs: InitVar[nnx.Rngs]

    def __post_init__(self, update_stats: bool, rngs: nnx.Rngs) -> None:
        # The name that train() and eval() know; it is true where nothing is updated.
        self.use_running_average = not update_stats
        stats: dict[Path, nnx.BatchStat] = {}
        for path, kernel in self._kernels().items():
            u = initializers.normal()(rngs.params(), (1, kernel.shape[-1]), self.param_dtype)
            stats[*path, "u"] = nnx.BatchStat(u)
            stats[*path, "sigma"] = nnx.BatchStat(jnp.ones((), self.param_dtype))
        self.batch_stats = nnx.data(stats)

    def __call__(self, x: ArrayLike, update_stats: bool | None = None) -> Any:
        """Returns the layer's output with normalized kernels.

        Args:
            x: for the layer.
            update_stats: whether the vectors take `n_steps` of power iteration; by default as the
                constructor, `train()` or `eval()` said. If not, those that are stored serve; before
                the first update, what `n_steps` make of the random ones.

        Returns:
            What the layer returns.

        Raises:
            ValueError: a kernel of rank 3 or more with `error_on_non_matrix`, or one that the layer
                did not have when it was wrapped.
        """
        if update_stats is None:
            update_stats = not self.use_running_average
        normalized = {
            path: self._normalized(path, kernel[...], update_stats)
            for path, kernel in self._kernels().items()
        }
        return call_with(self.layer_instance, normalized, x)

    def _kernels(self) -> dict[Path, nnx.Param]:
        kernels = {}
        if self.n_steps < 1:
            return kernels
        for path, kernel in parameters(self.layer_instance).items():
            if kernel.ndim > 2 and self.error_on_non_matrix:
                raise ValueError(
                    f"Layer instance parameter is {kernel.ndim}D but error_on_non_matrix is True: "
                    f"{path} {list(kernel.shape)}; set it to False to flatten the leading axes"
                )
            if kernel.ndim > 1:
                kernels[path] = kernel
        return kernels

    def _normalized(self, path: Path, kernel: Array, update_stats: bool) -> Array:
        if (*path, "u") not in self.batch_stats:
            raise ValueError(
                f"SpectralNorm has no vectors for the parameter {path}, which the layer got after "
                "it was wrapped; wrap the complete layer"
            )
        u, sigma = self.batch_stats[*path, "u"], self.batch_stats[*path, "sigma"]
        state = SpectralState(u[...].reshape(-1), sigma[...])
        store = _VectorStore(self, path)
        w, state = run(self.spec, self, store, kernel, state=state, update_state=update_stats)
        if update_stats:
            u[...], sigma[...] = state.u.reshape(1, -1), constant(state.sigma)
        return w


class _VectorStore(KernelStore):
    """Promotes the output's dtype from the stored vectors too, as Flax does."""

    def result_dtype(self, x: ArrayLike, stats: Any, parameters: Any) -> jnp.dtype:
        u = self.norm.batch_stats[*self.path, "u"][...]
        return result_dtype(x, u, dtype=self.norm.dtype)
