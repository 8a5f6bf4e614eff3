"""A small causal language model in nnx with the normalization and its place as arguments."""

import functools
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxnorm.models._norms import Activation, NormFactory
from jaxnorm.models._transformer import (
    Placement,
    causal_attention,
    check_heads,
    check_tokens,
    kernel_init,
    residual_constants,
)
from jaxnorm.models.nnx._norms import make_kernel_norm, make_norm, normalized
from jaxnorm.nnx import LayerNorm, RMSNorm
from jaxnorm.typing import Array, DTypeLike


class TransformerBlock(nnx.Module):
    """`jaxnorm.models.TransformerBlock` in nnx: causal self-attention, then a feed-forward layer.

    Args:
        width: channels of the residual stream.
        num_heads: number of attention heads, a divisor of `width`.
        mlp_width: hidden channels of the feed-forward layer.
        norm: makes the norms, or their name (see `make_norm`); None for none.
        placement: where the norms stand, "pre", "post", "peri", "sub" or "deep".
        qk_norm: whether queries and keys are RMS-normalized over the channels of each head.
        activation: the nonlinearity of the feed-forward layer.
        alpha: weight of the residual stream under "deep".
        gain: factor of the initial value, output and feed-forward kernels.
        dtype: computation dtype; None for that of the input and parameters.
        kernel_norm: wraps each dense layer (see `make_kernel_norm`); None for none.
        rngs: keys.

    Examples:
        >>> block = TransformerBlock(4, num_heads=2, mlp_width=8, rngs=nnx.Rngs(0))
        >>> block(jnp.ones((1, 3, 4))).shape
        (1, 3, 4)
    """

    norm_attention_inner: Any
    norm_mlp_inner: Any

    def __init__(
        self,
        width: int,
        num_heads: int,
        mlp_width: int,
        *,
        norm: NormFactory | str | None = LayerNorm,
        placement: Placement = "pre",
        qk_norm: bool = False,
        activation: Activation = nnx.gelu,
        alpha: float = 1.0,
        gain: float = 1.0,
        dtype: DTypeLike | None = None,
        kernel_norm: NormFactory | str | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        residual_constants(placement, 1)
        check_heads(num_heads, width)
        self.num_heads, self.placement, self.activation = num_heads, placement, activation
        self.alpha, self.qk_norm = alpha, qk_norm

        def dense(inputs: int, outputs: int, gain: float) -> Any:
            init = kernel_init(gain)
            layer = nnx.Linear(inputs, outputs, kernel_init=init, dtype=dtype, rngs=rngs)
            return make_kernel_norm(kernel_norm, layer, rngs=rngs)

        self.query, self.key = dense(width, width, 1.0), dense(width, width, 1.0)
        self.value, self.attention_out = dense(width, width, gain), dense(width, width, gain)
        self.mlp_in, self.mlp_out = dense(width, mlp_width, gain), dense(mlp_width, width, gain)
        if qk_norm:
            size = width // num_heads
            self.norm_query, self.norm_key = (RMSNorm(size, rngs=rngs) for _ in range(2))
        for name, inner in (("attention", width), ("mlp", mlp_width)):
            setattr(self, f"norm_{name}", make_norm(norm, width, rngs=rngs))
            if placement == "peri":
                setattr(self, f"norm_{name}_out", make_norm(norm, width, rngs=rngs))
            if placement == "sub":
                setattr(self, f"norm_{name}_inner", make_norm(norm, inner, rngs=rngs))

    def __call__(self, x: Array) -> Array:
        """Returns the block's output.

        Args:
            x: [N, T, C].

        Returns:
            [N, T, C].
        """
        for name, layer in (("attention", self._attention), ("mlp", self._mlp)):
            norm = getattr(self, f"norm_{name}")
            y = layer(normalized(norm, x) if self.placement in ("pre", "peri", "sub") else x)
            if self.placement == "peri":
                y = normalized(getattr(self, f"norm_{name}_out"), y)
            x = (self.alpha * x if self.placement == "deep" else x) + y
            if self.placement in ("post", "deep"):
                x = normalized(norm, x)
        return x

    def _attention(self, x: Array) -> Array:
        heads = (*x.shape[:2], self.num_heads, -1)
        query, key, value = (f(x).reshape(heads) for f in (self.query, self.key, self.value))
        if self.qk_norm:
            query, key = self.norm_query(query), self.norm_key(key)
        y = causal_attention(query, key, value).reshape(x.shape)
        if self.placement == "sub":
            y = normalized(self.norm_attention_inner, y)
        return self.attention_out(y)

    def _mlp(self, x: Array) -> Array:
        y = self.activation(self.mlp_in(x))
        if self.placement == "sub":
            y = normalized(self.norm_mlp_inner, y)
        return self.mlp_out(y)


class Transformer(nnx.Module):
    """`jaxnorm.models.Transformer` in nnx: embedding and positions, blocks, norm, dense.

    The layers and their parameters have the names of the linen model; a kernel norm puts its own
    name between.

    Args:
        vocabulary: number of tokens.
        width: channels of the residual stream.
        num_layers: number of blocks.
        num_heads: number of attention heads, a divisor of `width`.
        max_length: greatest number of positions.
        mlp_width: hidden channels of the feed-forward layers; None for 4 times the width.
        norm: makes every norm, or its name (see `make_norm`); None for none.
        placement: "pre", "post", "peri", "sub" or "deep".
        qk_norm: whether queries and keys are RMS-normalized over the channels of each head.
        activation: the nonlinearity of the feed-forward layers.
        dtype: computation dtype of the blocks; None for that of the parameters. The softmax and the
            output are float32 or wider.
        kernel_norm: wraps each dense layer of the blocks (see `make_kernel_norm`); None for none.
        rngs: keys.

    Examples:
        >>> model = Transformer(7, 8, num_layers=1, num_heads=2, max_length=5, rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((2, 5), int)).shape
        (2, 5, 7)
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        num_layers: int,
        num_heads: int,
        max_length: int,
        mlp_width: int | None = None,
        *,
        norm: NormFactory | str | None = LayerNorm,
        placement: Placement = "pre",
        qk_norm: bool = False,
        activation: Activation = nnx.gelu,
        dtype: DTypeLike | None = None,
        kernel_norm: NormFactory | str | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.num_layers, self.max_length = num_layers, max_length
        alpha, gain = residual_constants(placement, num_layers)
        init = nnx.initializers.normal(width**-0.5)
        embed = functools.partial(
            nnx.Embed, features=width, embedding_init=init, dtype=dtype, rngs=rngs
        )
        self.embedding, self.positions = embed(vocabulary), embed(max_length)
        for i in range(num_layers):
            block = TransformerBlock(
                width,
                num_heads,
                mlp_width or 4 * width,
                norm=norm,
                placement=placement,
                qk_norm=qk_norm,
                activation=activation,
                alpha=alpha,
                gain=gain,
                dtype=dtype,
                kernel_norm=kernel_norm,
                rngs=rngs,
            )
            setattr(self, f"block_{i}", block)
        ends = placement in ("pre", "peri", "sub")
        self.norm_out = make_norm(norm, width, rngs=rngs) if ends else None
        self.output = nnx.Linear(width, vocabulary, rngs=rngs)

    def __call__(self, tokens: Array) -> Array:
        """Returns the logits of the next token at each position.

        Args:
            tokens: [N, T], integers from 0 to vocabulary - 1, with T at most `max_length`.

        Returns:
            [N, T, vocabulary], float32 or wider.

        Raises:
            ValueError: tokens are not a batch of sequences, or are more than `max_length`.
        """
        check_tokens(tokens, self.max_length)
        x = self.embedding(tokens) + self.positions(jnp.arange(tokens.shape[1]))
        for i in range(self.num_layers):
            x = getattr(self, f"block_{i}")(x)
        return self.output(normalized(self.norm_out, x))
