"""A small causal language model with the normalization and its place as arguments."""

import functools
import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnorm.linen import LayerNorm, RMSNorm
from jaxnorm.models._norms import (
    Activation,
    Initializer,
    NormFactory,
    apply_kernel_norm,
    apply_norm,
)
from jaxnorm.typing import Array, DTypeLike

Placement = Literal["pre", "post", "peri", "sub", "deep"]

_PLACEMENTS = ("pre", "post", "peri", "sub", "deep")


def residual_constants(placement: Placement, num_layers: int) -> tuple[float, float]:
    """Returns the weight of the residual stream and the gain of the initial kernels.

    For M decoder blocks "deep" has (2 M)^(1/4) and (8 M)^(-1/4) (DeepNorm, arXiv:2203.00555),
    "sub" has 1 and sqrt(log(2 M)) (Sub-LN, arXiv:2210.06423), the others have 1 and 1.

    Args:
        placement: where the norms stand.
        num_layers: M, the number of blocks.

    Returns:
        (alpha, gain). The gain is that of the value, output and feed-forward kernels.

    Raises:
        ValueError: the placement has an unknown name.

    Examples:
        >>> residual_constants("deep", 8)
        (2.0, 0.3535533905932738)
        >>> residual_constants("pre", 8)
        (1.0, 1.0)
    """
    if placement not in _PLACEMENTS:
        raise ValueError(f"placement={placement!r} is unknown; use one of {', '.join(_PLACEMENTS)}")
    if placement == "deep":
        return (2.0 * num_layers) ** 0.25, (8.0 * num_layers) ** -0.25
    return 1.0, math.sqrt(math.log(2 * num_layers)) if placement == "sub" else 1.0


