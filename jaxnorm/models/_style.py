"""A feed-forward network that renders images in a style, with the normalization as an argument."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxnorm.functional import adaptive_instance_norm
from jaxnorm.linen import InstanceNorm
from jaxnorm.models._norms import NormFactory, apply_norm, has_own_bias
from jaxnorm.typing import Array, DTypeLike


class StyleNet(nn.Module):
    """An image transformation network: two strides down, residual blocks, two steps up.

    Johnson et al., Perceptual Losses for Real-Time Style Transfer and Super-Resolution
    (arXiv:1603.08155, 2016), supplementary material, table 1, with instance norm in the place of
    batch norm (Ulyanov et al., arXiv:1607.08022, 2016), reflections at every border, and
    nearest-neighbour upsampling before a convolution in the place of a transposed one (Odena et
    al., Deconvolution and Checkerboard Artifacts, Distill, 2016).

    Args:
        widths: channels at full, half and quarter resolution.
        blocks: residual blocks, at quarter resolution.
        norm: makes every norm (see `apply_norm`); None for none.
        dtype: computation dtype of the convolutions; None for that of the input and parameters.

    Returns:
        The module. A call on images [N, H, W, C] from -1 to 1, H and W multiples of 4, returns
        images of the same shape and range. With the published sizes it has 1.68 million parameters.

    Examples:
        >>> import jax
        >>> model = StyleNet(widths=(4, 8, 8), blocks=1)
        >>> y, _ = model.init_with_output(jax.random.key(0), jnp.zeros((1, 8, 12, 3)))
        >>> y.shape
        (1, 8, 12, 3)
    """

    widths: Sequence[int] = (32, 64, 128)
    blocks: int = 5
    norm: NormFactory | None = InstanceNorm
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, style: Array | None = None, *, train: bool = False) -> Array:
        """Returns the images in the style.

        Args:
            x: [N, H, W, C], from -1 to 1, H and W multiples of 4.
            style: [N, H', W', C], images whose features give the scale and shift of an adaptive
                instance norm before the residual blocks; None for a style that is learned.
            train: whether batch statistics are used, and running averages updated.

        Returns:
            [N, H, W, C], from -1 to 1.

        Raises:
            ValueError: x is not a batch of images, or a side is no multiple of 4.

        Examples:
            >>> import jax
            >>> model, x = StyleNet(widths=(4, 8, 8), blocks=1), jnp.zeros((2, 8, 8, 3))
            >>> model.apply(model.init(jax.random.key(0), x), x, jnp.ones((2, 4, 4, 3))).shape
            (2, 8, 8, 3)
        """
        if x.ndim != 4 or x.shape[1] % 4 or x.shape[2] % 4:
            raise ValueError(
                f"StyleNet needs images [N, H, W, C] with sides that are multiples of 4, got x "
                f"{list(x.shape)}; crop or resize them"
            )
        channels = x.shape[-1]
        down = [(9, 1), (3, 2), (3, 2)]
        layers = [
            _ConvNorm(width, size, stride, norm=self.norm, dtype=self.dtype, name=f"down_{i}")
            for i, (width, (size, stride)) in enumerate(zip(self.widths, down, strict=True))
        ]
        for layer in layers:
            x = layer(x, train=train)
            style = None if style is None else layer(style, train=train)
        if style is not None:
            x = adaptive_instance_norm(x, style)
        for i in range(self.blocks):
            x = _Residual(self.widths[-1], self.norm, self.dtype, name=f"block_{i}")(x, train=train)
        for i, width in enumerate(reversed(self.widths[:-1])):
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            x = _ConvNorm(width, 3, 1, norm=self.norm, dtype=self.dtype, name=f"up_{i}")(
                x, train=train
            )
        return jnp.tanh(_conv(x, channels, 9, 1, True, self.dtype, "output"))


class _ConvNorm(nn.Module):
    """Convolution, norm and ReLU."""

    width: int
    size: int
    stride: int
    norm: NormFactory | None = None
    dtype: DTypeLike | None = None
    activate: bool = True

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        use_bias = has_own_bias(self.norm, None)
        x = _conv(x, self.width, self.size, self.stride, use_bias, self.dtype, "conv")
        x = apply_norm(self.norm, x, train=train, name="norm")
        return nn.relu(x) if self.activate else x


class _Residual(nn.Module):
    """x + norm(conv(relu(norm(conv(x)))))."""

    width: int
    norm: NormFactory | None
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        y = _ConvNorm(self.width, 3, 1, self.norm, self.dtype, name="first")(x, train=train)
        second = _ConvNorm(self.width, 3, 1, self.norm, self.dtype, activate=False, name="second")
        return x + second(y, train=train)


def _conv(
    x: Array, width: int, size: int, stride: int, use_bias: bool, dtype: DTypeLike | None, name: str
) -> Array:
    """Returns a convolution whose input is reflected at the borders, in a compact method."""
    margin = size // 2
    x = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")
    conv = nn.Conv(
        width, (size, size), stride, padding="VALID", use_bias=use_bias, dtype=dtype, name=name
    )
    return conv(x)
