"""The two convolutional networks of a DCGAN with the normalization as an argument."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from jaxnorm.linen import BatchNorm, SpectralNorm
from jaxnorm.models._norms import NormFactory, apply_norm, has_own_bias
from jaxnorm.typing import Array

small_normal = nn.initializers.normal(0.02)


class DCGANGenerator(nn.Module):
    """Makes images of noise: a projection to a small map, then convolutions that double it.

    Radford et al., Unsupervised Representation Learning with Deep Convolutional Generative
    Adversarial Networks (arXiv:1511.06434, 2015), figure 1: transposed 5x5 convolutions of stride
    2, a norm and ReLU after each layer but the last, whose output is a tanh; weights start from a
    Gaussian of standard deviation 0.02. The defaults are the paper's size, for 64 pixels.

    Args:
        widths: channels of the projection and of each convolution but the last.
        start: the height and width of the projection; each layer after it doubles them.
        channels: of the images.
        norm: makes every norm (see `apply_norm`); None for none.

    Returns:
        The module. A call on noise z [N, Z] returns images [N, H, W, channels] from -1 to 1, with
        H = start[0] * 2 ** len(widths).

    Examples:
        >>> import jax
        >>> model = DCGANGenerator(widths=(8, 4), start=(7, 7), channels=1)
        >>> y, _ = model.init_with_output(jax.random.key(0), jnp.zeros((2, 10)))
        >>> y.shape
        (2, 28, 28, 1)
    """

    widths: Sequence[int] = (1024, 512, 256, 128)
    start: tuple[int, int] = (4, 4)
    channels: int = 3
    norm: NormFactory | None = BatchNorm

    @nn.compact
    def __call__(self, z: Array, *, train: bool = False) -> Array:
        """Returns images.

        Args:
            z: [N, Z], noise.
            train: whether batch statistics are used, and running averages updated.

        Returns:
            [N, H, W, channels], from -1 to 1.

        Raises:
            ValueError: z is not a matrix.

        Examples:
            >>> import jax
            >>> model, z = DCGANGenerator(widths=(4,), start=(2, 2)), jnp.ones((3, 5))
            >>> model.apply(model.init(jax.random.key(0), z), z).shape
            (3, 4, 4, 3)
        """
        if z.ndim != 2:
            raise ValueError(f"DCGANGenerator needs noise [N, Z], got z {list(z.shape)}")
        use_bias = has_own_bias(self.norm, None)
        size = self.start[0] * self.start[1] * self.widths[0]
        x = nn.Dense(size, use_bias=use_bias, kernel_init=small_normal, name="project")(z)
        x = x.reshape(len(z), *self.start, self.widths[0])
        for i, width in enumerate([*self.widths[1:], self.channels]):
            x = nn.relu(apply_norm(self.norm, x, train=train, name=f"norm_{i}"))
            last = i == len(self.widths) - 1
            x = nn.ConvTranspose(
                width,
                (5, 5),
                (2, 2),
                use_bias=last or use_bias,
                kernel_init=small_normal,
                name=f"up_{i}",
            )(x)
        return jnp.tanh(x)


class DCGANDiscriminator(nn.Module):
    """Tells images from made ones: 5x5 convolutions of stride 2, then one number.

    The mirror image of `DCGANGenerator` (Radford et al., arXiv:1511.06434, 2015, section 3): leaky
    ReLU of slope 0.2, and no norm after the first convolution. With `spectral` every kernel is
    divided by its largest singular value instead (Miyato et al., arXiv:1802.05957, 2018).

    Args:
        widths: channels of each convolution.
        norm: makes every norm (see `apply_norm`); None for none.
        spectral: whether kernels are spectrally normalized.

    Returns:
        The module. A call on images [N, H, W, C] returns logits [N], positive for real images.

    Examples:
        >>> import jax
        >>> model = DCGANDiscriminator(widths=(4, 8), norm=None, spectral=True)
        >>> y, _ = model.init_with_output(jax.random.key(0), jnp.zeros((2, 28, 28, 1)))
        >>> y.shape
        (2,)
    """

    widths: Sequence[int] = (128, 256, 512, 1024)
    norm: NormFactory | None = BatchNorm
    spectral: bool = False

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Returns the logits.

        Args:
            x: [N, H, W, C].
            train: whether batch statistics are used, and running averages and singular vectors
                updated.

        Returns:
            [N], positive for images that look real.

        Raises:
            ValueError: x is not a batch of images.

        Examples:
            >>> import jax
            >>> model, x = DCGANDiscriminator(widths=(4,)), jnp.ones((3, 8, 8, 1))
            >>> model.apply(model.init(jax.random.key(0), x), x).shape
            (3,)
        """
        if x.ndim != 4:
            raise ValueError(f"DCGANDiscriminator needs images [N, H, W, C], got x {list(x.shape)}")
        for i, width in enumerate(self.widths):
            norm = None if i == 0 else self.norm
            conv = nn.Conv(
                width,
                (5, 5),
                (2, 2),
                use_bias=has_own_bias(norm, None),
                kernel_init=small_normal,
                name=f"down_{i}",
            )
            x = apply_norm(norm, self._layer(conv, x, train), train=train, name=f"norm_{i}")
            x = nn.leaky_relu(x, 0.2)
        score = nn.Dense(1, kernel_init=small_normal, name="score")
        return self._layer(score, x.reshape(len(x), -1), train)[:, 0]

    def _layer(self, layer: nn.Module, x: Array, train: bool) -> Array:
        if not self.spectral:
            return layer(x)  # type: ignore[operator]  # a linen module is called
        return SpectralNorm(layer, name=f"{layer.name}_spectral")(x, update_stats=train)
