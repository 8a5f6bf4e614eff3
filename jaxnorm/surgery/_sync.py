"""Batch statistics shared over the shards of a mapped axis, or not."""

from typing import Any, TypeVar

import flax.linen as nn
from flax import nnx

from jaxnorm.surgery._intercepted import with_other_norms
from jaxnorm.surgery._replaced_tree import replaced_tree
from jaxnorm.surgery._rules import RUNNING, Edit
from jaxnorm.typing import AxisIndexGroups, AxisName

Model = TypeVar("Model", bound=nn.Module | nnx.Module)


def sync_norms(
    model: Model, axis_name: AxisName, axis_index_groups: AxisIndexGroups = None
) -> Model:
    """Returns the model with every norm of the batch synchronized over a mapped axis.

    Norms with running statistics of the batch, ours and Flax's, get `axis_name`, so that shards in
    `shard_map`, `pmap` or a named `vmap` share the statistics of the whole batch. Norms of each
    example by itself stay as they are: there `axis_name` says that features are sharded.

    Args:
        model: a linen or nnx module.
        axis_name: the mapped axes.
        axis_index_groups: groups of shards that share statistics, None for all of them.

    Returns:
        A linen module of a subclass of the model's class with the same variables, or a changed copy
        of the nnx module.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> model = sync_norms(nn.BatchNorm(use_running_average=False, use_scale=False), "shards")
        >>> x = jnp.array([[[1.0], [1.0]], [[3.0], [3.0]]])  # two shards of two examples
        >>> variables = model.init(jax.random.key(0), x[0])
        >>> def train(x):
        ...     return model.apply(variables, x, mutable=["batch_stats"])[0]
        >>> jax.vmap(train, axis_name="shards")(x).ravel().round(2)
        Array([-1., -1.,  1.,  1.], dtype=float32)
    """
    groups = axis_index_groups
    if groups is not None:
        groups = tuple(map(tuple, groups))
    return _edited(model, (("axis_name", axis_name), ("axis_index_groups", groups)))


def unsync(model: Model) -> Model:
    """Returns the model with every norm of the batch on the examples of its own shard alone.

    Args:
        model: a linen or nnx module, such as one of `sync_norms`, to be run without mapped axes.

    Returns:
        As of `sync_norms`.

    Examples:
        >>> norm = nnx.BatchNorm(2, axis_name="data", rngs=nnx.Rngs(0))
        >>> print(unsync(norm).axis_name, norm.axis_name)
        None data
    """
    return _edited(model, (("axis_name", None), ("axis_index_groups", None)))


def _edited(model: Any, changes: tuple[tuple[str, Any], ...]) -> Any:
    edit = Edit(RUNNING, changes)
    if isinstance(model, nnx.Module):
        return replaced_tree(model, edit)[0]
    return with_other_norms(model, edit)
