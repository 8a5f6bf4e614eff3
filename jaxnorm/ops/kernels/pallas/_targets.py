"""For what a Pallas kernel is compiled."""

from typing import Literal

Target = Literal["gpu", "tpu", "gpu_interpreted", "tpu_interpreted"]
"""A GPU by Triton, a TPU by Mosaic, or either's kernel in Pallas' interpreter, for tests."""


def is_gpu(target: Target) -> bool:
    """Returns whether a kernel is written for Triton: it then masks what it loads and stores.

    Args:
        target: what it is compiled for.

    Returns:
        False where it is written for Mosaic, which cuts arrays into blocks by itself.

    Examples:
        >>> is_gpu("gpu_interpreted"), is_gpu("tpu")
        (True, False)
    """
    return target.startswith("gpu")
