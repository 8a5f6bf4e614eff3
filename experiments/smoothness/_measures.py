"""What the loss and its gradient do along a step, and when the layers below move."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Params = Mapping[str, Any]
"""Parameters by layer, then by name."""

Gradient = Callable[[Params], tuple[jax.Array, Params]]
"""Parameters -> the loss [] and its gradient."""

Layers = tuple[tuple[str, ...], ...]
"""Names of the parameters of each of K layers, in the order of the network."""


class Along(NamedTuple):
    """What is found along the negative gradient, at w - eta g for E lengths eta."""

    value: float  # the loss at w
    norm: float  # of the gradient g at w
    loss: np.ndarray  # [E]
    change: np.ndarray  # [E], norm of the gradient there minus g
    smoothness: np.ndarray  # [E], change over the distance eta * norm: the effective beta


class Shift(NamedTuple):
    """How the gradient of each layer changes when all layers before it take their step."""

    difference: np.ndarray  # [K], norm of the difference over the norm of the gradient
    cosine: np.ndarray  # [K], of the angle between the gradient before and after


def look_around(
    gradient: Gradient,
    params: Params,
    *,
    learning_rate: float,
    lengths: Sequence[float],
    layers: Layers,
) -> tuple[Along, Shift]:
    """Return what a step along the negative gradient changes.

    The measures along the step are those of section 3.1 of Santurkar et al. 2018
    (arXiv:1805.11604). The shift is their definition 2.1: the gradient of layer i is taken at the
    old parameters, and again where the layers before i have taken a step of plain gradient descent.
    The first layer has none before it, so that its difference is 0.

    Args:
        gradient: the loss and its gradient.
        params: w, where the step begins.
        learning_rate: of the step of the layers before.
        lengths: [E], where to look along the step, as multiples of the learning rate.
        layers: [K], the layers of the network, with all of its parameters.

    Examples:
        >>> bowl = jax.value_and_grad(lambda w: jnp.sum(w["x"] ** 2))
        >>> w = {"x": jnp.array([3.0, 4.0])}
        >>> along, _ = look_around(bowl, w, learning_rate=0.5, lengths=(0.5, 1), layers=(("x",),))
        >>> along.loss.tolist(), along.smoothness.tolist()
        ([6.25, 0.0], [2.0, 2.0])
    """
    value, start = gradient(params)
    whole, own = len(layers), range(len(layers))

    def after(rate: float, moving: int) -> tuple[float, Compared]:
        moved = _step(params, start, rate * learning_rate, moving, layers=layers)
        loss, slope = gradient(moved)
        return float(loss), jax.device_get(_compare(start, slope, layers=layers))

    losses, along = zip(*(after(length, whole) for length in lengths), strict=True)
    norm = float(np.sqrt(along[0].old.sum()))
    change = np.sqrt([found.difference.sum() for found in along])
    distance = norm * learning_rate * np.asarray(lengths)
    shifted = [after(1.0, layer)[1] for layer in own]
    old, new, product, difference = np.stack(shifted, axis=-1)[:, own, own]
    return (
        Along(float(value), norm, np.array(losses), change, change / distance),
        Shift(np.sqrt(difference / old), product / np.sqrt(old * new)),
    )


class Compared(NamedTuple):
    """Two gradients, layer by layer. All are sums of squares or products, [K]."""

    old: Any
    new: Any
    product: Any
    difference: Any


@functools.partial(jax.jit, static_argnames="layers")
def _step(
    params: Params, gradient: Params, learning_rate: float, moving: int, *, layers: Layers
) -> Params:
    """Return the parameters after a step of the first `moving` layers."""
    moved = dict(params)
    for depth, names in enumerate(layers):
        rate = jnp.where(depth < moving, learning_rate, 0.0)
        for name in names:
            moved[name] = jax.tree.map(
                lambda w, g, rate=rate: w - rate * g, params[name], gradient[name]
            )
    return moved


@functools.partial(jax.jit, static_argnames="layers")
def _compare(before: Params, after: Params, *, layers: Layers) -> Compared:
    def total(function: Callable[..., jax.Array]) -> jax.Array:
        sums = jax.tree.map(lambda a, b: jnp.sum(function(a, b)), dict(before), dict(after))
        parts = [sum(jax.tree.leaves([sums[name] for name in names])) for names in layers]
        return jnp.stack([jnp.asarray(part) for part in parts])

    return Compared(
        old=total(lambda a, b: a * a),
        new=total(lambda a, b: b * b),
        product=total(lambda a, b: a * b),
        difference=total(lambda a, b: (b - a) ** 2),
    )
