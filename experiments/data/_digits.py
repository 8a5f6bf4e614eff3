"""Digits: 1 797 real handwritten digits of 8 x 8 pixels that come with scikit-learn."""

from typing import Any

import numpy as np

from ._arrays import Dataset


def digits() -> Dataset:
    """Return the digits, every fifth one (360) as test data.

    Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    1998. The digits need no file and no network.
    """
    from sklearn.datasets import load_digits  # imported here, since the import takes a second

    bunch: Any = load_digits()
    images = bunch.images.astype(np.uint8)[..., np.newaxis]
    labels = bunch.target.astype(np.int32)
    test = np.arange(len(labels)) % 5 == 0
    return Dataset(
        name="digits",
        train_images=images[~test],
        train_labels=labels[~test],
        test_images=images[test],
        test_labels=labels[test],
        classes=tuple(str(name) for name in bunch.target_names),
        white=16,
        note="digits as shipped with scikit-learn, every fifth image held out",
    )
