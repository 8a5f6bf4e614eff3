"""What the nnx modules share: where their variables are, and the call of each kind of norm."""

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx import graphlib
from flax.nnx.nn import dtypes
from jax.nn import initializers

from jaxnorm._internals import is_mapped
from jaxnorm.functional import (
    Spec,
    Target,
    constant,
    parameter_shape,
    result_dtype,
    run,
    starts,
)
from jaxnorm.typing import Array, ArrayLike, DTypeLike, Shape


def feature_shape(num_features: int | Sequence[int]) -> Shape:
    """Returns the shape of a norm's parameters, [*features]."""
    if isinstance(num_features, Sequence):
        return tuple(map(operator.index, num_features))
    return (num_features,)


class Store:
    """The variables of an nnx norm as `jaxnorm.functional.run` asks for them."""

    initializing = False

    def __init__(self, norm: Any) -> None:
        self.norm = norm
        self.label = f"{type(norm).__name__}({getattr(norm, 'num_features', '')})"

    def parameter(self, name: str, shape: Shape, first: float = 0.0) -> Array | None:
        variable = getattr(self.norm, name)
        return None if variable is None else variable[...]

    def result_dtype(self, x: ArrayLike, stats: Any, parameters: Any) -> jnp.dtype:
        arrays, dtype = (x, *stats, *parameters), self.norm.dtype
        promote = getattr(self.norm, "promote_dtype", dtypes.promote_dtype)
        # The dtype is all that is taken: neither the input nor a parameter is rounded to it.
        arrays = arrays if promote is dtypes.promote_dtype else promote(arrays, dtype=dtype)
        return result_dtype(*arrays, dtype=dtype)

    def complex_as(self, x: Array) -> DTypeLike | None:
        return self.norm.dtype

    def read(self, name: str, start: Callable[[], Any], target: Target = "batch_stats") -> Any:
        if target == "batch_moments":
            kept = self.norm.batch_moments.get_value()
            if name not in kept:
                self.write(name, start(), target)
            return self.norm.batch_moments.get_value()[name]
        return jax.tree.map(lambda v: v[...], getattr(self.norm, name), is_leaf=_is_variable)

    def write(self, name: str, value: Any, target: Target = "batch_stats") -> None:
        if target == "batch_moments":
            kept = self.norm.batch_moments
            return kept.set_value({**kept.get_value(), name: constant(value)})
        variables = jax.tree.leaves(getattr(self.norm, name), is_leaf=_is_variable)
        for variable, new in zip(variables, jax.tree.leaves(constant(value)), strict=True):
            _refuse_sharing(variable[...], new)
            variable[...] = new

    def target(self, use_running_average: bool) -> Target | None:
        asked = self.norm.update_stats
        update = not use_running_average if asked is None else asked
        if not update:
            return None
        # Set for one call by `jaxnorm.surgery` and `jaxnorm.training`.
        collecting = getattr(self.norm, "batch_moments", None) is not None
        return "batch_moments" if collecting else "batch_stats"


class Norm(nnx.Module):
    """Normalizes activations by their own statistics; the base of such modules."""

    spec: ClassVar[Spec]
    num_features: Any
    scale: Any
    bias: Any

    def __post_init__(self, *given: Any) -> None:
        make_parameters(self, self.spec, given)

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


