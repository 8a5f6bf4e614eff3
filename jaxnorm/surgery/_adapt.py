"""Statistics of the domain that a trained network meets."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, overload

import jax
from flax import nnx
from flax.traverse_util import unflatten_dict

from jaxnorm._views import Apply, NnxApply, opened, variables_of
from jaxnorm.stats import Estimator, cumulative
from jaxnorm.surgery._mixing import Mixing, mixture
from jaxnorm.surgery._paths import by_path
from jaxnorm.surgery._recalibrate import recalibrate
from jaxnorm.typing import Array, AxisName, PyTree

Model = TypeVar("Model", bound=nnx.Module)


@overload
def adapt_statistics(
    apply: Model,
    batches: Iterable[PyTree],
    /,
    *,
    prior_count: float = 0.0,
    estimator: Estimator = ...,
    axis_name: AxisName | None = None,
    require_all: bool = True,
) -> Model: ...


@overload
def adapt_statistics(
    apply: Apply,
    variables: Mapping[str, PyTree],
    batches: Iterable[PyTree],
    *,
    prior_count: float = 0.0,
    estimator: Estimator = ...,
    axis_name: AxisName | None = None,
    require_all: bool = True,
) -> dict[str, PyTree]: ...


def adapt_statistics(
    apply: Any,
    variables: Any = None,
    batches: Any = None,
    *,
    prior_count: float = 0.0,
    estimator: Estimator = cumulative(),
    axis_name: AxisName | None = None,
    require_all: bool = True,
) -> Any:
    """Returns the variables, or the nnx model, with statistics of another domain, without labels.

    By default the statistics are those of the target alone (AdaBN: Li et al., Revisiting Batch
    Normalization For Practical Domain Adaptation, arXiv:1603.04779, 2016; Nado et al., Evaluating
    Prediction-Time Batch Normalization, arXiv:2006.10963, 2020). Few examples measure them badly:
    then `N / (N + n) * source + n / (N + n) * target`, of the means and of the variances, with the
    n examples of the target and N of `prior_count`, is better (Schneider et al., Improving
    robustness against common corruptions by covariate shift adaptation, arXiv:2006.16971, 2020,
    section 3).

    Args:
        apply: of a linen model with the batch norms in train mode, or an nnx model, which takes the
            place of the variables too; see `recalibrate`.
        variables: of a linen model, with the statistics of the source.
        batches: inputs of the target, [N, ...] each; see `recalibrate`.
        prior_count: as how many examples of the target the source's statistics count, N.
        estimator: how the moments of the batches become the target's statistics.
        axis_name: mapped axes over which every batch is sharded.
        require_all: whether a layer that no batch reached is an error.

    Returns:
        The collections of `variables` with new `batch_stats`, or a new nnx model.

    Raises:
        ValueError: `prior_count` is negative, or what `recalibrate` raises.

    Examples:
        >>> import jaxnorm, jax.numpy as jnp
        >>> model = jaxnorm.nnx.BatchNorm(1, rngs=nnx.Rngs(0))
        >>> target = jnp.array([[[4.0], [8.0]]])  # one batch of two examples
        >>> adapt_statistics(model, target).mean[...]
        Array([6.], dtype=float32)
        >>> adapt_statistics(model, target, prior_count=4).mean[...]
        Array([2.], dtype=float32)

    Notes:
        While the target is measured, each layer normalizes by the mixture for the batch at hand. Of
        one batch the result is what these layers used, as in the paper.
    """
    if prior_count < 0:
        raise ValueError(f"prior_count={prior_count} must not be negative: it counts examples")
    call, source, batches = opened(adapt_statistics, apply, variables, batches)
    train = call.in_batch_mode() if isinstance(call, NnxApply) else call
    seen: list[int] = []
    measured = recalibrate(
        Mixing(train, float(prior_count)) if prior_count else train,
        source,
        _counted(batches, seen),
        estimator=estimator,
        axis_name=axis_name,
        require_all=require_all,
    )
    target = variables_of(measured)
    examples: Any = sum(seen)
    if axis_name is not None:
        examples = examples * jax.lax.axis_size(axis_name)
    mixed = _mixed(source, target, examples / (prior_count + examples))
    return call.model(mixed) if isinstance(call, NnxApply) else mixed


def _counted(batches: Iterable[PyTree], seen: list[int]) -> Iterator[PyTree]:
    for batch in batches:
        seen.append(jax.tree.leaves(batch)[0].shape[0])
        yield batch


def _mixed(source: Mapping[str, PyTree], target: Mapping[str, PyTree], share: Any) -> Any:
    old, new = (by_path(v["batch_stats"], keep_empty=True) for v in (source, target))

    def mix(path: tuple[str, ...]) -> Array:
        if path[-1] not in ("mean", "var"):
            return new[path]
        return mixture(old[path], new[path], share)

    return {**target, "batch_stats": unflatten_dict({path: mix(path) for path in new})}
