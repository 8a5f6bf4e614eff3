"""The state of a training run as one pytree."""

import functools
from typing import Any, NamedTuple, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from flax.core import DenyList

from jaxnorm._views import takes_train, variables_of
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


@overload
def create_train_state(
    model: nnx.Module, rng: Array, tx: optax.GradientTransformation, /
) -> TrainState: ...


@overload
def create_train_state(
    model: nn.Module, rng: Array, sample_input: Any, tx: optax.GradientTransformation
) -> TrainState: ...


def create_train_state(
    model: Any, rng: Array, sample_input: Any = None, tx: Any = None
) -> TrainState:
    """Returns the state of a fresh run: parameters and statistics, step zero.

    A linen model is initialized; under `jax.vmap` over `rng` that gives the stacked states of
    several seeds. The variables of an nnx model are taken as they are, under the names of its
    attributes; `jaxnorm.surgery.with_variables(model, state.variables)` gives a model back.

    Args:
        model: a linen module, or an nnx model, which is followed by `rng` and `tx` only.
        rng: [], a key of `jax.random.key` or `jax.random.PRNGKey`.
        sample_input: an input of a linen model, [N, ...], such as a batch of one.
        tx: the optimizer.

    Returns:
        A `TrainState`, no two arrays of which share a buffer, nor with `rng` or the nnx model.

    Raises:
        TypeError: there is no sample input or no optimizer, or an nnx model comes with an input.
        ValueError: the model has variables other than parameters and running statistics.

    Examples:
        >>> model = nn.Dense(3)
        >>> state = create_train_state(model, jax.random.key(0), jnp.ones((1, 2)), optax.sgd(0.1))
        >>> state.params["kernel"].shape, state.batch_stats, int(state.step)
        ((2, 3), {}, 0)
        >>> model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
        >>> create_train_state(model, jax.random.key(0), optax.sgd(0.1)).params["kernel"].shape
        (2, 3)
    """
    if not jnp.issubdtype(rng.dtype, jax.dtypes.prng_key):
        rng = jax.random.wrap_key_data(rng)
    init_key, run_key = jax.random.split(rng)
    if isinstance(model, nnx.Module):
        if (sample_input is None) == (tx is None):
            raise TypeError(
                "create_train_state of an nnx model takes (model, rng, tx), got "
                f"{'no tx' if tx is None else 'a sample input too, which it has no use for'}"
            )
        tx = sample_input if tx is None else tx
        # A step makes random streams of its own.
        given = {name: part for name, part in variables_of(model).items() if name != "rngs"}
        variables = jax.tree.map(jnp.copy, given)
    else:
        variables = _initialized(model, init_key, sample_input, tx)
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


def _initialized(model: nn.Module, key: Array, sample_input: Any, tx: Any) -> Any:
    if tx is None:
        raise TypeError(
            "create_train_state of a linen model takes (model, rng, sample_input, tx), got no tx"
        )
    initialize = functools.partial(
        model.init,
        mutable=DenyList(("intermediates", "batch_moments")),
        **({"train": False} if takes_train(type(model)) else {}),
    )
    return jax.jit(initialize)(key, sample_input)
