"""Residual networks for small images with the normalization as an argument."""

import functools
from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from jaxnorm.linen import BatchNorm
from jaxnorm.models._norms import (
    Activation,
    Initializer,
    NormFactory,
    apply_kernel_norm,
    apply_norm,
    has_own_bias,
)
from jaxnorm.typing import Array, DTypeLike

Shortcut = Literal["identity", "projection"]

he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: act(shortcut(x) + norm(conv(act(norm(conv(x)))))).

    The block of He et al., Deep Residual Learning for Image Recognition (arXiv:1512.03385, 2015).
    Sows the inputs of its activations as `intermediates/preactivation_0` and `preactivation_1`.

    Args:
        width: channels of the output.
        strides: spatial stride of the first convolution and of the shortcut.
        norm: makes the norms, or their name (see `apply_norm`); None for none.
        activation: the nonlinearity.
        shortcut: where the shape changes, "identity" subsamples x and pads its channels with zeros
            (option A of section 4.2), "projection" takes a strided 1x1 convolution and a norm (B).
        zero_init_residual: whether the last norm's scale starts at zero, so that the block starts
            as its shortcut (Goyal et al., arXiv:1706.02677, 2017, section 5.1).
        kernel_init: initializer of the kernels.
        dtype: computation dtype; None for that of the input and parameters.
        kernel_norm: wraps each convolution (see `apply_kernel_norm`); None for none.

    Returns:
        The module. A call on x [N, H, W, C] returns [N, H', W', width] with H' = ceil(H / strides).

    Examples:
        >>> import jax
        >>> block = BasicBlock(width=8, strides=2)
        >>> y, _ = block.init_with_output(jax.random.key(0), jax.numpy.ones((2, 8, 8, 4)))
        >>> y.shape
        (2, 4, 4, 8)
    """

    width: int
    strides: int = 1
    norm: NormFactory | str | None = None
    activation: Activation = nn.relu
    shortcut: Shortcut = "identity"
    zero_init_residual: bool = False
    kernel_init: Initializer = he_fan_out
    dtype: DTypeLike | None = None
    kernel_norm: NormFactory | str | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Returns the block's output.

        Args:
            x: [N, H, W, C], with C at most `width` under an identity shortcut.
            train: whether batch statistics are used, and running averages updated.

        Returns:
            [N, H', W', width] with H' = ceil(H / strides).

        Raises:
            ValueError: the shortcut has an unknown name or cannot narrow x, or the norm has no
                scale that could start at zero.

        Examples:
            >>> import jax
            >>> x = jax.numpy.ones((2, 4, 4, 4))
            >>> BasicBlock(width=4).init_with_output(jax.random.key(0), x, train=True)[0].shape
            (2, 4, 4, 4)
        """
        last = {"scale_init": nn.initializers.zeros} if self.zero_init_residual else {}
        y = self._conv(x, 3, self.strides, "conv_0", train)
        y = apply_norm(self.norm, y, train=train, name="norm_0")
        self.sow("intermediates", "preactivation_0", y)
        y = self._conv(self.activation(y), 3, 1, "conv_1", train)
        y = apply_norm(self.norm, y, train=train, name="norm_1", **last)
        y = y + self._shortcut(x, train)
        self.sow("intermediates", "preactivation_1", y)
        return self.activation(y)

    def _conv(self, x: Array, size: int, strides: int, name: str, train: bool) -> Array:
        conv = nn.Conv(
            self.width,
            (size, size),
            strides,
            padding=size // 2,
            use_bias=has_own_bias(self.norm, None),
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name=name,
        )
        return apply_kernel_norm(self.kernel_norm, conv, x, train=train)

    def _shortcut(self, x: Array, train: bool) -> Array:
        changes = self.strides != 1 or self.width != x.shape[-1]
        if changes and self.shortcut == "projection":
            projected = self._conv(x, 1, self.strides, "conv_shortcut", train)
            return apply_norm(self.norm, projected, train=train, name="norm_shortcut")
        return padded_shortcut(x, self.width, self.strides, self.shortcut)


def padded_shortcut(x: Array, width: int, strides: int, shortcut: Shortcut) -> Array:
    """Returns x subsampled, with channels of zeros behind its own; x itself where nothing changes.

    Args:
        x: [N, H, W, C].
        width: channels of the result, at least C.
        strides: the spatial stride.
        shortcut: the name of the shortcut, which is checked.

    Returns:
        [N, H', W', width] with H' = ceil(H / strides).

    Raises:
        ValueError: see `check_shortcut`.

    Examples:
        >>> padded_shortcut(jnp.ones((1, 2, 2, 1)), 2, 2, "identity").ravel()
        Array([1., 0.], dtype=float32)
    """
    check_shortcut(x.shape[-1], width, shortcut)
    missing = width - x.shape[-1]
    if strides == 1 and missing == 0:
        return x
    return jnp.pad(x[:, ::strides, ::strides], ((0, 0), (0, 0), (0, 0), (0, missing)))


