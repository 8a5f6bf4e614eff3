"""Percentiles of what a layer's units see, and how far they drift while the network trains.

Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015, section 4.1 and figure 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnorm._views import Apply, opened
from jaxnorm.diagnostics._capture import Layers, layer_values
from jaxnorm.typing import Array, ArrayLike, PyTree

PAPER_PERCENTILES = (15.0, 50.0, 85.0)
"""Those of figure 1."""


class Drift(NamedTuple):
    """How far percentiles move, in units of the distance between the outermost of them.

    Examples:
        >>> Drift(per_step=jnp.array([0.1]), range=jnp.array([2.0])).range
        Array([2.], dtype=float32)
    """

    per_step: Array  # [Q, ...], mean absolute change from one evaluation to the next
    range: Array  # [Q, ...], from the least to the greatest value over all evaluations


def percentiles(values: ArrayLike, q: Sequence[float] = PAPER_PERCENTILES) -> Array:
    """Returns percentiles of each unit over examples and positions.

    Args:
        values: [N, ..., C], the units along the last axis.
        q: percentages, from 0 to 100.

    Returns:
        [Q, C], interpolated linearly between the two nearest values, float32 or wider.

    Examples:
        >>> percentiles(jnp.arange(101.0)[:, None]).ravel()
        Array([15., 50., 85.], dtype=float32)
    """
    values = jnp.asarray(values)
    flat = values.reshape(-1, values.shape[-1])
    ranked = jnp.sort(flat.astype(jnp.promote_types(flat.dtype, jnp.float32)), axis=0)
    # The places are known before the values are; float64 here keeps a rank from being rounded.
    places = np.asarray(q, np.float64) / 100 * (len(flat) - 1)
    below = np.floor(places).astype(int)
    share = jnp.asarray(places - below, ranked.dtype)[:, None]
    low, high = ranked[below], ranked[np.minimum(below + 1, len(flat) - 1)]
    return low + share * (high - low)


@overload
def layer_percentiles(
    apply: nnx.Module,
    batch: PyTree,
    q: Sequence[float] = ...,
    /,
    *,
    side: Literal["input", "output"] = "output",
    layers: Layers = None,
    **mode: Any,
) -> dict[str, Array]: ...


@overload
def layer_percentiles(
    apply: Apply,
    variables: Mapping[str, PyTree],
    batch: PyTree,
    q: Sequence[float] = ...,
    *,
    side: Literal["input", "output"] = "output",
    layers: Layers = None,
    **mode: Any,
) -> dict[str, Array]: ...


def layer_percentiles(
    apply: Any,
    variables: Any = None,
    batch: Any = None,
    q: Any = None,
    *,
    side: Literal["input", "output"] = "output",
    layers: Layers = None,
    **mode: Any,
) -> dict[str, Array]:
    """Returns percentiles of each unit of each layer over a batch.

    Figure 1 of Ioffe and Szegedy shows the inputs of a sigmoid: the outputs of the norm before it,
    or of the dense layer where there is none.

    Args:
        apply: (variables, batch, mutable=[...], **mode) -> (output, updated), as `model.apply`; or
            an nnx model, which takes the place of the variables too.
        variables: of a linen model.
        batch: the model's input.
        q: percentages, from 0 to 100; the 15th, 50th and 85th if None.
        side: whether the layers' inputs or their outputs are taken.
        layers: paths of modules, or a function that picks them; see `layer_values`.
        **mode: keyword arguments of the call, such as `train=True`, which puts a copy of an nnx
            model into train mode.

    Returns:
        [Q, C] by path, in the order of the calls.

    Examples:
        >>> import flax.linen as nn
        >>> model, x = nn.Dense(1), jnp.arange(11.0)[:, None]
        >>> variables = {"params": {"kernel": jnp.full((1, 1), 2.0), "bias": jnp.ones(1)}}
        >>> layer_percentiles(model.apply, variables, x, (0, 100))[""].ravel()
        Array([ 1., 21.], dtype=float32)
        >>> model = nnx.Linear(1, 1, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
        >>> layer_percentiles(model, x, (0, 100))[""].ravel()
        Array([ 0., 10.], dtype=float32)
    """
    if isinstance(apply, nnx.Module):
        batch, q = (variables, batch) if variables is not None else (batch, q)
        variables = None
    apply, variables, batch = opened(layer_percentiles, apply, variables, batch)
    q = PAPER_PERCENTILES if q is None else q
    found = layer_values(apply, variables, batch, layers=layers, **mode)
    sides = {name: getattr(values, side) for name, values in found.items()}
    return {name: percentiles(taken, q) for name, taken in sides.items() if taken is not None}


def drift(history: ArrayLike) -> Drift:
    """Returns how far percentiles drift over training.

    The unit of both numbers is the distance between the outermost percentiles, averaged over the
    evaluations, so that a unit with wide inputs may move more: what the next layer has to follow is
    movement against width.

    Args:
        history: [T, Q, ...], percentiles at T evaluations on the same examples, T and Q at least 2.

    Returns:
        A `Drift`. A unit whose percentiles coincide has drift 0 if they stay and infinity if not.

    Raises:
        ValueError: fewer than two evaluations or percentiles.

    Examples:
        >>> moving = jnp.array([[0.0, 4.0], [1.0, 5.0]])
        >>> drift(moving).per_step
        Array([0.25, 0.25], dtype=float32)
    """
    history = jnp.asarray(history)
    if history.ndim < 2 or min(history.shape[:2]) < 2:
        raise ValueError(
            "drift needs the history [T, Q, ...] of at least two evaluations of at least two "
            f"percentiles, got {list(history.shape)}"
        )
    spread = jnp.mean(jnp.max(history, axis=1) - jnp.min(history, axis=1), axis=0)
    change = jnp.mean(jnp.abs(jnp.diff(history, axis=0)), axis=0)
    extent = jnp.max(history, axis=0) - jnp.min(history, axis=0)
    return jax.tree.map(lambda moved: _in_units_of(spread, moved), Drift(change, extent))


def _in_units_of(spread: Array, moved: Array) -> Array:
    return jnp.where(moved == 0, 0, moved / jnp.where(moved == 0, 1, spread))
