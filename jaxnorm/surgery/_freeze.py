"""Norms that training leaves alone: their statistics and their scales and biases."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import optax

from jaxnorm.surgery._batch_norms import BATCH_NORMS
from jaxnorm.surgery._labels import norm_param_labels
from jaxnorm.typing import PyTree


class Frozen(NamedTuple):
    """A model and an optimizer that leave norms as they are.

    Examples:
        >>> Frozen(nn.Dense(1), optax.sgd(0.1)).model.features
        1
    """

    model: nn.Module  # the same variables; batch norms use and keep their running statistics
    tx: optax.GradientTransformation  # updates every parameter but those of norms


def freeze(
    model: nn.Module, tx: optax.GradientTransformation, variables: Mapping[str, PyTree]
) -> Frozen:
    """Returns the model and the optimizer for training on with every norm as it is.

    Both halves are needed: an optimizer that skips scale and bias does not keep the running
    statistics from moving, nor the batch's own statistics from normalizing.

    Args:
        model: a linen module.
        tx: the optimizer.
        variables: the model's, `params` and `batch_stats`, by whose structure norms are told.

    Returns:
        A `Frozen` pair, to be used in the place of the given ones. The optimizer has a new state.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxnorm.linen import LayerNorm
        >>> variables = LayerNorm().init(jax.random.key(0), jnp.ones((1, 2)))
        >>> model, tx = freeze(LayerNorm(), optax.sgd(0.1), variables)
        >>> params = variables["params"]
        >>> tx.update(params, tx.init(params), params)[0]["scale"]
        Array([0., 0.], dtype=float32)
    """
    labels = norm_param_labels(variables["params"], variables.get("batch_stats"))
    # Biases and weights stay together: tx may look at all of them, as clipping by their norm does.
    parts = jax.tree.map(lambda label: "norm" if label == "norm" else "other", labels)
    tx = optax.multi_transform({"norm": optax.set_to_zero(), "other": tx}, parts)
    return Frozen(freeze_statistics(model), tx)


def freeze_statistics(model: nn.Module) -> nn.Module:
    """Returns the model with every batch norm using its running statistics, also in training.

    All other layers stay in the mode that the call asks for: dropout goes on in training. The
    variables, their paths and the signature of the call stay as they are.

    Args:
        model: a linen module.

    Returns:
        A module of a subclass of the model's class. Equal models give equal frozen models, and a
        frozen model can be pickled and copied where the model can.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxnorm.linen import BatchNorm
        >>> model = BatchNorm(use_running_average=False)
        >>> variables = model.init(jax.random.key(0), jnp.ones((2, 1)))
        >>> y = freeze_statistics(model).apply(variables, jnp.array([[1.0], [3.0]]))
        >>> y.round(2).ravel()
        Array([1., 3.], dtype=float32)
    """
    if hasattr(model, _ORIGINAL):
        return model
    return _remade(model, _frozen_kind(type(model)))


_ORIGINAL = "_jaxnorm_original"
"""The attribute by which a frozen class names the class that it was made of."""


@functools.cache
def _frozen_kind(kind: type[nn.Module]) -> type[nn.Module]:
    """Returns the subclass of a module's class whose calls freeze statistics, always the same."""

    # `updated=()` leaves out the marks of Flax's wrapper: Flax does not wrap a marked method.
    @functools.wraps(kind.__call__, updated=())
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with nn.intercept_methods(_read_running_statistics):
            return kind.__call__(self, *args, **kwargs)

    @nn.nowrap
    def reduce(self: Any) -> tuple[Callable[..., Any], tuple[nn.Module]]:
        # The name of this class leads to the original one, so pickle takes the original model.
        return freeze_statistics, (_remade(self, kind),)

    members = {"__call__": call, "__reduce__": reduce, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), {**members, _ORIGINAL: kind})


def _remade(model: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """Returns an unbound module of another class with the same fields."""
    fields = [f.name for f in dataclasses.fields(model) if f.init and f.name != "parent"]
    return kind(**{name: getattr(model, name) for name in fields})


def _read_running_statistics(
    next_fun: Callable[..., Any], args: Any, kwargs: Any, context: Any
) -> Any:
    module = context.module
    told = context.method_name == "__call__" and isinstance(module, BATCH_NORMS)
    if not told or module.is_initializing():
        return next_fun(*args, **kwargs)
    keywords = {name: v for name, v in kwargs.items() if name != "use_running_average"}
    if module.use_running_average:
        return next_fun(*args[:1], **keywords)
    # A copy on the same variables: the fields of a bound module cannot be set.
    still = module.clone(parent=module.scope, use_running_average=True)
    return still(*args[:1], **keywords)
