"""A labelled image data set that fits in memory."""

from typing import NamedTuple

import numpy as np


class Dataset(NamedTuple):
    """Images and labels as published, split into training and test examples.

    Examples:
        >>> from experiments.data import load
        >>> digits = load("digits")
        >>> digits.train_images.shape, digits.train_images.max(), digits.white
        ((1437, 8, 8, 1), np.uint8(16), 16)
    """

    name: str
    train_images: np.ndarray  # [N, H, W, C] uint8, from 0 to white
    train_labels: np.ndarray  # [N] int32
    test_images: np.ndarray  # [M, H, W, C] uint8
    test_labels: np.ndarray  # [M] int32
    classes: tuple[str, ...]
    white: int  # largest value that a pixel can have
    note: str  # whether the bytes are the published ones, or how they differ

    def head(self, train: int, test: int) -> "Dataset":
        """Return the same data with only the first `train` and `test` examples."""
        return self._replace(
            train_images=self.train_images[:train],
            train_labels=self.train_labels[:train],
            test_images=self.test_images[:test],
            test_labels=self.test_labels[:test],
        )
