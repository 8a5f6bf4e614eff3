"""How far apart two sets of running statistics are."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx

from jaxnorm._views import variables_of
from jaxnorm.typing import Array, PyTree


class StatisticsDistance(NamedTuple):
    """The distance between the statistics of a layer, the same in both directions.

    Examples:
        >>> StatisticsDistance(jnp.zeros(()), jnp.ones(())).log_ratio
        Array(1., dtype=float32)
    """

    shift: Array  # [], difference of the means in standard deviations
    log_ratio: Array  # [], natural logarithm of the ratio of the variances, without its sign


def statistics_distance(
    first: PyTree, second: PyTree, *, epsilon: float = 0.0
) -> dict[str, StatisticsDistance]:
    """Returns how far apart running and population statistics are in each layer.

    Root mean squares over a layer's features of `(mean_1 - mean_2) / sqrt((var_1 + var_2) / 2)`
    and `log(var_1 / var_2)`: symmetric, and unchanged where a layer's values are scaled.

    Args:
        first: `batch_stats`, nested dictionaries that end in `{"mean": [*features], "var":
            [*features]}`; or an nnx model.
        second: the same, for example of `jaxnorm.surgery.recalibrate`.
        epsilon: added to the variances first; the norm's own makes it the distance that the norm
            sees, where features that hardly vary do not count.

    Returns:
        Distances by path. A feature that both find constant has the log ratio 0.

    Raises:
        ValueError: a layer is missing on one side.

    Examples:
        >>> first = {"norm": {"mean": jnp.array([0.0]), "var": jnp.array([1.0])}}
        >>> second = {"norm": {"mean": jnp.array([0.5]), "var": jnp.array([1.0])}}
        >>> statistics_distance(first, second)["norm"].shift
        Array(0.5, dtype=float32)
    """
    ours, theirs = (_layers(_statistics(side), ()) for side in (first, second))
    if ours.keys() != theirs.keys():
        raise ValueError(
            f"the statistics are of different layers: {sorted(ours.keys() ^ theirs.keys())} on one "
            "side only; pass the batch_stats of the same model"
        )
    return {path: _distance(stats, theirs[path], epsilon) for path, stats in ours.items()}


def _statistics(given: Any) -> Any:
    return variables_of(given).get("batch_stats", {}) if isinstance(given, nnx.Module) else given


def _layers(stats: Any, path: tuple[str, ...]) -> dict[str, Any]:
    if {"mean", "var"} <= set(stats) and not isinstance(stats["mean"], Mapping):
        return {"/".join(path): stats}
    nested = {name: below for name, below in stats.items() if isinstance(below, Mapping)}
    return {
        name: layer
        for key, below in nested.items()
        for name, layer in _layers(below, (*path, key)).items()
    }


def _distance(
    first: Mapping[str, Array], second: Mapping[str, Array], epsilon: float
) -> StatisticsDistance:
    var_1, var_2 = first["var"] + epsilon, second["var"] + epsilon
    apart = jnp.abs(first["mean"] - second["mean"])
    same = apart == 0
    shift = jnp.where(same, 0, apart / jnp.sqrt(jnp.where(same, 1, (var_1 + var_2) / 2)))
    equal = var_1 == var_2
    ratio = jnp.where(equal, 0, jnp.log(var_1) - jnp.log(var_2))
    return StatisticsDistance(_root_mean_square(shift), _root_mean_square(ratio))


def _root_mean_square(values: Array) -> Array:
    return jnp.sqrt(jnp.mean(values**2))
