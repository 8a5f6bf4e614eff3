"""What the linen modules share: where their variables are, and the call of each kind of norm."""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import Spec, Target, result_dtype, run, weight_norm_scale
from jaxnorm.typing import Array, ArrayLike, DTypeLike, PyTree, Shape

BATCH_MOMENTS = "batch_moments"
"""The collection that takes the moments of the batch in the place of an update."""


class Store:
    """The variables of a bound linen module as `jaxnorm.functional.run` asks for them.

    For modules that wrap a layer `prefix` stands before the names of parameters; `kernel` is the
    one whose norms a scale may start at.
    """

    def __init__(self, module: Any, prefix: str = "", kernel: Any = None) -> None:
        self.module, self.prefix, self.kernel = module, prefix, kernel
        path = ["/".join(module.path)] if module.path else []
        self.label = " ".join([type(module).__name__, *path])
        self.initializing = module.is_initializing()

    def parameter(self, name: str, shape: Shape, first: float = 0.0) -> Array | None:
        if not getattr(self.module, f"use_{name}"):
            return None
        init, dtype = getattr(self.module, f"{name}_init"), self.module.param_dtype
        if init is weight_norm_scale:
            return self.module.param(self.prefix + name, lambda key: self._lengths().astype(dtype))
        if init is None:
            init = initializers.constant(first)
        return self.module.param(self.prefix + name, init, shape, dtype)

    def _lengths(self) -> Array:
        return weight_norm_scale(self.kernel, feature_axes=self.module.feature_axes)

    def result_dtype(self, x: ArrayLike, stats: Any, parameters: Any) -> jnp.dtype:
        return result_dtype(x, *parameters, dtype=self.module.dtype)

    def complex_as(self, x: Array) -> DTypeLike:
        return x.dtype if self.module.dtype is None else jnp.result_type(x, self.module.dtype)

    def read(self, name: str, start: Callable[[], Any], target: Target = "batch_stats") -> Any:
        module = self.module
        missing = not module.has_variable(target, name)
        if missing and not module.is_mutable_collection(target):
            raise ValueError(
                f"the variables lack {'/'.join((target, *module.path, name))}, the running "
                "statistics, which init makes: pass {'params': ..., 'batch_stats': ...} to apply"
            )
        return module.variable(target, name, start).value

    def write(self, name: str, value: Any, target: Target = "batch_stats") -> None:
        self.module.put_variable(target, name, value)

    def target(self, use_running_average: bool) -> Target | None:
        if self.initializing or use_running_average:
            return None
        mutable = self.module.is_mutable_collection
        # Asked for by name: mutable=True and a deny list let every name be mutable.
        if mutable(BATCH_MOMENTS) and not mutable(f"not {BATCH_MOMENTS}"):
            return BATCH_MOMENTS
        return "batch_stats" if mutable("batch_stats") else None


class Norm(nn.Module):
    """Normalizes activations by their own statistics; the base of such modules."""

    spec: ClassVar[Spec]

    @nn.compact
    def __call__(self, x: ArrayLike, *, mask: ArrayLike | None = None) -> jax.Array:
        """Returns `x` normalized, then scaled and shifted where the module does so.

        Args:
            x: [N, *spatial, C], or whatever the axes of the module fit.
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.

        Returns:
            The shape of `x`.
        """
        return run(self.spec, self, Store(self), x, mask=mask)


class PointwiseNorm(nn.Module):
    """Changes each entry by itself; the base of such modules."""

    spec: ClassVar[Spec]

    @nn.compact
    def __call__(self, x: ArrayLike) -> jax.Array:
        """Returns a function of each entry of `x`.

        Args:
            x: [*shape], features on the axes of the module.

        Returns:
            The shape of `x`.
        """
        return run(self.spec, self, Store(self), x)


class RunningNorm(nn.Module):
    """Normalizes each feature over the batch and keeps running statistics; the base of such."""

    spec: ClassVar[Spec]

    @nn.compact
    def __call__(
        self,
        x: ArrayLike,
        use_running_average: bool | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> jax.Array:
        """Returns `x` normalized per feature, and updates the running statistics by the batch.

        Initialization takes nothing from the batch but its shape and dtype, and needs no axis.
        Where one value stands behind a statistic there is no variance: the running statistics
        serve, with a warning, and stay as they are.

        Args:
            x: [N, *spatial, *features] (or features at `axis`), of any rank.
            use_running_average: whether the running statistics normalize and stay as they are.
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.

        Returns:
            The shape of `x`.

        Raises:
            ValueError: `use_running_average` given twice or never, a shape that does not fit,
                variables without `batch_stats`, or `axis_name` not bound.
        """
        average = averages(self, use_running_average)
        return run(self.spec, self, Store(self), x, mask=mask, use_running_average=average)


class KernelNorm(nn.Module):
    """Runs a layer with other kernels, which are functions of its own; the base of such modules."""

    spec: ClassVar[Spec]

    @nn.compact
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Returns the layer's output with normalized kernels.

        Args:
            *args: for the layer.
            **kwargs: for the layer.

        Returns:
            What the layer returns.
        """
        return call_with(self, functools.partial(_chosen, self), *args, **kwargs)


# Functions, not methods: `nn.tabulate` calls every method of a module that was called, by itself.
def averages(norm: Any, given: bool | None) -> bool:
    """Returns whether the running statistics normalize, as the call or the field says."""
    return nn.merge_param("use_running_average", norm.use_running_average, given)


def call_with(
    module: Any, normalized: Callable[[str, Array], Array], *args: Any, **kwargs: Any
) -> Any:
    """Returns the output of `module.layer_instance` with other values for its parameters.

    `normalized` takes a name such as "Dense_0/kernel" and the parameter, and returns its value.
    """
    layer = module.layer_instance
    if module.is_initializing():
        layer(*args, **kwargs)

    def value(path: tuple[Any, ...], leaf: PyTree) -> Array:
        # The path has the name of a collection first.
        name = jax.tree_util.keystr(path[1:], simple=True, separator="/")
        return normalized(f"{layer.name}/{name}", jnp.asarray(leaf))

    run_layer = nn.map_variables(
        lambda layer: layer(*args, **kwargs),
        "params",
        trans_in_fn=functools.partial(jax.tree_util.tree_map_with_path, value),
    )
    return run_layer(layer)


def _chosen(norm: Any, name: str, kernel: Array) -> Array:
    if norm.variable_filter and not any(part in name for part in norm.variable_filter):
        return kernel
    return run(norm.spec, norm, Store(norm, f"{name}/", kernel), kernel)
