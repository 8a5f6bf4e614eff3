"""CIFAR-10 in its published binary layout. The pickled Python version is never read.

Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

import tarfile
from pathlib import Path

import numpy as np

from ._arrays import Dataset
from ._files import DataError, Remote, download, missing, read_bytes

ARCHIVE = Remote(
    "cifar-10-binary.tar.gz",
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    "c32a1d4ab5d03f1284b67883e8d87530",
    163,
)
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_FOLDER = "cifar-10-batches-bin"
_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_TEST = "test_batch.bin"
_RECORD = 1 + 3 * 32 * 32  # the label, then the red, green and blue planes

# The published checksum is that of the archive. The training pixels' channel means over 255 are
# published to eight digits, and tell published pixels from re-encoded ones.
_PUBLISHED_MEANS = (0.49139968, 0.48215841, 0.44653091)


def parse_batch(data: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and labels of one binary batch.

    Args:
        data: the file's bytes.
        path: the file, for the error.

    Returns:
        Images [N, 32, 32, 3] uint8 and labels [N] int32.

    Raises:
        DataError: the length is not a whole number of records, or a label is above 9.
    """
    if not data or len(data) % _RECORD:
        raise DataError(
            f"{path} is truncated or corrupt: {len(data)} bytes are not a whole number of records "
            f"of {_RECORD} bytes (1 label, 3072 pixels); the published file has 30730000"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, _RECORD)
    if records[:, 0].max() > 9:
        raise DataError(f"{path} is corrupt: it has a label {records[:, 0].max()}, above 9")
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int32)


def cifar10(data_dir: Path) -> Dataset:
    """Return CIFAR-10 from `data_dir/cifar-10-batches-bin`, downloaded first where it is missing.

    Other pixels, for example re-encoded as JPEG, load too, and `note` says that they are not the
    published ones.

    Raises:
        DataError: a file is missing and cannot be downloaded, or is truncated or corrupt.
    """
    folder = data_dir / _FOLDER
    wanted = [folder / name for name in (*_TRAIN, _TEST)]
    if not all(path.is_file() for path in wanted):
        try:
            _unpack(download(ARCHIVE, data_dir), data_dir)
        except DataError as error:
            raise missing("CIFAR-10", wanted, ARCHIVE.urls, str(error)) from error
    batches = [parse_batch(read_bytes(path), path) for path in wanted]
    train_images = np.concatenate([images for images, _ in batches[:-1]])
    means = train_images.mean((0, 1, 2), dtype=np.float64) / 255
    original = np.abs(means - _PUBLISHED_MEANS).max() < 1e-6
    return Dataset(
        name="cifar10",
        train_images=train_images,
        train_labels=np.concatenate([labels for _, labels in batches[:-1]]),
        test_images=batches[-1][0],
        test_labels=batches[-1][1],
        classes=CLASSES,
        white=255,
        note="CIFAR-10 with the published pixels"
        if original
        else "not the published CIFAR-10 pixels (re-encoded, or a part of them): the training "
        f"means are {means.round(5).tolist()}, published {list(_PUBLISHED_MEANS)}",
    )


def _unpack(archive: Path, data_dir: Path) -> None:
    """Extract the six batches from the archive by name, and no other file."""
    try:
        with tarfile.open(archive) as tar:
            for name in (*_TRAIN, _TEST):
                tar.extract(f"{_FOLDER}/{name}", data_dir, filter="data")
    except (KeyError, EOFError, OSError, tarfile.TarError) as error:
        raise DataError(f"{archive} cannot be unpacked ({error}); delete it") from error
