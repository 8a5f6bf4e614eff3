"""Residual networks for small images in nnx with the normalization as an argument."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx

from jaxnorm.models._norms import Activation, Initializer, NormFactory
from jaxnorm.models._resnet import (
    Shortcut,
    check_shortcut,
    check_stages,
    he_fan_out,
    padded_shortcut,
)
from jaxnorm.models.nnx._norms import has_own_bias, make_kernel_norm, make_norm, normalized
from jaxnorm.nnx import BatchNorm
from jaxnorm.typing import Array, DTypeLike


class BasicBlock(nnx.Module):
    """`jaxnorm.models.BasicBlock` in nnx: two 3x3 convolutions around a shortcut.

    Args:
        in_features: channels of the input.
        width: channels of the output.
        strides: spatial stride of the first convolution and of the shortcut.
        norm: makes the norms, or their name (see `make_norm`); None for none.
        activation: the nonlinearity.
        shortcut: "identity" (subsampled, padded with zeros) or "projection" where the shape
            changes.
        zero_init_residual: whether the last norm's scale starts at zero.
        kernel_init: initializer of the kernels.
        dtype: computation dtype; None for that of the input and parameters.
        kernel_norm: wraps each convolution (see `make_kernel_norm`); None for none.
        rngs: keys.

    Examples:
        >>> block = BasicBlock(4, width=8, strides=2, rngs=nnx.Rngs(0))
        >>> block(jnp.ones((2, 8, 8, 4))).shape
        (2, 4, 4, 8)
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        strides: int = 1,
        *,
        norm: NormFactory | str | None = None,
        activation: Activation = nnx.relu,
        shortcut: Shortcut = "identity",
        zero_init_residual: bool = False,
        kernel_init: Initializer = he_fan_out,
        dtype: DTypeLike | None = None,
        kernel_norm: NormFactory | str | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_shortcut(in_features, width, shortcut)
        self.width, self.strides, self.activation = width, strides, activation
        last = {"scale_init": nnx.initializers.zeros} if zero_init_residual else {}
        self.norm_0 = make_norm(norm, width, rngs=rngs)
        self.norm_1 = make_norm(norm, width, rngs=rngs, **last)

        def conv(channels: int, size: int, strides: int) -> nnx.Module:
            return convolution(
                channels, width, size, strides, self.norm_0, kernel_init, dtype, kernel_norm, rngs
            )

        self.conv_0, self.conv_1 = conv(in_features, 3, strides), conv(width, 3, 1)
        changes = strides != 1 or in_features != width
        self.projects = changes and shortcut == "projection"
        if self.projects:
            self.conv_shortcut = conv(in_features, 1, strides)
            self.norm_shortcut = make_norm(norm, width, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Returns the block's output.

        Args:
            x: [N, H, W, in_features].

        Returns:
            [N, H', W', width] with H' = ceil(H / strides).
        """
        y = self.activation(normalized(self.norm_0, self.conv_0(x)))
        y = normalized(self.norm_1, self.conv_1(y))
        if self.projects:
            x = normalized(self.norm_shortcut, self.conv_shortcut(x))
        else:
            x = padded_shortcut(x, self.width, self.strides, "identity")
        return self.activation(y + x)


class ResNet(nnx.Module):
    """`jaxnorm.models.ResNet` in nnx: a 3x3 stem, stages of basic blocks, mean pool, dense.

    The layers and their parameters have the names of the linen model; a kernel norm puts its own
    name between.

    Args:
        in_features: channels of the images.
        stage_sizes: the number of basic blocks of each stage.
        widths: the channels of each stage.
        num_outputs: the width of the output.
        norm: makes every norm, or its name (see `make_norm`); None for none.
        activation: the nonlinearity.
        shortcut: "identity" (padded with zeros) or "projection" where the shape changes.
        zero_init_residual: whether the last norm of each block starts with a scale of zero.
        kernel_init: initializer of the convolutions' kernels.
        dtype: computation dtype of the convolutions; None for that of the input and parameters.
            The output is float32 or wider.
        kernel_norm: wraps each convolution (see `make_kernel_norm`); None for none.
        rngs: keys.

    Examples:
        >>> model = ResNet(3, stage_sizes=(1, 1), widths=(4, 8), num_outputs=10, rngs=nnx.Rngs(0))
        >>> model(jnp.ones((2, 8, 8, 3))).shape
        (2, 10)
    """

    def __init__(
        self,
        in_features: int,
        stage_sizes: Sequence[int],
        widths: Sequence[int],
        num_outputs: int,
        *,
        norm: NormFactory | str | None = BatchNorm,
        activation: Activation = nnx.relu,
        shortcut: Shortcut = "identity",
        zero_init_residual: bool = False,
        kernel_init: Initializer = he_fan_out,
        dtype: DTypeLike | None = None,
        kernel_norm: NormFactory | str | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_stages(stage_sizes, widths)
        self.activation = activation
        self.norm_stem = make_norm(norm, widths[0], rngs=rngs)
        self.conv_stem = convolution(
            in_features, widths[0], 3, 1, self.norm_stem, kernel_init, dtype, kernel_norm, rngs
        )
        channels, names = widths[0], []
        for stage, (blocks, width) in enumerate(zip(stage_sizes, widths, strict=True)):
            for block in range(blocks):
                layer = BasicBlock(
                    channels,
                    width,
                    2 if stage > 0 and block == 0 else 1,
                    norm=norm,
                    activation=activation,
                    shortcut=shortcut,
                    zero_init_residual=zero_init_residual,
                    kernel_init=kernel_init,
                    dtype=dtype,
                    kernel_norm=kernel_norm,
                    rngs=rngs,
                )
                names.append(f"stage_{stage}_block_{block}")
                setattr(self, names[-1], layer)
                channels = width
        self.names = tuple(names)
        self.output = nnx.Linear(channels, num_outputs, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """Returns the outputs of the network.

        Args:
            x: [N, H, W, in_features].

        Returns:
            [N, num_outputs], float32 or wider.

        Raises:
            ValueError: x is not a batch of images.
        """
        if x.ndim != 4:
            raise ValueError(f"ResNet needs images [N, H, W, C], got x {list(x.shape)}")
        x = self.activation(normalized(self.norm_stem, self.conv_stem(x)))
        for name in self.names:
            x = getattr(self, name)(x)
        return self.output(jnp.mean(x, axis=(1, 2)))


def convolution(
    in_features: int,
    width: int,
    size: int,
    strides: int,
    norm: nnx.Module | None,
    kernel_init: Initializer,
    dtype: DTypeLike | None,
    kernel_norm: NormFactory | str | None,
    rngs: nnx.Rngs,
) -> nnx.Module:
    """Returns a convolution before a norm, its kernel normalized where that is asked for."""
    conv = nnx.Conv(
        in_features,
        width,
        (size, size),
        strides,
        padding=size // 2,
        use_bias=has_own_bias(norm),
        kernel_init=kernel_init,
        dtype=dtype,
        rngs=rngs,
    )
    return make_kernel_norm(kernel_norm, conv, rngs=rngs)
