"""The angle by which a step turns the weights of a layer, kept by the optimizer."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Turns(NamedTuple):
    """The state of `record_turns`: decayed means over the steps so far."""

    square: Any  # of each parameter, [] the sum of weighted squares of angles
    weight: jax.Array  # [], the sum of the weights

    def angles(self) -> Any:
        """Return the root mean square of the angles per step, in radians, of each parameter."""
        return jax.tree.map(lambda square: jnp.sqrt(square / self.weight), self.square)


def record_turns(decay: float = 0.99) -> optax.GradientTransformation:
    """Return a last stage of an optimizer that changes nothing and records angles.

    A step u turns the weights w by the angle between w and w + u. Weights of zero do not turn.

    Args:
        decay: weight of the older angles at each step.

    Examples:
        >>> tx = record_turns()
        >>> w = {"kernel": jnp.array([1.0, 0.0])}
        >>> _, state = tx.update({"kernel": jnp.array([0.0, 1.0])}, tx.init(w), w)
        >>> print(f"{state.angles()['kernel']:.4f}")
        0.7854
    """

    def init(params: Any) -> Turns:
        return Turns(jax.tree.map(lambda w: jnp.zeros((), w.dtype), params), jnp.zeros(()))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Turns]:
        square = jax.tree.map(
            lambda old, w, u: decay * old + (1 - decay) * turn(w, u) ** 2,
            *(state.square, params, updates),
        )
        return updates, Turns(square, decay * state.weight + 1 - decay)

    return optax.GradientTransformation(init, update)


def turn(weights: jax.Array, update: jax.Array) -> jax.Array:
    """Return the angle in radians between weights and weights + update.

    Small angles keep their digits: the angle is that of a right triangle, whose sides are the parts
    of `weights + update` across and along the weights.

    Examples:
        >>> print(f"{turn(jnp.array([3.0, 4.0]), jnp.array([-4e-4, 3e-4])):.1e}")
        1.0e-04
    """
    square = jnp.sum(weights**2)
    along = jnp.sum(weights * update) / jnp.where(square > 0, square, 1.0)
    across = jnp.sqrt(jnp.sum((update - along * weights) ** 2))
    return jnp.where(square > 0, jnp.arctan2(across, (1 + along) * jnp.sqrt(square)), 0.0)
