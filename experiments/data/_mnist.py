"""MNIST in its published IDX layout, gzipped or raw.

LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition, 1998.
"""

import math
from pathlib import Path

import numpy as np

from ._arrays import Dataset
from ._files import DataError, Remote, download, first_existing, md5, missing, read_bytes

_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def _remote(name: str, checksum: str, megabytes: int) -> Remote:
    return Remote(name, tuple(mirror + name for mirror in _MIRRORS), checksum, megabytes)


# MD5 of the published gzip files. Repacked files differ, so files on disk are checked by _RAW_MD5.
REMOTES = (
    _remote("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 10),
    _remote("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", 1),
    _remote("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", 2),
    _remote("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", 1),
)
_RAW_MD5 = (
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
)


def parse_idx(data: bytes, path: Path) -> np.ndarray:
    """Return the array of unsigned bytes that an IDX file holds.

    The layout is two zero bytes, the type (8 for unsigned byte), the number of axes, each axis as a
    big-endian 32-bit integer, then the values.

    Args:
        data: the file's bytes, decompressed.
        path: the file, for the error.

    Returns:
        uint8 array of the shape in the header.

    Raises:
        DataError: the header is not one of IDX bytes, or the length is not the header's.
    """
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise DataError(
            f"{path} is not an IDX file of bytes: it starts with {data[:4].hex(' ') or 'nothing'}, "
            "not with 00 00 08; download it again"
        )
    start = 4 + 4 * data[3]
    if len(data) < start:
        raise DataError(f"{path} is truncated within its header; download it again")
    shape = tuple(int(n) for n in np.frombuffer(data[4:start], dtype=">u4"))
    expected = start + math.prod(shape)
    if len(data) != expected:
        raise DataError(
            f"{path} is truncated or corrupt: its header announces shape {list(shape)}, "
            f"{expected} bytes in all, and it has {len(data)}; download it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def mnist(data_dir: Path) -> Dataset:
    """Return MNIST from `data_dir/mnist`, downloaded first where it is missing.

    Each of the four files may be gzipped (`.gz`) or raw. Other files in the same layout, for
    example Fashion-MNIST, load too, and `note` says that they are not the published ones.

    Raises:
        DataError: a file is missing and cannot be downloaded, or is truncated or corrupt.
    """
    folder = data_dir / "mnist"
    paths = [_find(folder, remote) for remote in REMOTES]
    contents = [read_bytes(path) for path in paths]
    arrays = [parse_idx(data, path) for data, path in zip(contents, paths, strict=True)]
    for part in (0, 2):
        _check_pair(arrays[part], arrays[part + 1], paths[part], paths[part + 1])
    changed = [
        path.name
        for path, data, checksum in zip(paths, contents, _RAW_MD5, strict=True)
        if md5(data) != checksum
    ]
    return Dataset(
        name="mnist",
        train_images=arrays[0][..., np.newaxis],
        train_labels=arrays[1].astype(np.int32),
        test_images=arrays[2][..., np.newaxis],
        test_labels=arrays[3].astype(np.int32),
        classes=tuple("0123456789"),
        white=255,
        note=f"not the published MNIST: MD5 differs in {', '.join(changed)}"
        if changed
        else "the published MNIST files, MD5 verified",
    )


def _find(folder: Path, remote: Remote) -> Path:
    raw = remote.name.removesuffix(".gz")
    found = first_existing([folder / remote.name, folder / raw])
    if found is not None:
        return found
    try:
        return download(remote, folder)
    except DataError as error:
        wanted = [folder / each.name for each in REMOTES]
        raise missing("MNIST", wanted, _MIRRORS, str(error)) from error


def _check_pair(images: np.ndarray, labels: np.ndarray, image_path: Path, label_path: Path) -> None:
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(
            f"{image_path} holds {list(images.shape)} and {label_path.name} {list(labels.shape)}: "
            "expected images [N, H, W] and labels [N]; download both again"
        )
    if labels.size and labels.max() > 9:
        raise DataError(f"{label_path} has a label {labels.max()}; MNIST's labels are 0 to 9")