def check_shortcut(in_features: int, width: int, shortcut: Shortcut) -> None:
    """Raises an error where a shortcut is unknown, or would have to drop channels.

    Args:
        in_features: channels of the input.
        width: channels of the output.
        shortcut: its name.

    Raises:
        ValueError: the shortcut has an unknown name, or is the identity and cannot narrow.

    Examples:
        >>> check_shortcut(4, 8, "identity")
    """
    if shortcut not in ("identity", "projection"):
        raise ValueError(f'shortcut={shortcut!r} is unknown; use "identity" or "projection"')
    if shortcut == "identity" and width < in_features:
        raise ValueError(
            f'shortcut="identity" pads channels and cannot narrow {in_features} of them to '
            f'width={width}; use non-decreasing widths or shortcut="projection"'
        )


def check_stages(stage_sizes: Sequence[int], widths: Sequence[int]) -> None:
    """Raises an error where stages and widths differ in number.

    Args:
        stage_sizes: the number of blocks of each stage.
        widths: the channels of each stage.

    Raises:
        ValueError: they differ in number.

    Examples:
        >>> check_stages((1, 1), (4, 8))
    """
    if len(stage_sizes) != len(widths):
        raise ValueError(
            f"stage_sizes={tuple(stage_sizes)} has {len(stage_sizes)} stages, but "
            f"widths={tuple(widths)} has {len(widths)}; give one width per stage"
        )


class ResNet(nn.Module):
    """A residual network for small images: a 3x3 stem, stages of basic blocks, mean pool, dense.

    He et al., Deep Residual Learning for Image Recognition (arXiv:1512.03385, 2015), section 4.2.
    Each stage but the first halves the map. `resnet_20` and `resnet_18` are the published sizes.

    Args:
        stage_sizes: the number of basic blocks of each stage.
        widths: the channels of each stage.
        num_outputs: the width of the output.
        norm: makes every norm, or its name (see `apply_norm`); None for none.
        activation: the nonlinearity.
        shortcut: "identity" (padded with zeros) or "projection" where the shape changes.
        zero_init_residual: whether the last norm of each block starts with a scale of zero.
        kernel_init: initializer of the convolutions' kernels.
        dtype: computation dtype of the convolutions; None for that of the input and parameters.
            The output is float32 or wider.
        kernel_norm: wraps each convolution (see `apply_kernel_norm`); None for none. Weight
            standardization with group norm is "weight_standardization" with
            `norm=functools.partial(jaxnorm.linen.GroupNorm, num_groups=8)`.

    Returns:
        The module. A call on x [N, H, W, C] with `train=False` returns [N, num_outputs].

    Examples:
        >>> import jax
        >>> model = ResNet(stage_sizes=(1, 1), widths=(4, 8), num_outputs=10)
        >>> y, _ = model.init_with_output(jax.random.key(0), jax.numpy.ones((2, 8, 8, 3)))
        >>> y.shape
        (2, 10)
    """

    stage_sizes: Sequence[int]
    widths: Sequence[int]
    num_outputs: int
    norm: NormFactory | str | None = BatchNorm
    activation: Activation = nn.relu
    shortcut: Shortcut = "identity"
    zero_init_residual: bool = False
    kernel_init: Initializer = he_fan_out
    dtype: DTypeLike | None = None
    kernel_norm: NormFactory | str | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Returns the outputs of the network.

        Args:
            x: [N, H, W, C].
            train: whether batch statistics are used, and running averages updated.

        Returns:
            [N, num_outputs], float32 or wider.

        Raises:
            ValueError: x is not a batch of images, or the stages and widths differ in number.

        Examples:
            >>> import jax
            >>> x, model = jax.numpy.ones((2, 4, 4, 1)), ResNet((1,), (4,), num_outputs=3)
            >>> model.apply(model.init(jax.random.key(0), x), x).shape
            (2, 3)
        """
        if x.ndim != 4:
            raise ValueError(f"ResNet needs images [N, H, W, C], got x {list(x.shape)}")
        check_stages(self.stage_sizes, self.widths)
        stem = functools.partial(nn.Conv, kernel_init=self.kernel_init, dtype=self.dtype)
        use_bias = has_own_bias(self.norm, None)
        conv = stem(self.widths[0], (3, 3), padding=1, use_bias=use_bias, name="conv_stem")
        x = apply_kernel_norm(self.kernel_norm, conv, x, train=train)
        x = apply_norm(self.norm, x, train=train, name="norm_stem")
        self.sow("intermediates", "preactivation_stem", x)
        x = self.activation(x)
        for stage, (blocks, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            for block in range(blocks):
                strides = 2 if stage > 0 and block == 0 else 1
                x = self._block(width, strides, f"stage_{stage}_block_{block}")(x, train=train)
        return nn.Dense(self.num_outputs, name="output")(jnp.mean(x, axis=(1, 2)))

    def _block(self, width: int, strides: int, name: str) -> BasicBlock:
        return BasicBlock(
            width,
            strides,
            norm=self.norm,
            activation=self.activation,
            shortcut=self.shortcut,
            zero_init_residual=self.zero_init_residual,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            kernel_norm=self.kernel_norm,
            name=name,
        )
