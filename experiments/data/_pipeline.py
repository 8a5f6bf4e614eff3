"""Batches from image files that need not fit in memory, with grain.

A training set is an endless sequence of batches. Batch number k depends on the seed and on k alone.
So a run goes on after any step as if it had never stopped, on any number of threads or processes.
"""

import functools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ._folders import ImageFolder, decode, open_rgb

Batch = dict[str, np.ndarray]


class Crop(NamedTuple):
    """How much of an image a training example shows.

    Szegedy et al., Going Deeper with Convolutions (arXiv:1409.4842, 2014), section 6. The area of a
    patch is uniform between a share of the image and all of it. Its aspect ratio is between 3/4 and
    4/3. Half of the patches are mirrored.
    """

    size: int  # height and width of the example, in pixels
    least_area: float = 0.08  # least share of the image's area


def training_batches(
    images: ImageFolder,
    crop: Crop,
    *,
    batch_size: int,
    seed: int,
    reshuffle: bool = True,
    process: tuple[int, int] = (0, 1),
) -> Any:
    """Return an endless `grain.MapDataset` of training batches.

    Args:
        images: the files.
        crop: the part of an image that an example shows.
        batch_size: images in a batch of all processes.
        seed: gives the order, the patches and the mirroring.
        reshuffle: whether each epoch has an order of its own. Otherwise all epochs have the order
            of the first, so that the same images always meet in a batch, with other patches.
        process: the index of this process, and the number of processes. Each reads its own share of
            every batch, so that all together have the batches of one.

    Returns:
        A sequence of `inputs` [share, size, size, 3] uint8 and `labels` [share] int32, where the
        share is `batch_size` over the number of processes. Without `reshuffle`, files that do not
        fill the last batch of an epoch are left out.

    Raises:
        ValueError: there are fewer files than a batch, or the processes do not divide a batch.
    """
    import grain  # imported here, since the import takes seconds

    index, count = process
    whole = len(images.paths) // batch_size * batch_size
    if not whole:
        raise ValueError(
            f"batch_size={batch_size} is more than the {len(images.paths)} images; use smaller "
            "batches or more images"
        )
    if batch_size % count:
        raise ValueError(
            f"batch_size={batch_size} cannot be shared by {count} processes; use a multiple"
        )
    rows = grain.MapDataset.range(len(images.paths)).seed(seed).shuffle()
    rows = rows.slice(slice(0, whole)) if not reshuffle else rows
    rows = rows.repeat(reseed_each_epoch=reshuffle)
    shares = rows.random_map(functools.partial(_example, images, crop)).batch(batch_size // count)
    return shares.slice(slice(index, sys.maxsize, count)) if count > 1 else shares


def stream(batches: Any, start: int, *, threads: int = 4, workers: int = 0) -> Iterator[Batch]:
    """Return the batches from number `start` on, read ahead.

    Args:
        batches: sequence from `training_batches`.
        start: number of the first batch.
        threads: threads that decode in this process.
        workers: number of further processes that share the batches; 0 for none.
    """
    import grain

    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    left = batches.slice(slice(start, sys.maxsize)).to_iter_dataset(ahead)
    if workers:
        from absl import flags

        flags.FLAGS.mark_as_parsed()  # grain hands its flags to workers, and needs them parsed
        left = left.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return iter(left)


def validation_batches(
    images: ImageFolder,
    *,
    size: int,
    batch_size: int,
    threads: int = 4,
    process: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Yield all images once and in order, the middle of each.

    Images of weight zero fill the last batch, so that all batches have one shape.

    Args:
        images: the files.
        size: height and width of the examples, in pixels.
        batch_size: images in a batch of all processes, which divide it.
        threads: threads that decode.
        process: the index of this process, and the number of processes. Each has its share of
            every batch.

    Yields:
        `inputs` [share, size, size, 3] uint8, `labels` [share] int32 and `weight` [share] float32,
        one for an image and zero for a filling.
    """
    index, count = process
    share = batch_size // count
    for start in range(index * share, len(images.paths) + index * share, batch_size):
        some = slice(start, start + share)
        labels = images.labels[some]
        missing = share - len(labels)
        inputs = decode(images.paths[some], size=size, workers=threads)
        yield {
            "inputs": np.pad(inputs, ((0, missing), (0, 0), (0, 0), (0, 0))),
            "labels": np.pad(labels, (0, missing)),
            "weight": np.pad(np.ones(len(labels), np.float32), (0, missing)),
        }


def _example(images: ImageFolder, crop: Crop, row: int, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "inputs": _patch(images.paths[row], crop, rng),
        "labels": images.labels[row],
    }


def _patch(path: Path, crop: Crop, rng: np.random.Generator) -> np.ndarray:
    image = open_rgb(path, at_least=crop.size)
    box = _random_box(image.width, image.height, crop.least_area, rng)
    patch = image.resize((crop.size, crop.size), box=box)
    pixels = np.asarray(patch)
    return np.ascontiguousarray(pixels[:, ::-1]) if rng.random() < 0.5 else pixels


def _random_box(
    width: int, height: int, least_area: float, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a random patch inside the image."""
    area = width * height * rng.uniform(least_area, 1)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    wide = min(width, float(np.sqrt(area * aspect)))
    high = min(height, float(np.sqrt(area / aspect)))
    left, top = rng.uniform(0, width - wide), rng.uniform(0, height - high)
    return left, top, left + wide, top + high
