"""Averages of the weights of several checkpoints, with statistics that fit them."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm._views import Apply
from jaxnorm.numerics import accumulation_dtype
from jaxnorm.stats import Estimator, cumulative
from jaxnorm.surgery._merge import as_variables
from jaxnorm.surgery._recalibrate import recalibrate
from jaxnorm.typing import ArrayLike, AxisName, PyTree


def average_weights(
    checkpoints: Iterable[Any],
    *,
    weights: Sequence[ArrayLike] | None = None,
    decay: float | None = None,
) -> Any:
    """Returns the last of several checkpoints with the average of all their parameters.

    By default every checkpoint weighs the same (stochastic weight averaging: Izmailov et al.,
    Averaging Weights Leads to Wider Optima, arXiv:1803.05407, 2018). The sum is taken in float32 or
    wider. Running statistics are the last's and do not fit the new weights: see `interpolate`.

    Args:
        checkpoints: variables of a linen model, or nnx models, of equal structure; taken one at a
            time, so they may be read one by one.
        weights: one for each, divided by their sum; (1 - t, t) goes from one model to another.
        decay: of an exponential moving average that starts at the first checkpoint, in the place of
            weights; it weighs the average so far.

    Returns:
        The last checkpoint with other parameters in their old dtypes; of an nnx model a copy.

    Raises:
        ValueError: no checkpoints, not one weight for each, both weights and decay, or a decay
            outside [0, 1].

    Examples:
        >>> one, other = ({"params": {"kernel": jnp.array([w])}} for w in (1.0, 5.0))
        >>> average_weights([one, other], weights=(0.75, 0.25))["params"]["kernel"]
        Array([2.], dtype=float32)
    """
    if weights is not None and decay is not None:
        raise ValueError("got both weights and decay; give one of them")
    if decay is not None and not 0 <= decay <= 1:
        raise ValueError(f"decay={decay} must be from 0 to 1: it weighs the average so far")
    given = None if weights is None else iter(weights)
    total: Any = 0.0
    average: PyTree = None
    last, back, count = {}, None, 0
    for checkpoint in checkpoints:
        last, back = as_variables(checkpoint)
        count += 1
        weight = 1.0 if given is None else next(given, None)
        if weight is None:
            raise ValueError(f"got {count - 1} weights for more checkpoints; give one for each")
        if decay is None:
            total = total + weight
            # The share of the newest; where all weights so far are zero, the sum is kept at zero.
            share = weight / jnp.where(total == 0, 1, total)
        else:
            share = 1.0 if average is None else 1 - decay
        average = _moved(average, last["params"], share)
    if back is None:
        raise ValueError("got no checkpoints; an iterator that was used up has none left")
    if given is not None and next(given, None) is not None:
        raise ValueError(f"got {count} checkpoints for more weights; give one for each")
    as_before = jax.tree.map(lambda new, old: new.astype(old.dtype), average, last["params"])
    return back({**last, "params": as_before})


def interpolate(
    checkpoints: Iterable[Any],
    batches: Iterable[PyTree],
    *,
    apply: Apply | None = None,
    weights: Sequence[ArrayLike] | None = None,
    decay: float | None = None,
    estimator: Estimator = cumulative(),
    axis_name: AxisName | None = None,
    require_all: bool = True,
) -> Any:
    """Returns the average of the weights of several checkpoints, with statistics measured anew.

    The statistics of no checkpoint fit averaged weights (Izmailov et al., arXiv:1803.05407, 2018,
    section 3.2), so this is `average_weights` followed by `recalibrate`.

    Args:
        checkpoints: variables of a linen model, or nnx models; see `average_weights`.
        batches: inputs of the model; see `recalibrate`.
        apply: of a linen model, with the batch norms in train mode, such as
            `functools.partial(model.apply, train=True)`; nnx models are called by themselves.
        weights: one for each checkpoint; None for the same.
        decay: of an exponential moving average in the place of weights.
        estimator: how the moments of the batches become statistics.
        axis_name: mapped axes over which every batch is sharded.
        require_all: whether a layer that no batch reached is an error.

    Returns:
        Variables, or an nnx model in the modes of the last.

    Raises:
        ValueError: what `average_weights` and `recalibrate` raise.
        TypeError: variables without `apply`, or nnx models with it.

    Examples:
        >>> from jaxnorm.linen import BatchNorm
        >>> model, x = BatchNorm(use_running_average=False), jnp.array([[[1.0], [3.0]]])
        >>> several = [model.init(jax.random.key(i), x[0]) for i in (0, 1)]
        >>> interpolate(several, x, apply=model.apply)["batch_stats"]["mean"]
        Array([2.], dtype=float32)
    """
    averaged = average_weights(checkpoints, weights=weights, decay=decay)
    options: Any = {"estimator": estimator, "axis_name": axis_name, "require_all": require_all}
    is_nnx = not isinstance(averaged, dict)
    if is_nnx == (apply is not None):
        raise TypeError(
            "nnx models are called by themselves: leave out apply"
            if is_nnx
            else "got variables of a linen model and no apply; give apply=model.apply"
        )
    if apply is None:
        return recalibrate(averaged, batches, **options)
    return recalibrate(apply, averaged, batches, **options)


def _moved(average: PyTree, new: PyTree, share: ArrayLike) -> PyTree:
    def moved(old: Any, value: Any) -> Any:
        wide = value.astype(accumulation_dtype(value.dtype))
        return old + share * (wide - old)

    if average is None:
        average = jax.tree.map(lambda v: jnp.zeros(v.shape, accumulation_dtype(v.dtype)), new)
    return jax.tree.map(moved, average, new)
