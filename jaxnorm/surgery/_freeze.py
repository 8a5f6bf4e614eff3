"""Norms that training leaves alone: their statistics and their scales and biases."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, overload

import flax.linen as nn
import optax
from flax import nnx

from jaxnorm._views import Path, modules_of
from jaxnorm.surgery._batch_norms import SWITCH, keeps_statistics, without_switch
from jaxnorm.surgery._chosen import Chosen, Where
from jaxnorm.surgery._intercepted import remade
from jaxnorm.surgery._labels import labels_by_path, labels_like
from jaxnorm.typing import PyTree


class Frozen(NamedTuple):
    """A model and an optimizer that leave norms as they are.

    Examples:
        >>> Frozen(nn.Dense(1), optax.sgd(0.1)).model.features
        1
    """

    model: Any  # of the same variables; its norms use and keep their running statistics
    tx: optax.GradientTransformation  # updates every parameter but those of norms


@overload
def freeze(
    model: nnx.Module, tx: optax.GradientTransformation, /, *, where: Where | None = None
) -> Frozen: ...


@overload
def freeze(
    model: nn.Module,
    tx: optax.GradientTransformation,
    variables: Mapping[str, PyTree],
    *,
    where: Where | None = None,
) -> Frozen: ...


def freeze(
    model: Any,
    tx: optax.GradientTransformation,
    variables: Mapping[str, PyTree] | None = None,
    *,
    where: Where | None = None,
) -> Frozen:
    """Returns the model and the optimizer for training on with norms as they are.

    Both halves are needed: an optimizer that skips scale and bias does not keep the running
    statistics from moving, nor the batch's own statistics from normalizing.

    Args:
        model: a linen module or an nnx model.
        tx: the optimizer.
        variables: of a linen model, `params` and `batch_stats`, by whose structure norms are told.
        where: the norms that are frozen, as of `freeze_statistics`; None for all.

    Returns:
        A `Frozen` pair, to be used in the place of the given ones. The optimizer has a new state;
        it serves `TrainState` and `nnx.Optimizer(model, tx, wrt=nnx.Param)` alike.

    Raises:
        TypeError: there are no variables of a linen model.
        ValueError: `where` means no norm.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnorm.linen import LayerNorm
        >>> variables = LayerNorm().init(jax.random.key(0), jnp.ones((1, 2)))
        >>> model, tx = freeze(LayerNorm(), optax.sgd(0.1), variables)
        >>> params = variables["params"]
        >>> tx.update(params, tx.init(params), params)[0]["scale"]
        Array([0., 0.], dtype=float32)
        >>> freeze(nnx.LayerNorm(2, rngs=nnx.Rngs(0)), optax.sgd(0.1)).model.scale[...]
        Array([1., 1.], dtype=float32)
    """
    if variables is None and not isinstance(model, nnx.Module):
        raise TypeError(
            f"freeze of a linen model takes its variables, got none for {type(model).__name__}"
        )
    labels = labels_by_path(model if variables is None else variables)
    norms, chosen = {path for path, label in labels.items() if label == "norm"}, Chosen.of(where)
    still = {path for path in norms if chosen.means(path[:-1])}
    if where is not None and not still:
        found = sorted({"/".join(path[:-1]) for path in norms})
        raise ValueError(
            f"where={where!r} means no norm with parameters; these are there: {', '.join(found)}"
        )
    # Biases and weights stay together: tx may look at all of them, as clipping by their norm does.
    parts = {path: "norm" if path in still else "other" for path in labels}
    like = functools.partial(labels_like, parts)
    tx = optax.multi_transform({"norm": optax.set_to_zero(), "other": tx}, like)
    return Frozen(_with_statistics_frozen(model, chosen)[0], tx)


Model = TypeVar("Model", nn.Module, nnx.Module)


def freeze_statistics(model: Model, where: Where | None = None) -> Model:
    """Returns the model with norms using their running statistics, also in training.

    Norms are Flax's batch norm and all of ours that keep running statistics. All other layers stay
    in the mode that the call asks for: dropout goes on in training. The variables, their paths and
    the signature of the call stay as they are.

    Args:
        model: a linen module or an nnx model.
        where: the norms that are frozen: paths such as "block_0/norm_1", of norms or of modules
            that hold them, or a predicate of the path; None for all. A model that was frozen in
            part can be frozen further.

    Returns:
        A linen module of a subclass of the model's class; equal models give equal frozen models. Or
        a copy of the nnx model whose norms are of subclasses of their classes and stay frozen under
        `train()`. A frozen model can be pickled and copied where the model can.

    Raises:
        ValueError: `where` means no norm of an nnx model. A linen model shows its norms only when
            it is called, so there `where` is not looked at.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnorm.linen import BatchNorm
        >>> model = BatchNorm(use_running_average=False)
        >>> variables = model.init(jax.random.key(0), jnp.ones((2, 1)))
        >>> y = freeze_statistics(model).apply(variables, jnp.array([[1.0], [3.0]]))
        >>> y.round(2).ravel()
        Array([1., 3.], dtype=float32)
        >>> import jaxnorm
        >>> norm = freeze_statistics(jaxnorm.nnx.BatchNorm(1, rngs=nnx.Rngs(0)))
        >>> norm(jnp.array([[1.0], [3.0]])).round(2).ravel()
        Array([1., 3.], dtype=float32)
    """
    chosen = Chosen.of(where)
    frozen, norms = _with_statistics_frozen(model, chosen)
    if where is not None and norms is not None and not any(map(chosen.means, norms)):
        found = ", ".join(sorted(map("/".join, norms)))
        raise ValueError(
            f"where={where!r} means no norm with running statistics; these are there: {found}"
        )
    return frozen


def _with_statistics_frozen(model: Any, chosen: Chosen) -> tuple[Any, list[Path] | None]:
    """Returns the frozen model, and where an nnx model has norms with running statistics."""
    if isinstance(model, nnx.Module):
        model = nnx.clone(model)
        norms = {path: each for path, each in modules_of(model) if keeps_statistics(type(each))}
        for path, module in norms.items():
            if chosen.means(path) and not hasattr(module, _ORIGINAL):
                module.__class__ = _still_kind(type(module))
        return model, list(norms)
    if hasattr(model, _ORIGINAL):  # what is frozen stays so
        chosen = chosen.also(getattr(model, _CHOSEN))
    return remade(model, _frozen_kind(getattr(model, _ORIGINAL, type(model)), chosen)), None


_ORIGINAL = "_jaxnorm_original"
"""The attribute by which a frozen class names the class that it was made of."""

_CHOSEN = "_jaxnorm_chosen"
"""The attribute by which a frozen linen class says which of its norms are frozen."""


@functools.cache
def _frozen_kind(kind: type[nn.Module], chosen: Chosen) -> type[nn.Module]:
    """Returns the subclass of a module's class whose calls freeze statistics, always the same."""

    # `updated=()` leaves out the marks of Flax's wrapper: Flax does not wrap a marked method.
    @functools.wraps(kind.__call__, updated=())
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        read = functools.partial(_read_running_statistics, chosen, len(self.path))
        with nn.intercept_methods(read):
            return kind.__call__(self, *args, **kwargs)

    @nn.nowrap
    def reduce(self: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # The name of this class leads to the original one, so pickle takes the original model.
        return freeze_statistics, (remade(self, kind), chosen.several)

    members = {"__call__": call, "__reduce__": reduce, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), {**members, _ORIGINAL: kind, _CHOSEN: chosen})


