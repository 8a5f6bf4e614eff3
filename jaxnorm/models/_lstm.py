"""A long short-term memory over time, with running statistics for each time step."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnorm.linen import RecurrentBatchNorm
from jaxnorm.models._lstm_cell import LSTMCell, LSTMState
from jaxnorm.models._norms import Initializer, NormFactory, norm_factory, takes_step
from jaxnorm.numerics import accumulation_dtype
from jaxnorm.typing import Array, DTypeLike, PyTree


class LSTM(nn.Module):
    """A long short-term memory over time, with running statistics for each time step.

    An `LSTMCell` under `lax.scan`, from a state of zeros. Where the norm keeps running statistics
    they have a leading time axis of length `stats_steps`: step t uses entry
    `min(t, stats_steps - 1)`. In training every step is normalized with its own batch statistics in
    any case; the last entry takes the mean over all the steps that use it. So `stats_steps=1`
    shares one set over time, and the length of the training sequences keeps each step's apart, as
    section 3 of Cooijmans et al. (arXiv:1603.09025, 2016) asks for: statistics change over the
    first steps, and later ones may use the last.

    `norm="recurrent_batch_norm"` keeps `stats_steps` of them by itself, and a factory of that norm
    as many as it says: the norm is called with the step, and the last entry takes in all later
    steps one after another.

    The parameters are those of the cell, in `params/cell`, and the statistics in
    `batch_stats/cell`.

    Args:
        features: the width of the cell and of the output.
        norm: makes the norms of the cell, or their name (see `LSTMCell`); None for none.
        stats_steps: how many time steps have running statistics of their own; a factory of
            `jaxnorm.linen.RecurrentBatchNorm` says it in its place.
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
        cell, by_step = self._cell()
        zeros = jnp.zeros((x.shape[0], self.features), accumulation_dtype(x.dtype))
        start = LSTMState(zeros, zeros)
        init = functools.partial(cell.init, state=start, x=x[:, 0], step=jnp.zeros((), jnp.int32))
        params = self.param("cell", lambda key: init(key)["params"])
        fresh = jax.eval_shape(init, jax.random.key(0)).get("batch_stats", {})
        stats, carried, of_steps = None, {}, {}
        if fresh:
            rows = None if by_step else self.stats_steps
            stats = self.variable("batch_stats", "cell", _first_stats, init, rows)
        if stats is not None and by_step:
            carried = stats.value
        elif stats is not None:
            rows = np.minimum(np.arange(x.shape[1]), self.stats_steps - 1)
            of_steps = jax.tree.map(lambda leaf: leaf[rows], stats.value)

        def step(carry: tuple[LSTMState, PyTree], now: tuple[Array, PyTree, Array]) -> Any:
            (state, carried), (x, own, index) = carry, now
            variables = {"params": params, "batch_stats": carried if by_step else own}
            state, updated = cell.apply(
                variables, state, x, step=index, train=train, mutable=["batch_stats"]
            )
            # Without this the scan would carry derivatives of statistics that nothing asks for.
            kept = lax.stop_gradient(updated.get("batch_stats", {}))
            carried, kept = (kept, {}) if by_step else ({}, kept)
            return (state, carried), (state.hidden, kept)

        over = (jnp.swapaxes(x, 0, 1), of_steps, jnp.arange(x.shape[1]))
        (_, carried), (hidden, updated) = lax.scan(step, (start, carried), over)
        learns = train and not self.is_initializing()
        if stats is not None and learns and self.is_mutable_collection("batch_stats"):
            stats.value = carried if by_step else jax.tree.map(_kept, stats.value, updated)
        return jnp.swapaxes(hidden, 0, 1)

    def _cell(self) -> tuple[LSTMCell, bool]:
        """Returns the cell, and whether its norms keep the statistics of all steps themselves."""
        norm = self.norm
        if norm == "recurrent_batch_norm":
            norm = functools.partial(RecurrentBatchNorm, max_steps=self.stats_steps)
        norm = norm_factory(norm)
        cell = LSTMCell(
            self.features,
            norm,
            self.forget_bias,
            self.kernel_init,
            self.recurrent_init,
            self.dtype,
            parent=None,
        )
        return cell, takes_step(norm)

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


def _first_stats(init: Callable[[Array], PyTree], rows: int | None) -> PyTree:
    """Returns the first statistics of a cell, repeated along a new axis unless `rows` is None."""
    first = init(jax.random.key(0))["batch_stats"]
    if rows is None:
        return first
    return jax.tree.map(lambda leaf: jnp.repeat(leaf[None], rows, 0), first)


def _kept(stored: Array, updated: Array) -> Array:
    """Returns the statistics [S, ...] after those of the steps [T, ...] were updated."""
    count = min(len(stored), len(updated))
    own, later = updated[: count - 1], updated[count - 1 :]
    return stored.at[:count].set(jnp.concatenate([own, later.mean(0, keepdims=True)]))