class PointwiseNorm(nnx.Module):
    """Changes each entry by itself; the base of such modules."""

    spec: ClassVar[Spec]

    def __post_init__(self, *given: Any) -> None:
        make_parameters(self, self.spec, given)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Returns a function of each entry of `x`.

        Args:
            x: [*shape], features on the axes of the module.

        Returns:
            The shape of `x`.
        """
        return run(self.spec, self, Store(self), x)


class RunningNorm(nnx.Module):
    """Normalizes each feature over the batch and keeps running statistics; the base of such."""

    spec: ClassVar[Spec]
    num_features: Any
    use_running_average: bool | None
    update_stats: bool | None
    mean: Any
    var: Any
    scale: Any
    bias: Any

    def __post_init__(self, *given: Any) -> None:
        self.update_stats = None
        shape, dtype = feature_shape(self.num_features), getattr(self, "dtype", None)
        for name, start in starts(self.spec, self, shape, dtype).items():
            setattr(self, name, nnx.data(jax.tree.map(nnx.BatchStat, start())))
        make_parameters(self, self.spec, given)

    def __call__(
        self,
        x: ArrayLike,
        use_running_average: bool | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> jax.Array:
        """Returns `x` normalized per feature, and updates the running statistics by the batch.

        Where one value stands behind a statistic there is no variance: the running statistics
        serve, with a warning, and stay as they are.

        Args:
            x: [N, *spatial, *features] (or features at `axis`), of any rank.
            use_running_average: whether the running statistics normalize; the attribute if None.
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.

        Returns:
            The shape of `x`.

        Raises:
            ValueError: `use_running_average` never given, a shape that does not fit, or
                `axis_name` not bound.
            TypeError: `x` is complex, but the running mean is not.
        """
        average = averages(self, use_running_average)
        return run(self.spec, self, Store(self), x, mask=mask, use_running_average=average)

    # nnx.view_info finds the arguments in the docstring if they are indented by two, as in Flax.
    def set_view(
        self, use_running_average: bool | None = None, update_stats: bool | None = None
    ) -> None:
        """Sets which statistics normalize and whether they move, for `nnx.view`.

        Args:
          use_running_average: whether the running statistics normalize; None changes nothing.
          update_stats: whether the batch updates them; None changes nothing.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average
        if update_stats is not None:
            self.update_stats = update_stats


def _refuse_sharing(old: Array, new: Array) -> None:
    """Raises where `nnx.vmap` maps the statistics that a norm got unmapped, as it cannot share."""
    vmaps = graphlib.GRAPH_CONTEXT.update_context_stacks.get("vmap")
    if vmaps and is_mapped(new) and not is_mapped(old):
        raise ValueError(
            "statistics are updated inside nnx.vmap, which was told to share them (in_axes=None), "
            "and each mapped batch has its own; give the norm and nnx.vmap one axis_name, so that "
            "all batches make one sample, or take nnx.view(model, update_stats=False), or map the "
            "statistics too (nnx.StateAxes)"
        )


def averages(norm: Any, given: bool | None) -> bool:
    """Returns whether the running statistics normalize, as the call or the attribute says."""
    average = norm.use_running_average if given is None else given
    if average is None:
        raise ValueError(
            f"No `use_running_average` argument was provided to {Store(norm).label}; pass it to "
            "the constructor or to the call, or set it by train(), eval() or nnx.view"
        )
    return average


def make_parameters(norm: Any, spec: Spec, given: Sequence[Any]) -> None:
    """Gives a new norm its parameters, whose keys are drawn in the order of `spec`.

    `given` is what the constructor takes and the norm does not keep, in the order of its fields.
    """
    taken = taken_only(norm, given)
    shape, keys = feature_shape(getattr(norm, "num_features", ())), taken["rngs"]
    for name in spec.parameters:
        # As data in either case, so that a parameter may take the place of None.
        variable = nnx.data(None)
        if getattr(norm, f"use_{name}"):
            size = parameter_shape(spec, norm, name, shape)
            init = taken[f"{name}_init"]
            if init is None:
                init = initializers.constant(spec.first[name](norm, shape))
            value = init(keys.params(), size, norm.param_dtype)
            variable = nnx.Param(value, **taken[f"{name}_metadata"])
        setattr(norm, name, variable)


def taken_only(norm: Any, given: Sequence[Any]) -> dict[str, Any]:
    """Returns by name what the constructor takes and the norm does not keep."""
    fields = type(norm).__dataclass_fields__.values()
    names = [field.name for field in fields if isinstance(field.type, dataclasses.InitVar)]
    return dict(zip(names, given, strict=True))


def _is_variable(node: Any) -> bool:
    return isinstance(node, nnx.Variable)