def _read_running_statistics(
    chosen: Chosen,
    start: int,
    next_fun: Callable[..., Any],
    args: Any,
    kwargs: Any,
    context: Any,
) -> Any:
    module = context.module
    told = context.method_name == "__call__" and keeps_statistics(type(module))
    told = told and chosen.means(module.path[start:])
    if not told or module.is_initializing():
        return next_fun(*args, **kwargs)
    keywords = without_switch(type(module), args, kwargs)
    if module.use_running_average:
        return next_fun(**keywords)
    # A copy on the same variables: the fields of a bound module cannot be set.
    return module.clone(parent=module.scope, use_running_average=True)(**keywords)


@functools.cache
def _still_kind(kind: type) -> type:
    """Returns the subclass of an nnx norm's class that keeps its statistics, always the same."""

    @functools.wraps(kind.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return kind.__call__(self, **without_switch(kind, args, kwargs))

    def reduce(self: Any, protocol: Any) -> tuple[Any, ...]:
        # The name of this class leads to the original one, by which pickle finds this.
        return _still, (kind, vars(self).copy())

    members = {"__call__": call, "__reduce_ex__": reduce, "__module__": kind.__module__}
    switches = {SWITCH: _fixed(SWITCH, True), "update_stats": _fixed("update_stats", False)}
    return type(kind)(kind.__name__, (kind,), {**members, **switches, _ORIGINAL: kind})


def _still(kind: type, attributes: dict[str, Any]) -> Any:
    norm = object.__new__(_still_kind(kind))
    vars(norm).update(attributes)
    return norm


def _fixed(name: str, value: bool) -> property:
    """Returns an attribute that reads as `value`, whatever `train()` sets."""
    return property(lambda self: value, lambda self, given: vars(self).update({name: given}))
