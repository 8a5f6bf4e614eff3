"""The published sizes of residual networks for 32 x 32 images."""

from typing import Any

from jaxnorm.models._resnet import ResNet


def resnet_20(num_outputs: int = 10, **fields: Any) -> ResNet:
    """Returns the 20-layer residual network for CIFAR-10, of 0.27 million parameters.

    Three stages of three basic blocks with 16, 32 and 64 channels and shortcuts padded with zeros:
    He et al., Deep Residual Learning for Image Recognition (arXiv:1512.03385, 2015), table 6.

    Args:
        num_outputs: the width of the output.
        **fields: further fields of `ResNet`, for example `norm`.

    Returns:
        The module, for images [N, 32, 32, 3].

    Examples:
        >>> resnet_20(norm=None).stage_sizes
        (3, 3, 3)
    """
    return ResNet((3, 3, 3), (16, 32, 64), num_outputs, **fields)


def resnet_18(num_outputs: int = 10, **fields: Any) -> ResNet:
    """Returns the 18-layer residual network with a stem for small images, 11.2 million parameters.

    Four stages of two basic blocks with 64 to 512 channels and projection shortcuts: table 1 of
    He et al. (arXiv:1512.03385, 2015), its 7x7 stem and max-pool replaced by a 3x3 convolution.

    Args:
        num_outputs: the width of the output.
        **fields: further fields of `ResNet`, for example `norm`.

    Returns:
        The module, for images [N, 32, 32, 3].

    Examples:
        >>> resnet_18(num_outputs=100).widths
        (64, 128, 256, 512)
    """
    fields = {"shortcut": "projection", **fields}
    return ResNet((2, 2, 2, 2), (64, 128, 256, 512), num_outputs, **fields)
