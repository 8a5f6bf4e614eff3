"""What the norms with a state of their own ask of it before any work."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm.typing import Shape


def require_state(state: Any, shape: Shape, features: tuple[int, ...], **decays: float) -> None:
    """Raises unless a state fits the features of an array, and its decays are shares.

    Args:
        state: arrays of [*features] in any structure.
        shape: the shape of `x`.
        features: the feature axes, canonical.
        **decays: weights of old values, by name.

    Returns:
        Nothing.

    Raises:
        ValueError: a shape differs, or a decay is outside [0, 1].

    Examples:
        >>> require_state((jnp.zeros(3), jnp.ones(3)), (8, 3), (1,), decay=0.9)
    """
    sizes = tuple(shape[axis] for axis in features)
    for path, leaf in jax.tree.leaves_with_path(state):
        if jnp.shape(leaf) != sizes:
            raise ValueError(
                f"state{jax.tree_util.keystr(path)} {list(jnp.shape(leaf))} does not fit the "
                f"features {list(sizes)} of x {list(shape)}; make it of that shape"
            )
    for name, decay in decays.items():
        if not 0 <= decay <= 1:
            raise ValueError(f"{name}={decay} must be from 0 to 1: it weighs the old value")
