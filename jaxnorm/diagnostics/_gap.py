"""How differently a network computes in training and in evaluation."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, overload

import jax.numpy as jnp
from flax import nnx

from jaxnorm._views import Apply, opened
from jaxnorm.diagnostics._capture import Layers, layer_values
from jaxnorm.typing import Array, PyTree

TRAIN: Mapping[str, Any] = MappingProxyType({"train": True})
EVALUATE: Mapping[str, Any] = MappingProxyType({"train": False})


@overload
def train_eval_gap(
    apply: nnx.Module,
    batch: PyTree,
    /,
    *,
    train: Mapping[str, Any] = ...,
    evaluate: Mapping[str, Any] = ...,
    layers: Layers = None,
) -> dict[str, Array]: ...


@overload
def train_eval_gap(
    apply: Apply,
    variables: Mapping[str, PyTree],
    batch: PyTree,
    *,
    train: Mapping[str, Any] = ...,
    evaluate: Mapping[str, Any] = ...,
    layers: Layers = None,
) -> dict[str, Array]: ...


def train_eval_gap(
    apply: Any,
    variables: Any = None,
    batch: PyTree = None,
    *,
    train: Mapping[str, Any] = TRAIN,
    evaluate: Mapping[str, Any] = EVALUATE,
    layers: Layers = None,
) -> dict[str, Array]:
    """Returns how far each layer's output in train mode is from that in eval mode.

    The root mean square of the difference over that of the deviation from each unit's mean (over
    examples and positions, both modes together): 0 where both modes agree, about 1 where they
    differ as much as the examples do among themselves.

    Args:
        apply: (variables, batch, mutable=[...], **mode) -> (output, updated), as `model.apply`; or
            an nnx model, which takes the place of the variables too.
        variables: of a linen model.
        batch: the model's input, the same in both modes.
        train: keyword arguments of a call in train mode, with `rngs` where a linen model needs any;
            `train` sets the mode of an nnx model.
        evaluate: keyword arguments of a call in eval mode.
        layers: paths of modules, or a function that picks them; see `layer_values`.

    Returns:
        [] by path, in the order of the calls.

    Examples:
        >>> import jax, flax.linen as nn
        >>> from jaxnorm.linen import BatchNorm
        >>> model, x = BatchNorm(), jnp.array([[1.0], [3.0]])
        >>> train, evaluate = ({"use_running_average": not train} for train in (True, False))
        >>> variables = model.init(jax.random.key(0), x, True)
        >>> gap = train_eval_gap(model.apply, variables, x, train=train, evaluate=evaluate)
        >>> gap[""].round(2)
        Array(2., dtype=float32)
        >>> train_eval_gap(nnx.BatchNorm(1, rngs=nnx.Rngs(0)), x)[""].round(2)
        Array(2., dtype=float32)
    """
    apply, variables, batch = opened(train_eval_gap, apply, variables, batch)
    one = layer_values(apply, variables, batch, layers=layers, **train)
    other = layer_values(apply, variables, batch, layers=layers, **evaluate)
    return {name: _gap(one[name].output, other[name].output) for name in one if name in other}


def _gap(train: Array, evaluate: Array) -> Array:
    pair = [a.reshape(-1, a.shape[-1]).astype(jnp.float32) for a in (train, evaluate)]
    within = sum(jnp.mean((a - jnp.mean(a, axis=0)) ** 2) for a in pair) / 2
    between = jnp.mean((pair[0] - pair[1]) ** 2)
    return jnp.where(between == 0, 0, jnp.sqrt(between / jnp.where(between == 0, 1, within)))
