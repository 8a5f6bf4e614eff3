"""A long short-term memory with the normalization as an argument."""

import inspect
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnorm.models._norms import Initializer, NormFactory, apply_norm, norm_factory
from jaxnorm.numerics import accumulation_dtype
from jaxnorm.typing import Array, DTypeLike, PyTree


class LSTMState(NamedTuple):
    """What a long short-term memory carries from step to step.

    Examples:
        >>> start = LSTMState(cell=jnp.zeros((2, 3)), hidden=jnp.zeros((2, 3)))
        >>> start.cell.shape
        (2, 3)
    """

    cell: Array  # [N, features], float32 or wider
    hidden: Array  # [N, features], float32 or wider


class LSTMCell(nn.Module):
    """One step of a long short-term memory, normalized in three places.

    `(f, i, o, g) = norm(W_h h) + norm(W_x x) + b`, `c' = sigmoid(f) c + sigmoid(i) tanh(g)`,
    `h' = sigmoid(o) tanh(norm(c'))`: with layer norm the LSTM of Ba et al., Layer Normalization
    (arXiv:1607.06450, 2016, supplementary material), with batch norm that of Cooijmans et al.,
    Recurrent Batch Normalization (arXiv:1603.09025, 2016, section 3). The first two norms have no
    bias, since b serves both. Cooijmans et al. start the scales at 0.1, so that the tanh is not
    saturated: `functools.partial(BatchNorm, scale_init=nn.initializers.constant(0.1))`.

    Args:
        features: the width of the cell and of its output.
        norm: makes the three norms, or their name (see `apply_norm`); None for none.
        forget_bias: where the bias of the forget gate starts; the others start at zero.
        kernel_init: initializer of the input's kernel.
        recurrent_init: initializer of the hidden state's kernel.
        dtype: computation dtype of the products; None for that of the input and parameters.

    Returns:
        The module. A call on a state and x [N, C] returns the next `LSTMState`.

    Examples:
        >>> start = LSTMState(jnp.zeros((2, 3)), jnp.zeros((2, 3)))
        >>> state, _ = LSTMCell(3).init_with_output(jax.random.key(0), start, jnp.ones((2, 5)))
        >>> state.hidden.shape
        (2, 3)
    """

    features: int
    norm: NormFactory | str | None = None
    forget_bias: float = 1.0
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    recurrent_init: Initializer = nn.initializers.orthogonal()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, state: LSTMState, x: Array, *, train: bool = False) -> LSTMState:
        """Returns the next state.

        Args:
            state: of the step before.
            x: [N, C], the input of this step.
            train: whether batch statistics are used, and running averages updated.

        Returns:
            An `LSTMState` of the dtypes of `state`.

        Examples:
            >>> start = LSTMState(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
            >>> x = jnp.ones((1, 3))
            >>> variables = LSTMCell(2).init(jax.random.key(0), start, x)
            >>> LSTMCell(2).apply(variables, start, x, train=True).cell.shape
            (1, 2)
        """
        gates = (
            self._product(x, "input", self.kernel_init, train)
            + self._product(state.hidden, "hidden", self.recurrent_init, train)
            + self.param("bias", _gate_bias, self.features, self.forget_bias)
        )
        forget, enter, leave, new = jnp.split(gates.astype(state.cell.dtype), 4, axis=-1)
        cell = nn.sigmoid(forget) * state.cell + nn.sigmoid(enter) * jnp.tanh(new)
        shown = apply_norm(self.norm, cell, train=train, name="norm_cell")
        hidden = nn.sigmoid(leave) * jnp.tanh(shown)
        return LSTMState(cell, hidden.astype(state.hidden.dtype))

    def _product(self, x: Array, name: str, init: Initializer, train: bool) -> Array:
        dense = nn.Dense(
            4 * self.features, use_bias=False, dtype=self.dtype, kernel_init=init, name=name
        )
        fields = {"use_bias": False} if _takes_bias(self.norm) else {}
        return apply_norm(self.norm, dense(x), train=train, name=f"norm_{name}", **fields)


