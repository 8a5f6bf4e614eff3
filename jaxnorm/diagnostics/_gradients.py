"""The gradient of a loss at every layer."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnorm._views import Apply, Call, intercept, opened
from jaxnorm.diagnostics._capture import Layers, is_floating, layer_values, picks
from jaxnorm.typing import Array, PyTree

Loss = Callable[[Any], Array]
"""Output of the model -> loss []."""


class LayerGradients(NamedTuple):
    """The gradient of a loss with respect to a layer's output and to its parameters.

    Examples:
        >>> LayerGradients(jnp.ones(2), jnp.array([False, True]), jnp.array(3.0)).dead
        Array([False,  True], dtype=bool)
    """

    output: Array  # [C], root mean square over examples and positions
    dead: Array  # [C], bool: no example sends any gradient to the unit
    params: Array  # [], norm over the layer's own parameters


@overload
def layer_gradients(
    apply: nnx.Module, batch: PyTree, loss: Loss, /, *, layers: Layers = None, **mode: Any
) -> dict[str, LayerGradients]: ...


@overload
def layer_gradients(
    apply: Apply,
    variables: Mapping[str, PyTree],
    batch: PyTree,
    loss: Loss,
    *,
    layers: Layers = None,
    **mode: Any,
) -> dict[str, LayerGradients]: ...


def layer_gradients(
    apply: Any,
    variables: Any = None,
    batch: Any = None,
    loss: Any = None,
    *,
    layers: Layers = None,
    **mode: Any,
) -> dict[str, LayerGradients]:
    """Returns the size of the loss's gradient at each layer.

    A unit is dead where the gradient with respect to its output is exactly zero for all examples:
    whatever comes after it, it does not learn from this batch.

    Args:
        apply: (variables, batch, mutable=[...], **mode) -> (output, updated), as `model.apply`; or
            an nnx model, which takes the place of the variables too.
        variables: of a linen model.
        batch: the model's input.
        loss: output of the model -> loss [], for example the mean cross-entropy to the labels.
        layers: paths of modules, or a function that picks them; see `layer_values`.
        **mode: keyword arguments of the call, such as `train=True`, which puts a copy of an nnx
            model into train mode.

    Returns:
        Gradients by path, in the order of the calls; the calls of a shared layer count together.

    Examples:
        >>> import flax.linen as nn
        >>> model, x = nn.Dense(1), jnp.array([[3.0], [4.0]])
        >>> variables = {"params": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}}
        >>> layer_gradients(model.apply, variables, x, jnp.sum)[""].params.round(3)
        Array(7.28, dtype=float32)
        >>> model = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
        >>> layer_gradients(model, x, jnp.sum)[""].params.round(3)
        Array(7.28, dtype=float32)
    """
    apply, variables, batch, loss = opened(layer_gradients, apply, variables, batch, loss)
    found = layer_values(apply, variables, batch, layers=layers, **mode)
    zeros = {name: jnp.zeros_like(v.output) for name, v in found.items() if "#" not in name}

    def loss_of(nudges: dict[str, Array], params: PyTree) -> Array:
        with intercept(_nudging(nudges, layers)):
            given = {**variables, "params": params}
            output, _ = apply(given, batch, mutable=["batch_stats"], **mode)
        return loss(output)

    outputs, params = jax.grad(loss_of, argnums=(0, 1))(zeros, variables.get("params", {}))
    return {
        name: LayerGradients(*_per_unit(outputs[name]), _own_norm(params, name.split("/")))
        for name in zeros
    }


def _nudging(nudges: Mapping[str, Array], layers: Layers) -> Callable[..., Any]:
    """Adds a zero to each layer's output, whose gradient is that of the output."""

    def nudge(next_fun: Callable[..., Any], args: Any, kwargs: Any, call: Call) -> Any:
        y = next_fun(*args, **kwargs)
        path = "/".join(call.path)
        nudged = path in nudges and is_floating(y) and picks(layers, call)
        return y + nudges[path] if nudged else y

    return nudge


def _per_unit(gradient: Array) -> tuple[Array, Array]:
    flat = gradient.reshape(-1, gradient.shape[-1])
    return jnp.sqrt(jnp.mean(flat**2, axis=0)), jnp.all(flat == 0, axis=0)


def _own_norm(params: Any, path: list[str]) -> Array:
    for name in path:
        params = params.get(name, {}) if name else params
    own = [leaf for leaf in params.values() if not isinstance(leaf, Mapping)]
    return jnp.sqrt(sum((jnp.sum(leaf**2) for leaf in own), jnp.zeros(())))
