"""The variables of an nnx model as nested dictionaries, and a model with other ones."""

from collections.abc import Mapping
from typing import TypeVar

from flax import nnx

from jaxnorm._views import NnxApply
from jaxnorm.typing import PyTree

Model = TypeVar("Model", bound=nnx.Module)


def get_variables(model: nnx.Module) -> dict[str, PyTree]:
    """Returns the variables of an nnx model as linen has them.

    An nnx model whose layers have the names of a linen model has the variables of that one.

    Args:
        model: an nnx model.

    Returns:
        The collections `params`, `batch_stats`, `rngs` (its random streams) and one for each other
        type of variable, as nested dictionaries. A number in a path, of a list, is a string.

    Examples:
        >>> import jaxnorm
        >>> get_variables(jaxnorm.nnx.BatchNorm(1, rngs=nnx.Rngs(0)))["batch_stats"]["var"]
        Array([1.], dtype=float32)
    """
    return NnxApply.of(model)[1]


def with_variables(model: Model, variables: Mapping[str, PyTree]) -> Model:
    """Returns a new nnx model with other variables, such as `state.variables` of a `TrainState`.

    Args:
        model: an nnx model, which stays as it is.
        variables: collections as of `get_variables`, or of a linen model with the same names;
            collections that are not among them are the model's own.

    Returns:
        A model in the modes of the given one.

    Raises:
        ValueError: a collection lacks a variable of the model.

    Examples:
        >>> import jax.numpy as jnp
        >>> variables = {"params": {"scale": jnp.array([2.0]), "bias": jnp.array([1.0])}}
        >>> with_variables(nnx.LayerNorm(1, rngs=nnx.Rngs(0)), variables).scale[...]
        Array([2.], dtype=float32)
    """
    apply, own = NnxApply.of(model)
    return apply.model({**own, **variables})
