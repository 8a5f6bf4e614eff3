"""Calling a layer with other values for some of its parameters, which keep their own."""

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnorm.functional import Spec, result_dtype, run, weight_norm_scale
from jaxnorm.nnx._base import Store
from jaxnorm.numerics import canonical_axes
from jaxnorm.typing import Array, ArrayLike, Shape

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

    def parameter(self, name: str, shape: Shape) -> Array | None:
        """See `jaxnorm.functional.Store`."""
        if self.norm.scales is None:
            return None
        if self.path not in self.norm.scales:
            raise ValueError(
                f"there is no {name} for the parameter {self.path}, which the layer got after it "
                "was wrapped; wrap the complete layer"
            )
        return self.norm.scales[self.path][...]

    def result_dtype(self, x: ArrayLike, stats: Any, parameters: Any) -> jnp.dtype:
        """See `jaxnorm.functional.Store`."""
        return result_dtype(x, *parameters, dtype=self.norm.dtype)


class KernelNorm(nnx.Module):
    """Runs a layer with other kernels, which are functions of its own; the base of such modules."""

    spec: ClassVar[Spec]
    layer_instance: nnx.Module
    feature_axes: Any
    scale_init: Any
    use_scale: bool
    variable_filter: Any

    def __post_init__(self, rngs: nnx.Rngs) -> None:
        if self.feature_axes is None:
            self.feature_axes = ()
        self.variable_filter = nnx.filterlib.to_predicate(self.variable_filter)
        scales = {path: self._first(v[...], rngs) for path, v in self._kernels().items()}
        self.scales = nnx.data(scales) if self.use_scale else None

    def __call__(self, x: ArrayLike, *args: Any, **kwargs: Any) -> Any:
        """Returns the layer's output with normalized kernels.

        Args:
            x: for the layer.
            *args: for the layer.
            **kwargs: for the layer.

        Returns:
            What the layer returns.

        Raises:
            ValueError: a kernel lacks one of the `feature_axes`, or the layer did not have it when
                it was wrapped.
        """
        normalized = {
            path: run(self.spec, self, KernelStore(self, path), kernel[...])
            for path, kernel in self._kernels().items()
        }
        return call_with(self.layer_instance, normalized, x, *args, **kwargs)

    def _kernels(self) -> dict[Path, nnx.Param]:
        every = parameters(self.layer_instance).items()
        return {path: kernel for path, kernel in every if self.variable_filter(path, kernel)}

    def _first(self, kernel: Array, rngs: nnx.Rngs) -> nnx.Param:
        if self.scale_init is weight_norm_scale:
            return nnx.Param(weight_norm_scale(kernel, feature_axes=self.feature_axes))
        # Flax draws no key here: one of a copy leaves the stream of later layers as it is there.
        key = jax.random.fold_in(nnx.clone(rngs).params(), 0)
        axes = canonical_axes(self.feature_axes, kernel.ndim, "feature_axes")
        return nnx.Param(self.scale_init(key, tuple(kernel.shape[axis] for axis in axes)))
