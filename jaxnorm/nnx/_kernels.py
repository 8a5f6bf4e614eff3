"""Norms of the kernels of a layer as nnx modules that wrap it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import InitVar
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from flax.typing import PromoteDtypeFn
from jax.nn import initializers

from jaxnorm.functional import (
    SPECS,
    Spec,
    SpectralState,
    constant,
    result_dtype,
    run,
    weight_norm_scale,
)
from jaxnorm.nnx._base import Store
from jaxnorm.numerics import canonical_axes
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike, Shape

Path = tuple[Any, ...]
"""Where a variable is in a module: attribute names, keys and indices."""


def parameters(layer: nnx.Module) -> dict[Path, nnx.Param]:
    """Returns the parameters of a layer by their paths, one in two places only once."""
    return dict(nnx.to_flat_state(nnx.state(layer, nnx.Param)))


def call_with(layer: nnx.Module, values: Mapping[Path, Array], /, *args: Any, **kwargs: Any) -> Any:
    """Returns the output of a layer whose parameters have other values during the call.

    The layer itself is not written: the call is that of a copy which shares all other variables,
    so that running statistics move, random streams advance and intermediates are kept.
    """
    graphdef, state = nnx.split(layer)
    variables = dict(nnx.to_flat_state(state))
    replaced = {path: variables[path].replace(value) for path, value in values.items()}
    copy = nnx.merge(graphdef, nnx.from_flat_state({**variables, **replaced}))
    output = copy(*args, **kwargs)
    # Shared variables have moved by themselves; those that the call has made are handed over.
    after = nnx.to_flat_state(nnx.state(copy))
    made = [(p, v) for p, v in after if p not in values and v is not variables.get(p)]
    if made:
        nnx.update(layer, nnx.from_flat_state(made))
    return output


class KernelStore(Store):
    """The variables of one kernel of a module that wraps a layer."""

    def __init__(self, norm: Any, path: Path) -> None:
        self.norm, self.path = norm, path
        self.label = f"{type(norm).__name__} {path}"

    def parameter(self, name: str, shape: Shape, first: float = 0.0) -> Array | None:
        if self.norm.scales is None:
            return None
        if self.path not in self.norm.scales:
            raise ValueError(
                f"there is no {name} for the parameter {self.path}, which the layer got after it "
                "was wrapped; wrap the complete layer"
            )
        return self.norm.scales[self.path][...]

    def result_dtype(self, x: ArrayLike, stats: Any, parameters: Any) -> jnp.dtype:
        return result_dtype(x, *parameters, dtype=self.norm.dtype)


class KernelNorm(nnx.Module):
    """Runs a layer with other kernels, which are functions of its own; the base of such modules."""

    spec: ClassVar[Spec]
    layer_instance: Any
    feature_axes: Any
    scale_init: Any
    use_scale: Any
    variable_filter: Any

    def __post_init__(self, rngs: nnx.Rngs | None) -> None:
        if self.feature_axes is None:
            self.feature_axes = ()
        self.variable_filter = nnx.filterlib.to_predicate(self.variable_filter)
        kernels = self._kernels().items() if self.use_scale else ()
        scales = {path: self._first(v[...], rngs) for path, v in kernels}
        self.scales = nnx.data(scales) if self.use_scale else None

    def __call__(self, x: ArrayLike, *args: Any, **kwargs: Any) -> Any:
        """Returns the layer's output with normalized kernels.

        Args:
            x: for the layer.
            *args: for the layer.
            **kwargs: for the layer.

        Returns:
            What the layer returns.
        """
        normalized = {
            path: run(self.spec, self, KernelStore(self, path), kernel[...])
            for path, kernel in self._kernels().items()
        }
        return call_with(self.layer_instance, normalized, x, *args, **kwargs)

    def _kernels(self) -> dict[Path, nnx.Param]:
        every = parameters(self.layer_instance).items()
        return {path: kernel for path, kernel in every if self.variable_filter(path, kernel)}

    def _first(self, kernel: Array, rngs: Any) -> nnx.Param:
        if self.scale_init is weight_norm_scale:
            return nnx.Param(weight_norm_scale(kernel, feature_axes=self.feature_axes))
        # Flax draws no key here: one of a copy leaves the stream of later layers as it is there.
        key = jax.random.fold_in(nnx.clone(rngs).params(), 0)
        axes = canonical_axes(self.feature_axes, kernel.ndim, "feature_axes")
        return nnx.Param(self.scale_init(key, tuple(kernel.shape[axis] for axis in axes)))


@nnx.dataclass(eq=False)
class WeightNorm(KernelNorm):
    """Runs a layer with the direction and the length of its kernels as separate parameters.

    Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016. `flax.nnx.WeightNorm`, pure:
    the layer's kernels are never written, and each scale is an `nnx.Param`, so that it trains.

    Each kernel is divided by its norm over all but the feature axes, in float32 or wider, and
    multiplied by `scales[path]` [*features]. As in Flax that starts at one, which changes the
    function; `scale_init=jaxnorm.weight_norm_scale` keeps it, as PyTorch does.

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
class ScaledWeightStandardization(KernelNorm):
    """Runs a layer with kernels that keep the variance of its input, for networks without norms.

    Brock, De, Smith: Characterizing signal propagation to close the performance gap in unnormalized
    ResNets, arXiv:2101.08692, 2021. Pure: the layer's kernels are never written. Statistics over
    all but the feature axes of each kernel, in float32 or wider. Each kernel is multiplied by the
    `nnx.Param` `scales[path]` [*features], which starts at one, and by `gain`.

    Examples:
        >>> linear = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> linear.kernel[...] = jnp.array([[3.0], [5.0]])
        >>> ScaledWeightStandardization(linear, gain=2.0, rngs=nnx.Rngs(0))(jnp.eye(2)).round(3)
        Array([[-1.414],
               [ 1.414]], dtype=float32)
    """

    spec = SPECS["scaled_weight_standardization"]

    layer_instance: nnx.Module  # the layer whose kernels are normalized
    _: dataclasses.KW_ONLY
    feature_axes: Axes = -1  # the axes that have statistics of their own
    use_scale: bool = True  # whether a scale is learned
    scale_init: initializers.Initializer = initializers.ones  # its initializer
    gain: float = 1.0  # of the activation before the layer; see `jaxnorm.activation_gain`
    epsilon: float = 1e-4  # what the sum of squared deviations counts as at least
    dtype: DTypeLike | None = None  # of the kernels; as promoted if None
    variable_filter: nnx.filterlib.Filter = nnx.PathContains("kernel")  # what is normalized
    rngs: InitVar[nnx.Rngs]  # keys


