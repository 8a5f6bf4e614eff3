"""Running statistics measured anew with the weights as they are."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, overload

import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import unflatten_dict

from jaxnorm._views import Apply, NnxApply, Path, opened
from jaxnorm.stats import Estimator, Moments, cumulative, whole_mean
from jaxnorm.surgery._collect import collect_moments
from jaxnorm.surgery._paths import by_path, path_name
from jaxnorm.typing import Array, AxisName, PyTree

Model = TypeVar("Model", bound=nnx.Module)


@overload
def recalibrate(
    apply: Model,
    batches: Iterable[PyTree],
    /,
    *,
    estimator: Estimator = ...,
    axis_name: AxisName | None = None,
    require_all: bool = True,
) -> Model: ...


@overload
def recalibrate(
    apply: Apply,
    variables: Mapping[str, PyTree],
    batches: Iterable[PyTree],
    *,
    estimator: Estimator = ...,
    axis_name: AxisName | None = None,
    require_all: bool = True,
) -> dict[str, PyTree]: ...


def recalibrate(
    apply: Any,
    variables: Any = None,
    batches: Any = None,
    *,
    estimator: Estimator = cumulative(),
    axis_name: AxisName | None = None,
    require_all: bool = True,
) -> Any:
    """Returns the variables, or the nnx model, with running statistics measured over `batches`.

    A moving average lags behind the weights and remembers its start; this runs the network over
    data with the weights held still and each layer normalizing by its batch. The default pools
    the batches exactly (Wu and Johnson, Rethinking "Batch" in BatchNorm, arXiv:2105.07576, 2021,
    section 3.1); `jaxnorm.surgery.average_of_batches()` is algorithm 2 of Ioffe and Szegedy
    (arXiv:1502.03167, 2015) with its m/(m-1), `jaxnorm.window(n)` the last n batches and
    `jaxnorm.debiased(decay)` a moving average. The old statistics do not enter.

    Args:
        apply: (variables, batch, mutable=[...]) -> (output, updated), with the batch norms in train
            mode, such as `functools.partial(model.apply, train=True)`. Passing the same object
            again avoids compiling again. Or an nnx model, whose norms normalize by their batch
            whatever their mode, all else being in its own; it takes the place of the variables too.
        variables: of a linen model; `params` and `batch_stats`.
        batches: inputs of the model, [N, ...] each; taken one at a time, so it may be a stream. An
            array [steps, N, ...] gives its slices. Each new shape is compiled once.
        estimator: how the moments of the batches become statistics.
        axis_name: mapped axes over which every batch is sharded, in `shard_map` or a named `vmap`.
            Under plain `jit` with sharded arrays the statistics are those of the whole arrays.
        require_all: whether a layer with running statistics that no batch reached is an error;
            else it keeps them, as a frozen layer should.

    Returns:
        The collections of `variables`, with new `batch_stats` of the same structure and dtypes; or
        a new nnx model, in the modes of the given one. Features without a sample keep their old
        statistics.

    Raises:
        TypeError: an argument is missing.
        ValueError: there are no batches, no running statistics, or layers that were not reached.

    Examples:
        >>> import jaxnorm
        >>> model = jaxnorm.linen.BatchNorm(use_running_average=False)
        >>> batches = jnp.array([[[1.0], [3.0]], [[5.0], [7.0]]])
        >>> variables = model.init(jax.random.key(0), batches[0])
        >>> recalibrate(model.apply, variables, batches)["batch_stats"]["var"]
        Array([5.], dtype=float32)
        >>> recalibrate(jaxnorm.nnx.BatchNorm(1, rngs=nnx.Rngs(0)), batches).var[...]
        Array([5.], dtype=float32)
    """
    apply, variables, batches = opened(recalibrate, apply, variables, batches)
    new = _measured(apply, variables, batches, estimator, axis_name, require_all)
    return apply.model(new) if isinstance(apply, NnxApply) else new


def _measured(
    apply: Apply,
    variables: Mapping[str, PyTree],
    batches: Iterable[PyTree],
    estimator: Estimator,
    axis_name: AxisName | None,
    require_all: bool,
) -> dict[str, PyTree]:
    old = by_path(variables.get("batch_stats", {}), keep_empty=True)
    layers = sorted(
        {path[:-1] for path in old if {(*path[:-1], "mean"), (*path[:-1], "var")} <= {*old}}
    )
    if not layers:
        raise ValueError(
            f"the variables have no running statistics: collections {sorted(variables)}; pass "
            "the variables of a model with batch norm, batch_stats among them"
        )
    means = {path: old[(*path, "mean")] for path in layers}
    states = {path: estimator.init(mean.shape, mean.dtype) for path, mean in means.items()}
    # A static argument is hashed, and the hash of a module with a list among its fields fails.
    apply = apply if _is_hashable(apply) else functools.partial(apply)
    taken = 0
    for batch in batches:
        states = _take_in(apply, estimator, axis_name, states, dict(variables), batch)
        taken += 1
    if not taken:
        raise ValueError("recalibrate got no batches; an iterator that was used up has none left")
    missed = [path_name(path) for path in layers if path not in states]
    if missed and (require_all or not states):
        raise ValueError(
            f"{len(missed)} of {len(layers)} layers with running statistics were not reached: "
            f"{', '.join(missed)}; let apply call the model in train mode (use_running_average="
            "False), or pass require_all=False to leave them as they are"
        )
    return {**variables, "batch_stats": unflatten_dict({**old, **_stored(estimator, states, old)})}


def _stored(
    estimator: Estimator, states: Mapping[Path, Any], old: Mapping[Path, Any]
) -> dict[Path, Array]:
    """Returns the readings in the dtypes of the old statistics."""
    new = {}
    for path, state in states.items():
        reading = estimator.read(state)
        mean = whole_mean(reading, old[(*path, "mean")].dtype)
        for name, value in (("mean", mean), ("var", reading.var)):
            before = old[(*path, name)]
            new[(*path, name)] = jnp.where(reading.count > 0, value, before).astype(before.dtype)
    return new


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _take_in(
    apply: Apply,
    estimator: Estimator,
    axis_name: AxisName | None,
    states: dict[Path, Any],
    variables: dict[str, PyTree],
    batch: PyTree,
) -> dict[Path, Any]:
    """Returns the states of the layers that the batch reached, after it."""
    collected = _layers(collect_moments(apply, variables, batch, axis_name=axis_name))
    return {
        path: estimator.update(state, collected[path])
        for path, state in states.items()
        if path in collected
    }


def _layers(collected: PyTree) -> dict[Path, Moments]:
    if isinstance(collected, Moments):
        return {(): collected}
    return by_path(collected)


def _is_hashable(apply: Apply) -> bool:
    try:
        hash(apply)
    except TypeError:
        return False
    return True
