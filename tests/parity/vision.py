"""ResNet-18 and MobileNetV2 in PyTorch with torchvision's names, and the same networks in Flax.

He et al., arXiv:1512.03385, 2015. Sandler et al., MobileNetV2, arXiv:1801.04381, 2018.
"""

import re

import flax.linen as nn
import jax.numpy as jnp
import torch
from torch import nn as tnn

from jaxnorm.linen import BatchNorm
from jaxnorm.stats import ema

KEEP = ema(0.9, unbiased=True)  # PyTorch's momentum of 0.1
STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
# Expansion, channels, blocks, stride: table 2 of the paper.
INVERTED = (
    *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
    *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)


class TorchBlock(tnn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = tnn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = tnn.BatchNorm2d(width)
        self.conv2 = tnn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = tnn.BatchNorm2d(width)
        shortcut = (tnn.Conv2d(inputs, width, 1, stride, bias=False), tnn.BatchNorm2d(width))
        self.downsample = tnn.Sequential(*shortcut) if stride != 1 else None

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn2(self.conv2(y)) + shortcut)


class TorchResNet18(tnn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1 = tnn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = tnn.BatchNorm2d(64)
        inputs = 64
        for i, (width, stride) in enumerate(STAGES, 1):
            blocks = TorchBlock(inputs, width, stride), TorchBlock(width, width, 1)
            setattr(self, f"layer{i}", tnn.Sequential(*blocks))
            inputs = width
        self.fc = tnn.Linear(512, classes)

    def forward(self, x):
        x = tnn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
        return self.fc(x.mean((2, 3)))


def conv(width, size, stride, name, groups=1):
    """Returns a convolution that pads as PyTorch does: "SAME" with a stride would not."""
    options = {"padding": size // 2, "use_bias": False, "feature_group_count": groups}
    return nn.Conv(width, (size, size), stride, **options, name=name)


def norm(train, name):
    return BatchNorm(use_running_average=not train, estimator=KEEP, name=name)


class FlaxBlock(nn.Module):
    width: int
    stride: int

    @nn.compact
    def __call__(self, x, train):
        y = nn.relu(norm(train, "norm_0")(conv(self.width, 3, self.stride, "conv_0")(x)))
        y = norm(train, "norm_1")(conv(self.width, 3, 1, "conv_1")(y))
        if self.stride != 1:
            x = conv(self.width, 1, self.stride, "conv_shortcut")(x)
            x = norm(train, "norm_shortcut")(x)
        return nn.relu(y + x)


class FlaxResNet18(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(norm(train, "norm_stem")(conv(64, 7, 2, "conv_stem")(x)))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for i, (width, stride) in enumerate(STAGES):
            x = FlaxBlock(width, stride, name=f"stage_{i}_block_0")(x, train)
            x = FlaxBlock(width, 1, name=f"stage_{i}_block_1")(x, train)
        return nn.Dense(self.classes, name="output")(jnp.mean(x, (1, 2)))


def resnet_names(layer):
    """Returns our name of a layer of torchvision's ResNet."""
    stem = {"conv1": "conv_stem", "bn1": "norm_stem", "fc": "output"}
    if layer in stem:
        return stem[layer]
    stage, block, inner = re.fullmatch(r"layer(\d)\.(\d)\.(.*)", layer).groups()
    parts = {"downsample.0": "conv_shortcut", "downsample.1": "norm_shortcut"}
    parts |= {"conv1": "conv_0", "conv2": "conv_1", "bn1": "norm_0", "bn2": "norm_1"}
    return f"stage_{int(stage) - 1}_block_{block}/{parts[inner]}"


def torch_unit(inputs, width, size, stride=1, groups=1):
    layer = tnn.Conv2d(inputs, width, size, stride, size // 2, groups=groups, bias=False)
    return tnn.Sequential(layer, tnn.BatchNorm2d(width), tnn.ReLU6())


class TorchInverted(tnn.Module):
    def __init__(self, inputs, width, stride, expansion):
        super().__init__()
        wide = inputs * expansion
        self.residual = stride == 1 and inputs == width
        self.conv = tnn.Sequential(
            *([torch_unit(inputs, wide, 1)] if expansion != 1 else []),
            torch_unit(wide, wide, 3, stride, groups=wide),
            tnn.Conv2d(wide, width, 1, bias=False),
            tnn.BatchNorm2d(width),
        )

    def forward(self, x):
        return x + self.conv(x) if self.residual else self.conv(x)


def inverted_blocks():
    """Yields inputs, width, stride and expansion of each block."""
    inputs = 32
    for expansion, width, blocks, stride in INVERTED:
        for block in range(blocks):
            yield inputs, width, stride if block == 0 else 1, expansion
            inputs = width


class TorchMobileNet(tnn.Module):
    def __init__(self, classes):
        super().__init__()
        blocks = [TorchInverted(*sizes) for sizes in inverted_blocks()]
        self.features = tnn.Sequential(torch_unit(3, 32, 3, 2), *blocks, torch_unit(320, 1280, 1))
        self.classifier = tnn.Sequential(tnn.Dropout(0.2), tnn.Linear(1280, classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class FlaxMobileNet(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, train=False):
        def unit(x, width, size, stride, name, groups=1, act=True):
            x = norm(train, f"norm_{name}")(conv(width, size, stride, f"conv_{name}", groups)(x))
            return jnp.clip(x, 0, 6) if act else x

        x = unit(x, 32, 3, 2, "0")
        for i, (inputs, width, stride, expansion) in enumerate(inverted_blocks(), 1):
            wide = inputs * expansion
            y = unit(x, wide, 1, 1, f"{i}_expand") if expansion != 1 else x
            y = unit(y, wide, 3, stride, f"{i}_depthwise", groups=wide)
            y = unit(y, width, 1, 1, f"{i}_project", act=False)
            x = x + y if stride == 1 and inputs == width else y
        x = unit(x, 1280, 1, 1, "18")
        return nn.Dense(self.classes, name="output")(jnp.mean(x, (1, 2)))


def mobilenet_names(layer):
    """Returns our name of a layer of torchvision's MobileNetV2."""
    if layer == "classifier.1":
        return "output"
    _, block, *inner = layer.split(".")
    if block in ("0", "18"):
        return f"{('conv', 'norm')[int(inner[0])]}_{block}"
    inner = list(map(int, inner[1:]))
    steps = ("depthwise", "project") if block == "1" else ("expand", "depthwise", "project")
    last = len(steps) - 1
    if inner[0] < last:
        return f"{('conv', 'norm')[inner[1]]}_{block}_{steps[inner[0]]}"
    return f"{('conv', 'norm')[inner[0] - last]}_{block}_{steps[last]}"
