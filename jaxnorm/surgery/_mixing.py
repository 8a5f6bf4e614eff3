"""A network whose batch norms normalize by a mixture of their statistics and the batch's."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from jaxnorm._views import Apply, Call, intercept
from jaxnorm.linen._base import BATCH_MOMENTS
from jaxnorm.stats import whole_mean
from jaxnorm.typing import Array


@dataclasses.dataclass(frozen=True)
class Mixing:
    """Calls a model that collects the moments of a batch, with mixed statistics in every layer.

    Attributes:
        apply: (variables, batch, mutable=[...]) -> (output, updated), with norms in train mode.
        prior_count: as how many examples the statistics of the variables count.

    Examples:
        >>> Mixing(print, 16.0) == Mixing(print, 16.0)
        True
    """

    apply: Apply
    prior_count: float

    def __call__(self, variables: Any, batch: Any, **options: Any) -> Any:
        examples = jax.tree.leaves(batch)[0].shape[0]
        share = examples / (self.prior_count + examples)

        def mix(run: Callable[..., Any], args: Any, kwargs: Any, call: Call) -> Any:
            # Before the call: Flax's norms update their statistics in it.
            source = [call.variable("batch_stats", name) for name in ("mean", "var")]
            y = run(*args, **kwargs)
            target = call.kept(BATCH_MOMENTS, "moments", None)
            if target is None or any(statistic is None for statistic in source):
                return y
            mean, var = source
            mixed = {
                "mean": mixture(mean, whole_mean(target), share),
                "var": mixture(var, target.var, share),
            }
            return _normalized(call, mixed, args, kwargs)

        with intercept(mix):
            return self.apply(variables, batch, **options)


def mixture(source: Array, target: Array, share: Any) -> Array:
    """Returns `(1 - share) * source + share * target`.

    Args:
        source: [*features].
        target: [*features].
        share: of the target.

    Returns:
        [*features], of the dtype of `source`.

    Examples:
        >>> import jax.numpy as jnp
        >>> mixture(jnp.array([2.0]), jnp.array([6.0]), 0.25)
        Array([3.], dtype=float32)
    """
    return (source + share * (target - source)).astype(source.dtype)


def _normalized(call: Call, statistics: dict[str, Array], args: Any, kwargs: Any) -> Any:
    """Returns the output of a norm in evaluation, with other running statistics."""
    keywords = {name: value for name, value in kwargs.items() if name != "use_running_average"}
    norm = call.module
    if isinstance(norm, nnx.Module):
        copy: Any = nnx.clone(norm)
        for name, value in statistics.items():
            getattr(copy, name)[...] = value
        return call.kind.__call__(copy, *args[:1], use_running_average=True, **keywords)
    own = {**norm.variables.get("batch_stats", {}), **statistics}
    variables = {"params": norm.variables.get("params", {}), "batch_stats": own}
    still = norm.clone(parent=None, name=None, use_running_average=True)
    return still.apply(variables, *args[:1], **keywords)
