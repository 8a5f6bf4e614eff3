"""The cases of the benchmark: members of the library at sizes from real models."""

from typing import Literal, NamedTuple

import numpy as np

Member = Literal["layer", "rms", "batch", "batch_eval", "group", "instance", "ghost"]
Pass = Literal["forward", "both"]
PASSES: tuple[Pass, Pass] = ("forward", "both")

NUM_GROUPS = 32
GHOST_BATCH_SIZE = 8
EPSILON = 1e-5


class Case(NamedTuple):
    """One input of one normalizer."""

    member: Member
    shape: tuple[int, ...]  # channels last
    origin: str  # the model that has this size

    @property
    def size(self) -> str:
        """The shape as tables have it."""
        return "x".join(map(str, self.shape))

    @property
    def label(self) -> str:
        """The member and its shape."""
        return f"{self.member} {self.size}"


TINY = (
    Case("layer", (8, 64), "dispatch"),
    Case("batch", (8, 64), "dispatch"),
)
CORE = (
    Case("layer", (8192, 1024), "transformer"),
    Case("rms", (8192, 1024), "transformer"),
    Case("batch", (32, 56, 56, 64), "ResNet-50"),
    Case("group", (32, 56, 56, 64), "ResNet-50"),
    Case("instance", (32, 56, 56, 64), "ResNet-50"),
)
MODELS = (
    Case("batch", (32, 28, 28, 128), "ResNet-50"),
    Case("batch", (32, 14, 14, 1024), "ResNet-50"),
    Case("batch", (32, 7, 7, 2048), "ResNet-50"),
    Case("batch_eval", (32, 56, 56, 64), "ResNet-50"),
    Case("ghost", (32, 56, 56, 64), "ResNet-50"),
    Case("layer", (6304, 768), "ViT-B"),
    Case("layer", (2048, 4096), "7B transformer"),
    Case("rms", (2048, 4096), "7B transformer"),
    Case("group", (4, 64, 64, 320), "diffusion U-Net"),
    Case("group", (4, 32, 32, 640), "diffusion U-Net"),
)


def reduced_axes(case: Case) -> tuple[int, ...]:
    """Return the axes that one statistic is taken over, in the view of `reference`."""
    if case.member in ("layer", "rms"):
        return (len(case.shape) - 1,)
    if case.member in ("instance", "group"):
        return tuple(range(1, len(case.shape) - 1))
    return tuple(range(len(case.shape) - 1))


def reference(case: Case, x: np.ndarray) -> np.ndarray:
    """Return the normalized array in float64, with scale one and bias zero."""
    x = x.astype(np.float64)
    view = x
    axes = reduced_axes(case)
    if case.member == "group":
        view = x.reshape(*x.shape[:-1], NUM_GROUPS, -1)
        axes = (*axes, view.ndim - 1)
    elif case.member == "ghost":
        view = x.reshape(-1, GHOST_BATCH_SIZE, *x.shape[1:])
        axes = tuple(range(1, view.ndim - 1))
    if case.member == "batch_eval":
        return x / np.sqrt(1 + EPSILON)
    mean = 0.0 if case.member == "rms" else view.mean(axes, keepdims=True)
    var = np.mean((view - mean) ** 2, axes, keepdims=True)
    return ((view - mean) / np.sqrt(var + EPSILON)).reshape(x.shape)


def passes_over_memory(case: Case, direction: Pass) -> float:
    """Return the least number of arrays of the size of `x` that must be read or written.

    Rows fit in the cache, so one read serves statistics and output. They take two arrays forward
    and three backward. Large samples of columns (batch, instance, group) do not fit in the cache.
    They take one more read of each input.
    """
    rows = case.member in ("layer", "rms", "batch_eval")
    sample = np.prod([case.shape[axis] for axis in reduced_axes(case)]) * case.shape[-1]
    streamed = not rows and sample * 4 > 2**20
    forward = 3 if streamed else 2
    return forward if direction == "forward" else forward + (5 if streamed else 3)
