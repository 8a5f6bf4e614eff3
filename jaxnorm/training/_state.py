"""The state of a training run as one pytree."""

import functools
import inspect
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.core import DenyList

from jaxnorm.typing import Array, PyTree


class TrainState(NamedTuple):
    """Everything that training changes, as one pytree of arrays.

    The random numbers and the order of the data are functions of `(rng, step)`, so that a restored
    state continues exactly as the saved one would have, and states stack (`jax.vmap` over seeds).

    Examples:
        >>> import jax.numpy as jnp
        >>> zero = jnp.zeros((), jnp.int32)
        >>> state = TrainState(zero, {"w": jnp.ones(2)}, {}, (), jax.random.key(0), zero)
        >>> sorted(state.variables)
        ['params']
    """

    step: Array  # [], int32, batches consumed so far
    params: PyTree  # the trainable parameters
    batch_stats: PyTree  # the running statistics of the norms; an empty dictionary without any
    opt_state: PyTree  # the state of the optax transformation
    rng: Array  # [], the typed key behind all random numbers of the run; it never changes
    skipped: Array  # [], int32, batches whose update was refused because it was not finite

    @property
    def variables(self) -> dict[str, PyTree]:
        """The variables for `model.apply`.

        Returns:
            A dictionary of `params` and, where the model has any, `batch_stats`.

        Examples:
            >>> zero = jnp.zeros((), jnp.int32)
            >>> state = TrainState(zero, {}, {"mean": zero}, (), jax.random.key(0), zero)
            >>> sorted(state.variables)
            ['batch_stats', 'params']
        """
        return join_variables(self.params, self.batch_stats)


def join_variables(params: PyTree, batch_stats: PyTree) -> dict[str, PyTree]:
    """Returns the variables of a model from their two parts.

    Args:
        params: the trainable parameters.
        batch_stats: the running statistics; empty where the model has none.

    Returns:
        A dictionary of the collections that are not empty, `params` always among them.

    Examples:
        >>> join_variables({"w": 1.0}, {})
        {'params': {'w': 1.0}}
    """
    if not jax.tree.leaves(batch_stats):
        return {"params": params}
    return {"params": params, "batch_stats": batch_stats}


def create_train_state(
    model: nn.Module,
    rng: Array,
    sample_input: Any,
    tx: optax.GradientTransformation,
) -> TrainState:
    """Returns the state of a fresh run: initialized parameters and statistics, step zero.

    Under `jax.vmap` over `rng` it returns the stacked states of several seeds.

    Args:
        model: a linen module.
        rng: [], a key of `jax.random.key` or `jax.random.PRNGKey`.
        sample_input: an input of the model, [N, ...], such as a batch of one.
        tx: the optimizer.

    Returns:
        A `TrainState`, no two arrays of which share a buffer, nor with `rng`.

    Raises:
        ValueError: the model has variables other than parameters and running statistics.

    Examples:
        >>> model = nn.Dense(3)
        >>> state = create_train_state(model, jax.random.key(0), jnp.ones((1, 2)), optax.sgd(0.1))
        >>> state.params["kernel"].shape, state.batch_stats, int(state.step)
        ((2, 3), {}, 0)
    """
    if not jnp.issubdtype(rng.dtype, jax.dtypes.prng_key):
        rng = jax.random.wrap_key_data(rng)
    init_key, run_key = jax.random.split(rng)
    initialize = functools.partial(
        model.init,
        mutable=DenyList(("intermediates", "batch_moments")),
        **mode(model, train=False),
    )
    variables = jax.jit(initialize)(init_key, sample_input)
    others = sorted(set(variables) - {"params", "batch_stats"})
    if others:
        raise ValueError(
            f"{type(model).__name__} has variables in {others}, but TrainState carries only params "
            "and batch_stats; keep such state in batch_stats, or write a train step of your own"
        )
    params = variables.get("params", {})
    # Some optimizers keep the parameters themselves, and a buffer cannot be donated twice.
    opt_state = jax.tree.map(jnp.copy, tx.init(params))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=opt_state,
        rng=run_key,
        skipped=jnp.zeros((), jnp.int32),
    )


def mode(model: nn.Module, *, train: bool) -> dict[str, Any]:
    """Returns the keyword that puts a call of `model` into train or eval mode.

    Args:
        model: a linen module.
        train: the mode.

    Returns:
        `{"train": train}` where the module's call takes `train`, else an empty dictionary.

    Examples:
        >>> mode(nn.Dense(3), train=True)
        {}
    """
    takes_train = "train" in inspect.signature(type(model).__call__).parameters
    return {"train": train} if takes_train else {}