class LSTM(nn.Module):
    """A long short-term memory over time, with running statistics for each time step.

    An `LSTMCell` under `lax.scan`, from a state of zeros. Where the norm keeps running statistics
    they have a leading time axis of length `stats_steps`: step t uses entry
    `min(t, stats_steps - 1)`. In training every step is normalized with its own batch statistics in
    any case; the last entry takes the mean over all the steps that use it. So `stats_steps=1`
    shares one set over time, and the length of the training sequences keeps each step's apart, as
    section 3 of Cooijmans et al. (arXiv:1603.09025, 2016) asks for: statistics change over the
    first steps, and later ones may use the last.

    The parameters are those of the cell, in `params/cell`, and the statistics in
    `batch_stats/cell`.

    Args:
        features: the width of the cell and of the output.
        norm: makes the norms of the cell, or their name (see `LSTMCell`); None for none.
        stats_steps: how many time steps have running statistics of their own.
        forget_bias: where the bias of the forget gate starts.
        kernel_init: initializer of the input's kernel.
        recurrent_init: initializer of the hidden state's kernel.
        dtype: computation dtype of the products; None for that of the input and parameters. States
            are float32 or wider.

    Returns:
        The module. A call on x [N, T, C] with `train=False` returns [N, T, features].

    Examples:
        >>> from jaxnorm.linen import BatchNorm
        >>> model, x = LSTM(3, norm=BatchNorm, stats_steps=7), jnp.ones((2, 9, 5))
        >>> y, variables = model.init_with_output(jax.random.key(0), x)
        >>> y.shape, variables["batch_stats"]["cell"]["norm_cell"]["mean"].shape
        ((2, 9, 3), (7, 3))
    """

    features: int
    norm: NormFactory | str | None = None
    stats_steps: int = 1
    forget_bias: float = 1.0
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    recurrent_init: Initializer = nn.initializers.orthogonal()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Returns the hidden state of every step.

        Args:
            x: [N, T, C].
            train: batch statistics if true, running averages if false.

        Returns:
            [N, T, features], float32 or wider.

        Raises:
            ValueError: x is not a batch of sequences, or `stats_steps` is not positive.

        Examples:
            >>> x = jnp.ones((2, 4, 5))
            >>> variables = LSTM(3).init(jax.random.key(0), x)
            >>> LSTM(3).apply(variables, x, train=True).shape
            (2, 4, 3)
        """
        self._check(x)
        cell = LSTMCell(
            self.features,
            self.norm,
            self.forget_bias,
            self.kernel_init,
            self.recurrent_init,
            self.dtype,
            parent=None,
        )
        zeros = jnp.zeros((x.shape[0], self.features), accumulation_dtype(x.dtype))
        start = LSTMState(zeros, zeros)
        params = self.param("cell", lambda key: cell.init(key, start, x[:, 0])["params"])
        fresh = jax.eval_shape(cell.init, jax.random.key(0), start, x[:, 0]).get("batch_stats", {})
        if fresh:
            stats = self.variable("batch_stats", "cell", self._first_stats, cell, start, x[:, 0])
            of_steps = jax.tree.map(lambda leaf: leaf[self._rows(x)], stats.value)
        else:
            stats, of_steps = None, {}

        def step(state: LSTMState, now: tuple[Array, PyTree]) -> tuple[LSTMState, Any]:
            variables = {"params": params, "batch_stats": now[1]}
            state, updated = cell.apply(
                variables, state, now[0], train=train, mutable=["batch_stats"]
            )
            # Without this the scan would carry derivatives of statistics that nothing asks for.
            kept = lax.stop_gradient(updated.get("batch_stats", {}))
            return state, (state.hidden, kept)

        _, (hidden, updated) = lax.scan(step, start, (jnp.swapaxes(x, 0, 1), of_steps))
        learns = train and not self.is_initializing()
        if stats is not None and learns and self.is_mutable_collection("batch_stats"):
            stats.value = jax.tree.map(_kept, stats.value, updated)
        return jnp.swapaxes(hidden, 0, 1)

    def _rows(self, x: Array) -> np.ndarray:
        return np.minimum(np.arange(x.shape[1]), self.stats_steps - 1)

    def _first_stats(self, cell: LSTMCell, start: LSTMState, x: Array) -> PyTree:
        first = cell.init(jax.random.key(0), start, x)["batch_stats"]
        return jax.tree.map(lambda leaf: jnp.repeat(leaf[None], self.stats_steps, 0), first)

    def _check(self, x: Array) -> None:
        if x.ndim != 3 or x.shape[1] < 1:
            raise ValueError(
                f"LSTM needs sequences [N, T, C] of at least one step, got x {list(x.shape)}; "
                "add the axis that is missing"
            )
        if self.stats_steps < 1:
            raise ValueError(
                f"stats_steps={self.stats_steps} must be at least 1; 1 shares statistics over time"
            )


def _kept(stored: Array, updated: Array) -> Array:
    """Returns the statistics [S, ...] after those of the steps [T, ...] were updated."""
    count = min(len(stored), len(updated))
    own, later = updated[: count - 1], updated[count - 1 :]
    return stored.at[:count].set(jnp.concatenate([own, later.mean(0, keepdims=True)]))


def _takes_bias(norm: NormFactory | str | None) -> bool:
    norm = norm_factory(norm)
    return norm is not None and "use_bias" in inspect.signature(norm).parameters


def _gate_bias(key: Array, features: int, forget_bias: float) -> Array:
    del key
    return jnp.concatenate([jnp.full(features, forget_bias), jnp.zeros(3 * features)])
