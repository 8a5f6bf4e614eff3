"""What the norms with a state of their own ask of it before any work."""

from typing import Any

import jax
import jax.numpy as jnp


def require_state(state: Any, like: Any, **decays: float) -> None:
    """Raises unless the parts of a state have their shapes, and its decays are shares.

    Args:
        state: a NamedTuple of arrays.
        like: the same, of the right shapes.
        **decays: weights of old values, by name.

    Returns:
        Nothing.

    Raises:
        ValueError: a shape differs, or a decay is outside [0, 1].

    Examples:
        >>> require_state([jnp.zeros(3)], [jnp.ones(3)], decay=0.9)
    """
    right = jax.tree.leaves(like)
    for (path, part), other in zip(jax.tree.leaves_with_path(state), right, strict=True):
        if jnp.shape(part) != jnp.shape(other):
            raise ValueError(
                f"state{jax.tree_util.keystr(path)} {list(jnp.shape(part))} does not fit x; make "
                f"the state with {type(like).__name__}.start, whose part is "
                f"{list(jnp.shape(other))}"
            )
    for name, decay in decays.items():
        if not 0 <= decay <= 1:
            raise ValueError(f"{name}={decay} must be from 0 to 1: it weighs the old value")