@nnx.dataclass(eq=False)
class WeightCentralization(KernelNorm):
    """Runs a layer with kernels of mean 0 for each output, of the deviation that they have.

    Yan et al.: Towards Stabilizing Batch Statistics in Backward Propagation of Batch Normalization,
    arXiv:2001.06838, 2020. Pure: the layer's kernels are never written.

    Examples:
        >>> linear = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> linear.kernel[...] = jnp.array([[3.0], [7.0]])
        >>> WeightCentralization(linear)(jnp.eye(2))
        Array([[-2.],
               [ 2.]], dtype=float32)
    """

    spec = SPECS["weight_centralization"]
    use_scale = False

    layer_instance: nnx.Module  # the layer whose kernels are centered
    _: dataclasses.KW_ONLY
    feature_axes: Axes = -1  # the axes that have a mean of their own
    dtype: DTypeLike | None = None  # of the kernels; their own if None
    variable_filter: nnx.filterlib.Filter = nnx.PathContains("kernel")  # what is centered
    rngs: InitVar[nnx.Rngs | None] = None  # keys, of which none is drawn


@nnx.dataclass(eq=False)
class SpectralNorm(nnx.Module):
    """Runs a layer with its kernels divided by their largest singular value.

    Miyato et al.: Spectral Normalization for GANs, arXiv:1802.05957, 2018. `flax.nnx.SpectralNorm`,
    pure: the layer's kernels are never written, and evaluation uses the stored vectors.

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
            ValueError: a kernel that is none, or that the layer got after it was wrapped.
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
        store = KernelStore(self, path)
        w, state = run(self.spec, self, store, kernel, state=state, update_state=update_stats)
        if update_stats:
            u[...], sigma[...] = state.u.reshape(1, -1), constant(state.sigma)
        return w
