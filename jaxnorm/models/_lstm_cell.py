"""One step of a long short-term memory with the normalization as an argument."""

import inspect
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxnorm.models._norms import Initializer, NormFactory, apply_norm, norm_factory
from jaxnorm.typing import Array, DTypeLike


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
        >>> import jax
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
    def __call__(
        self, state: LSTMState, x: Array, *, step: Array | None = None, train: bool = False
    ) -> LSTMState:
        """Returns the next state.

        Args:
            state: of the step before.
            x: [N, C], the input of this step.
            step: [], counted from zero, for norms whose layers take it.
            train: whether batch statistics are used, and running averages updated.

        Returns:
            An `LSTMState` of the dtypes of `state`.

        Examples:
            >>> import jax
            >>> start = LSTMState(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
            >>> x = jnp.ones((1, 3))
            >>> variables = LSTMCell(2).init(jax.random.key(0), start, x)
            >>> LSTMCell(2).apply(variables, start, x, train=True).cell.shape
            (1, 2)
        """
        how = {"step": step, "train": train}
        gates = (
            self._product(x, "input", self.kernel_init, how)
            + self._product(state.hidden, "hidden", self.recurrent_init, how)
            + self.param("bias", _gate_bias, self.features, self.forget_bias)
        )
        forget, enter, leave, new = jnp.split(gates.astype(state.cell.dtype), 4, axis=-1)
        cell = nn.sigmoid(forget) * state.cell + nn.sigmoid(enter) * jnp.tanh(new)
        shown = apply_norm(self.norm, cell, name="norm_cell", **how)
        hidden = nn.sigmoid(leave) * jnp.tanh(shown)
        return LSTMState(cell, hidden.astype(state.hidden.dtype))

    def _product(self, x: Array, name: str, init: Initializer, how: dict[str, Any]) -> Array:
        dense = nn.Dense(
            4 * self.features, use_bias=False, dtype=self.dtype, kernel_init=init, name=name
        )
        fields: dict[str, Any] = {"use_bias": False} if _takes_bias(self.norm) else {}
        return apply_norm(self.norm, dense(x), name=f"norm_{name}", **how, **fields)


def _takes_bias(norm: NormFactory | str | None) -> bool:
    norm = norm_factory(norm)
    return norm is not None and "use_bias" in inspect.signature(norm).parameters


def _gate_bias(key: Array, features: int, forget_bias: float) -> Array:
    del key
    return jnp.concatenate([jnp.full(features, forget_bias), jnp.zeros(3 * features)])
