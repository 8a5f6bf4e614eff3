"""The plain convolutional networks of Simonyan and Zisserman, and a small one in their manner.

Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv:1409.1556, 2014.
"""

from typing import Any

from jaxnorm.models._cnn import CNN


def vgg_small(num_outputs: int = 10, **fields: Any) -> CNN:
    """Returns a small VGG-like network for 32 x 32 images, of 0.31 million parameters.

    Three stages of two 3x3 convolutions with 32, 64 and 128 channels, each ended by a 2x2 max-pool,
    then one dense layer: the structure of `vgg_16` at the size of CIFAR-10.

    Args:
        num_outputs: the width of the output.
        **fields: further fields of `CNN`, for example `norm` or narrower `stages`.

    Returns:
        The module, for images [N, 32, 32, 3].

    Examples:
        >>> vgg_small().stages
        ((32, 32), (64, 64), (128, 128))
    """
    return CNN(
        num_outputs, **{"stages": ((32,) * 2, (64,) * 2, (128,) * 2), "features": ()} | fields
    )


def vgg_11(num_outputs: int = 1000, **fields: Any) -> CNN:
    """Returns the 11-layer network, of 133 million parameters (configuration A of table 1).

    Five stages of 1, 1, 2, 2 and 2 convolutions and two hidden dense layers of 4096 units, with
    dropout after each of them in training (section 3.1), under the rng `dropout`.

    Args:
        num_outputs: the width of the output.
        **fields: further fields of `CNN`, for example `norm`.

    Returns:
        The module, for images [N, 224, 224, 3].

    Examples:
        >>> vgg_11().stages
        ((64,), (128,), (256, 256), (512, 512), (512, 512))
    """
    return _published((1, 1, 2, 2, 2), num_outputs, fields)


def vgg_16(num_outputs: int = 1000, **fields: Any) -> CNN:
    """Returns the 16-layer network, of 138 million parameters (configuration D of table 1).

    Five stages of 2, 2, 3, 3 and 3 convolutions and two hidden dense layers of 4096 units, with
    dropout after each of them in training (section 3.1), under the rng `dropout`.

    Args:
        num_outputs: the width of the output.
        **fields: further fields of `CNN`, for example `norm`.

    Returns:
        The module, for images [N, 224, 224, 3].

    Examples:
        >>> len([width for stage in vgg_16().stages for width in stage])
        13
    """
    return _published((2, 2, 3, 3, 3), num_outputs, fields)


def _published(depths: tuple[int, ...], num_outputs: int, fields: dict[str, Any]) -> CNN:
    widths = (64, 128, 256, 512, 512)
    stages = tuple((width,) * depth for width, depth in zip(widths, depths, strict=True))
    published = {"stages": stages, "features": (4096, 4096), "dropout_rate": 0.5}
    return CNN(num_outputs, **published | fields)
