"""The inputs and outputs of a model's layers, by intercepting their calls."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeGuard, overload

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnorm._views import Apply, Call, intercept, opened
from jaxnorm.typing import Array, PyTree

Layers = Collection[str] | Callable[[str], bool] | None
"""Paths such as `block_0/conv_1`, or what picks them; None for layers that own variables."""

_COLLECTION = "jaxnorm_diagnostics"


class LayerValues(NamedTuple):
    """What went into a layer and what came out.

    Examples:
        >>> LayerValues(None, jnp.ones((2, 3))).output.shape
        (2, 3)
    """

    input: Array | None  # [N, ..., C], None where the first argument is not a floating array
    output: Array  # [N, ..., D]


@overload
def layer_values(
    apply: nnx.Module, batch: PyTree, /, *, layers: Layers = None, **mode: Any
) -> dict[str, LayerValues]: ...


@overload
def layer_values(
    apply: Apply,
    variables: Mapping[str, PyTree],
    batch: PyTree,
    *,
    layers: Layers = None,
    **mode: Any,
) -> dict[str, LayerValues]: ...


def layer_values(
    apply: Any, variables: Any = None, batch: PyTree = None, *, layers: Layers = None, **mode: Any
) -> dict[str, LayerValues]:
    """Returns the input and the output of each layer in one call of the model.

    Nothing is updated. Layers inside `nn.scan` and `nn.vmap` are left out, which would have to
    carry the values through the loop; those inside `nnx.scan` and `nnx.vmap` have theirs stacked.

    Args:
        apply: (variables, batch, mutable=[...], **mode) -> (output, updated), as `model.apply`; or
            an nnx model, which takes the place of the variables too.
        variables: of a linen model.
        batch: the model's input.
        layers: paths of modules such as `block_0/conv_1`, or a function that picks paths; None for
            every module that has parameters or running statistics of its own.
        **mode: keyword arguments of the call, such as `train=True`, which puts a copy of an nnx
            model into train mode.

    Returns:
        Values by path in the order of the calls; the second call of a shared layer is `path#2`.

    Examples:
        >>> import flax.linen as nn
        >>> model = nn.Sequential([nn.Dense(2), nn.relu, nn.Dense(1)])
        >>> x = jnp.ones((3, 4))
        >>> found = layer_values(model.apply, model.init(jax.random.key(0), x), x)
        >>> {name: values.output.shape for name, values in found.items()}
        {'layers_0': (3, 2), 'layers_2': (3, 1)}
        >>> model = nnx.Sequential(nnx.Linear(4, 2, rngs=nnx.Rngs(0)), nnx.relu)
        >>> {name: values.output.shape for name, values in layer_values(model, x).items()}
        {'layers/0': (3, 2)}
    """
    apply, variables, batch = opened(layer_values, apply, variables, batch)
    order: list[tuple[str, ...]] = []
    with intercept(_keeping(order, layers)):
        _, updated = apply(variables, batch, mutable=[_COLLECTION, "batch_stats"], **mode)
    kept = updated.get(_COLLECTION, {})
    seen: Counter[tuple[str, ...]] = Counter()
    found = {}
    for path in order:
        calls = _at(kept, path)
        if seen[path] < len(calls):
            values = calls[seen[path]]
            seen[path] += 1
            suffix = f"#{seen[path]}" if seen[path] > 1 else ""
            found["/".join(path) + suffix] = values
    return found


def picks(layers: Layers, call: Call) -> bool:
    """Returns whether the module of a call is among the layers that are asked for.

    Args:
        layers: paths, a function of a path, or None.
        call: of a module that has made its variables.

    Returns:
        For None, whether the module has parameters or running statistics of its own.
    """
    path = "/".join(call.path)
    if callable(layers):
        return layers(path)
    if layers is not None:
        return path in layers
    return call.owns_variables()


def is_floating(value: Any) -> TypeGuard[Array]:
    """Returns whether a value is an array of floating numbers with at least one axis.

    Args:
        value: anything.

    Returns:
        True for such an array.

    Examples:
        >>> is_floating(jnp.ones(2)), is_floating(jnp.arange(2)), is_floating("x")
        (True, False, False)
    """
    is_array = isinstance(value, jax.Array) and value.ndim > 0
    return is_array and jnp.issubdtype(value.dtype, jnp.floating)


def _keeping(order: list[tuple[str, ...]], layers: Layers) -> Callable[..., Any]:
    def keep(next_fun: Callable[..., Any], args: Any, kwargs: Any, call: Call) -> Any:
        y = next_fun(*args, **kwargs)
        if is_floating(y) and picks(layers, call):
            x = args[0] if args else None
            values = LayerValues(jnp.asarray(x) if is_floating(x) else None, y)
            order.append(call.path)
            call.keep(_COLLECTION, "values", (*call.kept(_COLLECTION, "values", ()), values))
        return y

    return keep


def _at(kept: Any, path: tuple[str, ...]) -> tuple[LayerValues, ...]:
    for name in path:
        kept = kept.get(name, {})
    return kept.get("values", ())
