"""The two models of the plan for many chips, at their published sizes: ResNet-50 and ViT-L/16."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnorm.linen import BatchNorm, LayerNorm

CLASSES = 1000
PIXELS = 224


class LargeModel(NamedTuple):
    """A model for images of 224 x 224 pixels."""

    name: str
    whole: Callable[..., nn.Module]  # takes the axes of `shard_map` that share a batch, or None
    short: Callable[..., nn.Module]  # the same with few layers
    # Norms one after another in the short and in the whole model. The norm of a shortcut stands
    # beside another one: XLA makes one exchange of both, or two.
    chain: tuple[int, int]
    beside: tuple[int, int] = (1, 1)  # norms of shortcuts


def batch_norm(train: bool, axis_name: str | None) -> BatchNorm:
    """Return a batch norm in bfloat16."""
    axis_name = axis_name if train else None
    return BatchNorm(use_running_average=not train, axis_name=axis_name, dtype=jnp.bfloat16)


class Bottleneck(nn.Module):
    """A residual block of three convolutions, each with batch norm.

    He et al., Deep Residual Learning for Image Recognition (arXiv:1512.03385, 2015), figure 5. The
    stride is that of the 3 x 3 convolution.

    Attributes:
        width: channels of the first two convolutions, a quarter of those that come out.
        strides: of the block.
        axis_name: axes of `shard_map` over which the statistics are taken.
    """

    width: int
    strides: int
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Return [N, H / strides, W / strides, 4 width] of [N, H, W, C]."""
        conv = functools.partial(nn.Conv, use_bias=False, dtype=jnp.bfloat16)
        norm = functools.partial(batch_norm, train, self.axis_name)
        y = nn.relu(norm()(conv(self.width, (1, 1))(x)))
        y = nn.relu(norm()(conv(self.width, (3, 3), self.strides)(y)))
        y = norm()(conv(4 * self.width, (1, 1))(y))
        if x.shape != y.shape:
            x = norm()(conv(4 * self.width, (1, 1), self.strides)(x))
        return nn.relu(x + y)


class ResNet50(nn.Module):
    """The residual network of 50 layers, in bfloat16 with parameters in float32.

    Attributes:
        axis_name: axes of `shard_map` over which the statistics are taken.
        blocks: of each stage.
    """

    axis_name: str | None = None
    blocks: tuple[int, ...] = (3, 4, 6, 3)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the class scores [N, 1000] of images [N, 224, 224, 3]."""
        x = nn.Conv(64, (7, 7), 2, use_bias=False, dtype=jnp.bfloat16)(x.astype(jnp.bfloat16))
        x = nn.relu(batch_norm(train, self.axis_name)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for stage, blocks in enumerate(self.blocks):
            for block in range(blocks):
                strides = 2 if stage and not block else 1
                x = Bottleneck(64 << stage, strides, self.axis_name)(x, train=train)
        return nn.Dense(CLASSES)(jnp.mean(x, (1, 2)).astype(jnp.float32))


class ViTLarge(nn.Module):
    """The large vision transformer, in bfloat16 with parameters in float32.

    Dosovitskiy et al., An Image is Worth 16x16 Words (arXiv:2010.11929, 2020), table 1. A mean over
    the patches takes the place of the class token.
    """

    axis_name: str | None = None  # its norms share nothing
    depth: int = 24
    width: int = 1024
    heads: int = 16
    patch: int = 16

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the class scores [N, 1000] of images [N, 224, 224, 3]."""
        dense = functools.partial(nn.Dense, dtype=jnp.bfloat16)
        norm = functools.partial(LayerNorm, dtype=jnp.bfloat16)
        side = (self.patch, self.patch)
        x = nn.Conv(self.width, side, side, "VALID", dtype=jnp.bfloat16)(x.astype(jnp.bfloat16))
        x = x.reshape(len(x), -1, self.width)
        position = self.param("position", nn.initializers.normal(0.02), x.shape[1:])
        x = x + position.astype(jnp.bfloat16)
        for _ in range(self.depth):
            attention = nn.MultiHeadDotProductAttention(self.heads, dtype=jnp.bfloat16)
            x = x + attention(norm()(x))
            x = x + dense(self.width)(nn.gelu(dense(4 * self.width)(norm()(x))))
        return nn.Dense(CLASSES)(jnp.mean(norm()(x), 1).astype(jnp.float32))


LARGE = (
    LargeModel("ResNet-50", ResNet50, functools.partial(ResNet50, blocks=(1,)), (4, 49), (1, 4)),
    LargeModel("ViT-L/16", ViTLarge, functools.partial(ViTLarge, depth=1), (3, 49)),
)


def large_model(name: str) -> LargeModel:
    """Return the model of a name."""
    (model,) = (model for model in LARGE if model.name == name)
    return model
