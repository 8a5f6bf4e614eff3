"""Running statistics as they were before any batch."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import unflatten_dict

from jaxnorm.functional import starts
from jaxnorm.nnx._base import feature_shape
from jaxnorm.surgery._calls import norm_calls
from jaxnorm.surgery._initial import initialized
from jaxnorm.surgery._kinds import kind_of
from jaxnorm.surgery._nnx_tree import nnx_norms
from jaxnorm.surgery._paths import by_path, in_dtypes_of
from jaxnorm.surgery._rules import RUNNING
from jaxnorm.typing import PyTree


def reset_statistics(
    model: nn.Module | nnx.Module,
    variables: Mapping[str, PyTree] | None = None,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Returns a model's variables with the running statistics of every norm at their start.

    That is mean 0 and variance 1, and for an estimator with a state its first state. The vectors of
    spectral norm and parameters stay.

    Args:
        model: a linen or nnx module.
        variables: of a linen model.
        *args: of a linen model, the arguments of a call: arrays or `jax.ShapeDtypeStruct`.
        **kwargs: likewise, such as `train=False`.

    Returns:
        The variables of a linen model, new statistics in the dtypes of the old; or a changed copy
        of an nnx model.

    Raises:
        ValueError: a linen model without variables or without the arguments of a call.

    Examples:
        >>> norm = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
        >>> _ = norm(jnp.ones((3, 2)))
        >>> norm.mean[...], reset_statistics(norm).mean[...]
        (Array([0.01, 0.01], dtype=float32), Array([0., 0.], dtype=float32))
    """
    if isinstance(model, nnx.Module):
        copy = nnx.clone(model)
        for _, norm in nnx_norms(copy):
            if kind_of(type(norm)) in RUNNING:
                _restart(norm)
        return copy
    if variables is None:
        raise ValueError(
            f"got the linen model {type(model).__name__} alone; give its variables and the "
            "arguments of a call too: reset_statistics(model, variables, x)"
        )
    calls = norm_calls(model, args, kwargs)
    paths = {call.path for call in calls if kind_of(type(call.norm)) in RUNNING}
    old = by_path(variables, keep_empty=True)
    names = tuple(at for at in old if at[0] == "batch_stats" and at[1:-1] in paths)
    first = initialized(model, args, kwargs, names)
    return unflatten_dict({**old, **{at: in_dtypes_of(old[at], first[at]) for at in names}})


def _restart(norm: Any) -> None:
    if not hasattr(norm, "spec"):
        norm.mean[...], norm.var[...] = jnp.zeros_like(norm.mean), jnp.ones_like(norm.var)
        return
    shape = feature_shape(norm.num_features)
    for name, start in starts(norm.spec, norm, shape, getattr(norm, "dtype", None)).items():
        held = jax.tree.leaves(getattr(norm, name), is_leaf=lambda v: isinstance(v, nnx.Variable))
        for variable, value in zip(held, jax.tree.leaves(start()), strict=True):
            # Norms that `nnx.vmap` has stacked have more axes than one of them starts with.
            variable[...] = jnp.broadcast_to(value, variable.shape).astype(variable.dtype)
