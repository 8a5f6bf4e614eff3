"""Folders of image files: Tiny ImageNet, and any tree `split/class/*` such as ImageNet.

An `ImageFolder` lists files and labels without opening the files. `decode` turns some of the files
into an array. So a data set that does not fit in memory can be read in pieces.
"""

import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ._arrays import Dataset
from ._files import DataError, Remote, download, missing

if TYPE_CHECKING:
    from PIL.Image import Image

TINY_IMAGENET = Remote(
    "tiny-imagenet-200.zip",
    ("http://cs231n.stanford.edu/tiny-imagenet-200.zip",),
    "90528d7ca1a48142e341f4ef8d21d0de",
    248,
)
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


class ImageFolder(NamedTuple):
    """Image files with their labels, in a fixed order."""

    paths: tuple[Path, ...]
    labels: np.ndarray  # [N] int32, positions in classes
    classes: tuple[str, ...]


def image_folder(folder: Path, classes: Sequence[str] | None = None) -> ImageFolder:
    """Return the images below `folder/<class>/`, at any depth, sorted by name.

    Args:
        folder: one split, for example `imagenet/train`.
        classes: names of the class folders, in order; None for all folders, sorted.

    Raises:
        DataError: the folder is missing, or a class has no image.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; expected {folder}/<class>/<image>")
    names = sorted(p.name for p in folder.iterdir() if p.is_dir()) if classes is None else classes
    if not names:
        raise DataError(f"{folder} has no class folders; expected {folder}/<class>/<image>")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in _SUFFIXES)
        if not found:
            raise DataError(f"{folder / name} has no image ({', '.join(sorted(_SUFFIXES))})")
        paths += found
        labels += [label] * len(found)
    return ImageFolder(tuple(paths), np.asarray(labels, np.int32), tuple(names))


def part_of(images: ImageFolder, classes: int | None, per_class: int | None) -> ImageFolder:
    """Return the first `per_class` files of each of the first `classes` classes; None for all.

    Examples:
        >>> paths = tuple(Path(name) for name in ("a1", "a2", "b1", "c1"))
        >>> abc = ImageFolder(paths, np.array([0, 0, 1, 2], np.int32), ("a", "b", "c"))
        >>> [path.name for path in part_of(abc, 2, 1).paths]
        ['a1', 'b1']
    """
    kept = len(images.classes) if classes is None else min(classes, len(images.classes))
    rows = [np.flatnonzero(images.labels == label)[:per_class] for label in range(kept)]
    chosen = np.sort(np.concatenate(rows))
    return ImageFolder(
        tuple(images.paths[row] for row in chosen), images.labels[chosen], images.classes[:kept]
    )


def imagenet(data_dir: Path) -> tuple[ImageFolder, ImageFolder]:
    """Return the training and validation files in `data_dir/imagenet`, by class.

    The files must be `train/<class>/<image>` and `val/<class>/<image>`. The validation images are
    published in one folder and have to be sorted into classes first. ImageNet is not downloaded: it
    is given on request at https://www.image-net.org.

    Raises:
        DataError: a folder is missing or a class has no image.
    """
    train = image_folder(data_dir / "imagenet" / "train")
    return train, image_folder(data_dir / "imagenet" / "val", train.classes)


def tiny_imagenet(data_dir: Path) -> tuple[ImageFolder, ImageFolder]:
    """Return the training and validation files of Tiny ImageNet in `data_dir/tiny-imagenet-200`.

    The classes are those of `wnids.txt`: 200 in the published set, fewer in a part of it.
    Validation labels come from `val/val_annotations.txt`. A missing data set is downloaded first.

    Raises:
        DataError: a file is missing and cannot be downloaded, or does not have the published
        layout.
    """
    root = data_dir / "tiny-imagenet-200"
    if not (root / "wnids.txt").is_file():
        try:
            _unzip(download(TINY_IMAGENET, data_dir), data_dir)
        except DataError as error:
            wanted = [root / name for name in ("wnids.txt", "train", "val/val_annotations.txt")]
            raise missing("Tiny ImageNet", wanted, TINY_IMAGENET.urls, str(error)) from error
    classes = tuple(_lines(root / "wnids.txt"))
    return image_folder(root / "train", classes), _annotated(root / "val", classes)


def write_images(data: Dataset, folder: Path) -> tuple[ImageFolder, ImageFolder]:
    """Write the grey images of a data set as PNG files and return its training and test files.

    Args:
        data: images [N, H, W, 1] and labels.
        folder: the folder that gets `train/<class>/` and `val/<class>/`.
    """
    from PIL import Image

    parts = {
        "train": (data.train_images, data.train_labels),
        "val": (data.test_images, data.test_labels),
    }
    for part, (images, labels) in parts.items():
        for name in data.classes:
            (folder / part / name).mkdir(parents=True, exist_ok=True)
        grey = np.round(images[..., 0] * (255 / data.white)).astype(np.uint8)
        for number, (image, label) in enumerate(zip(grey, labels, strict=True)):
            path = folder / part / data.classes[label] / f"{number:04}.png"
            Image.fromarray(image).save(path)
    return image_folder(folder / "train"), image_folder(folder / "val")


def decode(paths: Sequence[Path], *, size: int, workers: int = 4) -> np.ndarray:
    """Return the middles of images as one array in RGB, with the shorter side scaled to `size`.

    Args:
        paths: image files.
        size: height and width of the result, in pixels.
        workers: number of threads that decode.

    Returns:
        [N, size, size, 3] uint8.

    Raises:
        DataError: a file is not a complete image.
    """
    images = np.empty((len(paths), size, size, 3), np.uint8)

    def fill(index: int) -> None:
        images[index] = _decode_one(paths[index], size)

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(fill, range(len(paths))):
            pass
    return images


def tiny_imagenet_arrays(data_dir: Path) -> Dataset:
    """Return Tiny ImageNet decoded into memory: 12 kB an image, 1.4 GB in full."""
    train, val = tiny_imagenet(data_dir)
    return Dataset(
        name="tiny-imagenet",
        train_images=decode(train.paths, size=64),
        train_labels=train.labels,
        test_images=decode(val.paths, size=64),
        test_labels=val.labels,
        classes=train.classes,
        white=255,
        note=f"Tiny ImageNet, {len(train.classes)} of its 200 classes, {len(train.paths)} training "
        f"and {len(val.paths)} validation images",
    )


def open_rgb(path: Path, *, at_least: int) -> "Image":
    """Return a decoded image, in RGB.

    Args:
        path: an image file.
        at_least: pixels of the shorter side that are needed. A JPEG file several times as large is
            decoded at a half, a quarter or an eighth of its size, which is faster.

    Raises:
        DataError: the file is not a complete image.
    """
    from PIL import Image  # comes with the experiments extra

    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * at_least, 2 * at_least))
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} is not a complete image ({error})") from error


def _decode_one(path: Path, size: int) -> np.ndarray:
    rgb = open_rgb(path, at_least=size)
    scale = size / min(rgb.size)
    if scale != 1:
        rgb = rgb.resize((round(rgb.width * scale), round(rgb.height * scale)))
    left, top = (rgb.width - size) // 2, (rgb.height - size) // 2
    return np.asarray(rgb.crop((left, top, left + size, top + size)))


def _annotated(val: Path, classes: tuple[str, ...]) -> ImageFolder:
    index = {name: label for label, name in enumerate(classes)}
    annotations = val / "val_annotations.txt"
    paths: list[Path] = []
    labels: list[int] = []
    for number, line in enumerate(_lines(annotations), start=1):
        image, _, rest = line.partition("\t")
        label = index.get(rest.split("\t")[0])
        path = val / "images" / image
        if label is None or not path.is_file():
            raise DataError(
                f"{annotations} line {number} is {line!r}: expected an image in {val / 'images'} "
                "and, after a tab, a class of wnids.txt"
            )
        paths.append(path)
        labels.append(label)
    return ImageFolder(tuple(paths), np.asarray(labels, np.int32), classes)


def _lines(path: Path) -> list[str]:
    try:
        lines = [line for line in path.read_text().splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not lines:
        raise DataError(f"{path} is empty; unpack Tiny ImageNet again")
    return lines


def _unzip(archive: Path, data_dir: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as source:
            source.extractall(data_dir)  # zipfile drops absolute and parent paths by itself
    except (EOFError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{archive} cannot be unpacked ({error}); delete it") from error