def causal_attention(query: Array, key: Array, value: Array) -> Array:
    """Returns the values averaged with the weights softmax(query key / sqrt(C)) of earlier keys.

    Args:
        query: [N, T, heads, C].
        key: [N, T, heads, C].
        value: [N, T, heads, C].

    Returns:
        [N, T, heads, C]. The softmax is float32 or wider.

    Examples:
        >>> q, v = jnp.zeros((1, 2, 1, 1)), jnp.array([1.0, 3.0]).reshape(1, 2, 1, 1)
        >>> causal_attention(q, q, v).ravel()
        Array([1., 2.], dtype=float32)
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("nqhc,nkhc->nhqk", query, key, preferred_element_type=wide)
    scores = scores / math.sqrt(query.shape[-1])
    earlier = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    weights = jax.nn.softmax(jnp.where(earlier, scores, -jnp.inf)).astype(value.dtype)
    return jnp.einsum("nhqk,nkhc->nqhc", weights, value)


def kernel_init(gain: float) -> Initializer:
    """Returns the initializer of the kernels of dense layers.

    Args:
        gain: factor of the kernels.

    Returns:
        Of variance gain^2 over the mean of fan in and fan out.

    Examples:
        >>> kernel_init(0.0)(jax.random.key(0), (2, 1)).ravel()
        Array([0., 0.], dtype=float32)
    """
    return nn.initializers.variance_scaling(gain**2, "fan_avg", "normal")


def check_heads(num_heads: int, width: int) -> None:
    """Raises an error where the heads do not divide the channels.

    Args:
        num_heads: number of attention heads.
        width: channels.

    Raises:
        ValueError: the heads do not divide the channels.

    Examples:
        >>> check_heads(2, 4)
    """
    if width % num_heads:
        raise ValueError(
            f"num_heads={num_heads} do not divide the {width} channels of x; use a divisor"
        )


def check_tokens(tokens: Array, max_length: int) -> None:
    """Raises an error where tokens are not a batch of sequences that fit.

    Args:
        tokens: [N, T].
        max_length: the greatest T.

    Raises:
        ValueError: tokens are not [N, T], or too many.

    Examples:
        >>> check_tokens(jnp.zeros((1, 2), int), 2)
    """
    if tokens.ndim != 2 or tokens.shape[1] > max_length:
        raise ValueError(
            f"Transformer needs tokens [N, T] with T at most max_length={max_length}, "
            f"got {list(tokens.shape)}"
        )


class TransformerBlock(nn.Module):
    """Causal self-attention and a feed-forward layer f, each in a residual connection.

    - "pre": x + f(norm(x)).
    - "post": norm(x + f(x)).
    - "peri": x + norm(f(norm(x))) (arXiv:2502.02732).
    - "sub": x + f(norm(x)), and a norm before the last dense layer of f (arXiv:2210.06423).
    - "deep": norm(alpha x + f(x)) (arXiv:2203.00555).

    Args:
        num_heads: number of attention heads, a divisor of the channels.
        mlp_width: hidden channels of the feed-forward layer.
        norm: makes the norms, or their name (see `apply_norm`); None for none.
        placement: where the norms stand.
        qk_norm: whether queries and keys are RMS-normalized over the channels of each head.
        activation: the nonlinearity of the feed-forward layer.
        alpha: weight of the residual stream under "deep".
        gain: factor of the initial value, output and feed-forward kernels.
        dtype: computation dtype; None for that of the input and parameters. The softmax is float32
            or wider.
        kernel_norm: wraps each dense layer (see `apply_kernel_norm`); None for none.

    Returns:
        The module. A call on x [N, T, C] returns [N, T, C].

    Examples:
        >>> block = TransformerBlock(num_heads=2, mlp_width=8)
        >>> block.init_with_output(jax.random.key(0), jnp.ones((1, 3, 4)))[0].shape
        (1, 3, 4)
    """

    num_heads: int
    mlp_width: int
    norm: NormFactory | str | None = LayerNorm
    placement: Placement = "pre"
    qk_norm: bool = False
    activation: Activation = nn.gelu
    alpha: float = 1.0
    gain: float = 1.0
    dtype: DTypeLike | None = None
    kernel_norm: NormFactory | str | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Returns the block's output.

        Args:
            x: [N, T, C].
            train: whether batch statistics are used, and running averages updated.

        Returns:
            [N, T, C].

        Raises:
            ValueError: the heads do not divide the channels, or the placement is unknown.

        Examples:
            >>> block = TransformerBlock(num_heads=2, mlp_width=8, placement="post")
            >>> block.init_with_output(jax.random.key(0), jnp.ones((1, 3, 4)), train=True)[0].shape
            (1, 3, 4)
        """
        residual_constants(self.placement, 1)
        check_heads(self.num_heads, x.shape[-1])
        for name, layer in (("attention", self._attention), ("mlp", self._mlp)):
            y = x
            if self.placement in ("pre", "peri", "sub"):
                y = apply_norm(self.norm, x, train=train, name=f"norm_{name}")
            y = layer(y, train)
            if self.placement == "peri":
                y = apply_norm(self.norm, y, train=train, name=f"norm_{name}_out")
            x = (self.alpha * x if self.placement == "deep" else x) + y
            if self.placement in ("post", "deep"):
                x = apply_norm(self.norm, x, train=train, name=f"norm_{name}")
        return x

    def _attention(self, x: Array, train: bool) -> Array:
        heads = (*x.shape[:2], self.num_heads, -1)
        query = self._dense(x, x.shape[-1], "query", train, gain=1.0).reshape(heads)
        key = self._dense(x, x.shape[-1], "key", train, gain=1.0).reshape(heads)
        value = self._dense(x, x.shape[-1], "value", train, gain=self.gain).reshape(heads)
        if self.qk_norm:
            query, key = RMSNorm(name="norm_query")(query), RMSNorm(name="norm_key")(key)
        y = causal_attention(query, key, value).reshape(x.shape)
        if self.placement == "sub":
            y = apply_norm(self.norm, y, train=train, name="norm_attention_inner")
        return self._dense(y, x.shape[-1], "attention_out", train, gain=self.gain)

    def _mlp(self, x: Array, train: bool) -> Array:
        y = self.activation(self._dense(x, self.mlp_width, "mlp_in", train, gain=self.gain))
        if self.placement == "sub":
            y = apply_norm(self.norm, y, train=train, name="norm_mlp_inner")
        return self._dense(y, x.shape[-1], "mlp_out", train, gain=self.gain)

    def _dense(self, x: Array, width: int, name: str, train: bool, *, gain: float) -> Array:
        init = kernel_init(gain)
        dense = nn.Dense(width, kernel_init=init, dtype=self.dtype, name=name)
        return apply_kernel_norm(self.kernel_norm, dense, x, train=train)


