"""The data sets by name."""

from collections.abc import Callable
from pathlib import Path

from ._arrays import Dataset
from ._cifar10 import cifar10
from ._digits import digits
from ._folders import ImageFolder, imagenet, tiny_imagenet, tiny_imagenet_arrays
from ._mnist import mnist

DATASETS: dict[str, Callable[[Path], Dataset]] = {
    "digits": lambda data_dir: digits(),
    "mnist": mnist,
    "cifar10": cifar10,
    "tiny-imagenet": tiny_imagenet_arrays,
}

FOLDERS: dict[str, Callable[[Path], tuple[ImageFolder, ImageFolder]]] = {
    "imagenet": imagenet,
    "tiny-imagenet": tiny_imagenet,
}


def load_folders(name: str, data_dir: Path = Path("data")) -> tuple[ImageFolder, ImageFolder]:
    """Return the training and validation files of a data set by name, without opening them.

    Args:
        name: one of `FOLDERS`: imagenet, tiny-imagenet.
        data_dir: the folder that holds `imagenet/` and `tiny-imagenet-200/`.

    Raises:
        ValueError: there is no data set of image files with this name.
        DataError: the files are missing and cannot be downloaded, or have another layout.
    """
    if name not in FOLDERS:
        raise ValueError(f"no image folders {name!r}; use one of {', '.join(FOLDERS)}")
    return FOLDERS[name](data_dir)


def load(name: str, data_dir: Path = Path("data")) -> Dataset:
    """Return a data set by name, and download its published files where they are missing.

    Args:
        name: one of `DATASETS`: digits, mnist, cifar10, tiny-imagenet.
        data_dir: the folder that holds `mnist/`, `cifar-10-batches-bin/`, `tiny-imagenet-200/`.

    Raises:
        ValueError: there is no data set of this name.
        DataError: the files are missing and cannot be downloaded, or are truncated or corrupt.

    Examples:
        >>> load("digits").test_images.shape
        (360, 8, 8, 1)
    """
    if name not in DATASETS:
        raise ValueError(f"no data set {name!r}; use one of {', '.join(DATASETS)}")
    return DATASETS[name](data_dir)
