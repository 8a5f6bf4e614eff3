"""What a public function is given, a linen call with variables or an nnx model, as one thing."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
from flax import nnx

from jaxnorm._views._nnx import NnxApply, takes_train
from jaxnorm.typing import PyTree

Apply = Callable[..., Any]
"""(variables, batch, mutable=[...], **mode) -> (output, updated variables), as `model.apply`."""


def opened(function: Callable[..., Any], model: Any, *given: Any) -> tuple[Any, ...]:
    """Returns (apply, variables, *others) of either form of a function's first arguments.

    Args:
        function: the public function, whose signature names what is missing.
        model: an `Apply`, or an nnx model, which also takes the place of the variables.
        *given: the variables and the other arguments by place; those left out are None and last.

    Raises:
        TypeError: an argument is missing, or a linen module stands for its `apply`.
    """
    if isinstance(model, nnx.Module):
        others = [one for one in given if one is not None]
        places = list(inspect.signature(function).parameters)[2 : len(given) + 1]
        if len(others) != len(places):
            raise TypeError(
                f"{function.__name__} of an nnx model takes the model and {', '.join(places)}, got "
                f"{len(others)} arguments beside the model; an nnx model holds its variables"
            )
        return (*NnxApply.of(model), *others)
    names = list(inspect.signature(function).parameters)[1 : len(given) + 1]
    missing = [name for name, one in zip(names, given, strict=True) if one is None]
    if missing or not callable(model) or isinstance(model, nn.Module):
        wrong = f"no {', '.join(missing)}" if missing else type(model).__name__
        raise TypeError(
            f"{function.__name__} takes an nnx model, or a call such as `model.apply` and the "
            f"variables of a linen model, got {wrong}"
        )
    return (model, *given)


def variables_of(model: Any) -> Any:
    """Returns the collections of an nnx model; anything else as it is."""
    return NnxApply.of(model)[1] if isinstance(model, nnx.Module) else model


def train_apply(model: nn.Module | nnx.Module) -> Apply:
    """Returns the call of a model as a function of its variables that takes `train`.

    A linen module gets `train` where its call takes that argument.

    Raises:
        TypeError: the model is of neither kind.
    """
    if isinstance(model, nnx.Module):
        return NnxApply.of(model)[0]
    if not isinstance(model, nn.Module):
        shown = model.__name__ if isinstance(model, type) else type(model).__name__
        what = f"the class {shown}; make an instance of it" if isinstance(model, type) else shown
        raise TypeError(f"a step needs a linen module or an nnx model, got {what}")
    return functools.partial(_apply_linen, model)


def _apply_linen(
    model: nn.Module, variables: PyTree, *args: Any, train: bool, **kwargs: Any
) -> Any:
    mode = {"train": train} if takes_train(type(model)) else {}
    return model.apply(variables, *args, **mode, **kwargs)