class Transformer(nn.Module):
    """A decoder-only language model: embedding and learned positions, blocks, norm, dense.

    The placements of the norm are those of `TransformerBlock`. Behind the last block there is a
    norm under "pre", "peri" and "sub". Position t of the output depends on tokens 0 to t only,
    as long as the norm takes no statistics over positions. "deep" and "sub" scale the initial
    value, output and feed-forward kernels as their papers do (see `residual_constants`).

    Args:
        vocabulary: number of tokens.
        width: channels of the residual stream.
        num_layers: number of blocks.
        num_heads: number of attention heads, a divisor of `width`.
        max_length: greatest number of positions.
        mlp_width: hidden channels of the feed-forward layers; None for 4 times the width.
        norm: makes every norm, or its name (see `apply_norm`); None for none.
        placement: "pre", "post", "peri", "sub" or "deep".
        qk_norm: whether queries and keys are RMS-normalized over the channels of each head.
        activation: the nonlinearity of the feed-forward layers.
        dtype: computation dtype of the blocks; None for that of the parameters. The softmax and the
            output are float32 or wider.
        kernel_norm: wraps each dense layer of the blocks (see `apply_kernel_norm`); None for none.

    Returns:
        The module. A call on tokens [N, T] returns logits [N, T, vocabulary].

    Examples:
        >>> model = Transformer(vocabulary=7, width=8, num_layers=1, num_heads=2, max_length=5)
        >>> tokens = jnp.zeros((2, 5), int)
        >>> model.init_with_output(jax.random.key(0), tokens)[0].shape
        (2, 5, 7)
    """

    vocabulary: int
    width: int
    num_layers: int
    num_heads: int
    max_length: int
    mlp_width: int | None = None
    norm: NormFactory | str | None = LayerNorm
    placement: Placement = "pre"
    qk_norm: bool = False
    activation: Activation = nn.gelu
    dtype: DTypeLike | None = None
    kernel_norm: NormFactory | str | None = None

    @nn.compact
    def __call__(self, tokens: Array, *, train: bool = False) -> Array:
        """Returns the logits of the next token at each position.

        Args:
            tokens: [N, T], integers from 0 to vocabulary - 1, with T at most `max_length`.
            train: whether batch statistics are used, and running averages updated.

        Returns:
            [N, T, vocabulary], float32 or wider.

        Raises:
            ValueError: tokens are not a batch of sequences, or are more than `max_length`.

        Examples:
            >>> model = Transformer(3, width=4, num_layers=1, num_heads=1, max_length=2)
            >>> model.init_with_output(jax.random.key(0), jnp.ones((1, 2), int))[0].shape
            (1, 2, 3)
        """
        check_tokens(tokens, self.max_length)
        alpha, gain = residual_constants(self.placement, self.num_layers)
        init = nn.initializers.normal(self.width**-0.5)
        embed = functools.partial(nn.Embed, features=self.width, embedding_init=init)
        x = embed(self.vocabulary, dtype=self.dtype, name="embedding")(tokens)
        positions = jnp.arange(tokens.shape[1])
        x = x + embed(self.max_length, dtype=self.dtype, name="positions")(positions)
        for i in range(self.num_layers):
            block = TransformerBlock(
                self.num_heads,
                self.mlp_width or 4 * self.width,
                norm=self.norm,
                placement=self.placement,
                qk_norm=self.qk_norm,
                activation=self.activation,
                alpha=alpha,
                gain=gain,
                dtype=self.dtype,
                kernel_norm=self.kernel_norm,
                name=f"block_{i}",
            )
            x = block(x, train=train)
        if self.placement in ("pre", "peri", "sub"):
            x = apply_norm(self.norm, x, train=train, name="norm_out")
        return nn.Dense(self.vocabulary, name="output")(x)
