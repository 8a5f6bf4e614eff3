"""The running statistics of several replicas or checkpoints as those of all their examples."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import unflatten_dict

from jaxnorm._views import NnxApply, Path, variables_of
from jaxnorm.stats import Moments, merge, whole_mean
from jaxnorm.surgery._paths import by_path, in_dtypes_of
from jaxnorm.typing import ArrayLike, PyTree

_STATE = "estimator_state"


def merge_statistics(several: Sequence[Any], counts: Sequence[ArrayLike] | None = None) -> Any:
    """Returns the first of several models with the running statistics of all of them.

    Mean and variance become those of the union of the samples (Chan et al., Updating Formulae and a
    Pairwise Algorithm for Computing Sample Variances, 1979), so that the variance holds what lies
    between the means. The state of `jaxnorm.cumulative()` is merged by its own counts, which take
    the place of `counts`. Vectors of spectral norm are the first's.

    Args:
        several: variables of one linen model, or nnx models, of equal structure.
        counts: of the samples behind the statistics of each; None for equally many.

    Returns:
        The first, its `batch_stats` in their old dtypes; of an nnx model a changed copy.

    Raises:
        ValueError: there are none, as many counts as models are missing, structures differ, or a
            norm has a state that counts cannot merge.

    Examples:
        >>> one, other = ({"batch_stats": {"mean": jnp.array([m]), "var": jnp.ones(1)}}
        ...               for m in (0.0, 4.0))
        >>> merge_statistics([one, other], counts=[3, 1])["batch_stats"]
        {'mean': Array([1.], dtype=float32), 'var': Array([4.], dtype=float32)}
    """
    if not several:
        raise ValueError("got no variables to merge; give those of at least one model")
    weights = [1.0] * len(several) if counts is None else list(counts)
    if len(weights) != len(several):
        raise ValueError(
            f"got {len(weights)} counts for {len(several)} models; give one count for each"
        )
    first, back = as_variables(several[0])
    stats = [by_path(variables_of(one).get("batch_stats", {})) for one in several]
    for index, one in enumerate(stats):
        differing = sorted("/".join(path) for path in {*one} ^ {*stats[0]})
        if differing:
            raise ValueError(
                f"the statistics of models 0 and {index} differ in structure at "
                f"{', '.join(differing[:5])}; merge those of one model only"
            )
    return back({**first, "batch_stats": unflatten_dict(_merged(stats, weights))})


def as_variables(model: Any) -> tuple[dict[str, PyTree], Callable[[dict[str, PyTree]], Any]]:
    """Returns the collections of a model, and what makes a model of collections.

    Args:
        model: variables of a linen model, or an nnx model.

    Returns:
        The collections, and a function from collections to what was given.

    Examples:
        >>> variables, back = as_variables(nnx.BatchNorm(2, rngs=nnx.Rngs(0)))
        >>> list(variables["batch_stats"]), type(back(variables)).__name__
        (['mean', 'var'], 'BatchNorm')
    """
    if isinstance(model, nnx.Module):
        apply, variables = NnxApply.of(model)
        return variables, apply.model
    return dict(model), lambda variables: variables


def _merged(stats: list[dict[Path, Any]], weights: Sequence[ArrayLike]) -> dict[Path, Any]:
    merged = dict(stats[0])
    layers = {path[:-1] for path in merged if path[-1] == "mean"}
    for path in merged:
        layer, name = path[:-1], path[-1]
        # A slash is in the names of what kernel norms keep of a kernel.
        known = layer in layers and name in ("mean", "var", _STATE)
        if not known and "/" not in name:
            raise ValueError(
                f"{'/'.join(path)} is a state that cannot be merged by counts; measure the "
                "statistics anew with jaxnorm.surgery.recalibrate"
            )
    for layer in layers:
        merged |= _merged_layer(layer, stats, weights)
    return {path: in_dtypes_of(stats[0][path], value) for path, value in merged.items()}


def _merged_layer(
    layer: Path, stats: list[dict[Path, Any]], weights: Sequence[ArrayLike]
) -> dict[Path, Any]:
    mean, var, state = ((*layer, name) for name in ("mean", "var", _STATE))
    if state not in stats[0]:
        parts = [
            Moments(one[mean], one[var], jnp.full(one[var].shape, weight, one[var].dtype))
            for one, weight in zip(stats, weights, strict=True)
        ]
        union = functools.reduce(merge, parts)
        return {mean: whole_mean(union), var: union.var}
    if not isinstance(stats[0][state], Moments):
        raise ValueError(
            f"{'/'.join(state)} is a {type(stats[0][state]).__name__}, which cannot be merged by "
            "counts, as the state of jaxnorm.cumulative() can; measure the statistics anew with "
            "jaxnorm.surgery.recalibrate"
        )
    union = functools.reduce(merge, [one[state] for one in stats])
    seen = union.count > 0
    return {
        state: union,
        mean: whole_mean(union),
        var: jnp.where(seen, union.var, stats[0][var]),
    }
