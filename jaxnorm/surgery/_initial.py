"""Some of the variables that a linen model starts with."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnorm._views import Path
from jaxnorm.surgery._paths import by_path


def initialized(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    names: tuple[Path, ...] | None,
) -> dict[Path, Any]:
    """Returns the named variables that a model starts with, or the shapes of all for None.

    Args:
        model: a linen module.
        args: of a call: arrays or `jax.ShapeDtypeStruct`.
        kwargs: likewise.
        names: collection and path of each variable. Nothing else is computed.

    Returns:
        Arrays by collection and path.

    Examples:
        >>> model, x = nn.BatchNorm(use_running_average=True), jnp.ones((1, 2))
        >>> initialized(model, (x,), {}, (("batch_stats", "var"),))
        {('batch_stats', 'var'): Array([1., 1.], dtype=float32)}
    """
    leaves, structure = jax.tree.flatten((args, dict(kwargs)))

    def init(key: jax.Array) -> dict[Path, Any]:
        arrays = [jnp.zeros(v.shape, v.dtype) if hasattr(v, "dtype") else v for v in leaves]
        args, kwargs = jax.tree.unflatten(structure, arrays)
        made = by_path(nn.unbox(model.init(key, *args, **kwargs)))
        return made if names is None else {name: made[name] for name in names}

    key = jax.random.key(0)
    return jax.eval_shape(init, key) if names is None else jax.jit(init)(key)
