"""Batches from image files: what they hold, and that they depend on the seed and the step alone."""

import functools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.data import (
    Crop,
    DataError,
    ImageFolder,
    part_of,
    stream,
    training_batches,
    validation_batches,
)

COUNT, SIZE = 12, 16


@pytest.fixture(scope="module")
def ramps(tmp_path_factory) -> ImageFolder:
    """Images that get brighter by 4 from column to column, each with a label of its own."""
    folder = tmp_path_factory.mktemp("ramps")
    columns = np.broadcast_to(4 * np.arange(60)[:, np.newaxis], (40, 60, 3)).astype(np.uint8)
    paths = [folder / f"{i:02}.png" for i in range(COUNT)]
    for path in paths:
        Image.fromarray(columns).save(path)
    names = tuple(str(i) for i in range(COUNT))
    return ImageFolder(tuple(paths), np.arange(COUNT, dtype=np.int32), names)


def labels(batches, count: int, start: int = 0) -> list[list[int]]:
    return [batches[start + i]["labels"].tolist() for i in range(count)]


@pytest.mark.parametrize(("threads", "process"), [(1, (0, 1)), (4, (0, 1)), (4, (1, 2))])
def test_a_stream_goes_on_after_any_step_as_if_it_had_never_stopped(ramps, threads, process):
    batches = training_batches(ramps, Crop(SIZE), batch_size=4, seed=3, process=process)
    whole = stream(batches, 0, threads=threads)
    straight = [next(whole) for _ in range(7)]
    resumed = stream(batches, 5, threads=threads)
    for expected in straight[5:]:
        found = next(resumed)
        np.testing.assert_array_equal(found["inputs"], expected["inputs"])
        np.testing.assert_array_equal(found["labels"], expected["labels"])


def test_further_processes_hand_out_the_same_batches(ramps):
    batches = training_batches(ramps, Crop(SIZE), batch_size=4, seed=3)
    here, elsewhere = stream(batches, 2), stream(batches, 2, workers=2)
    for _ in range(4):
        np.testing.assert_array_equal(next(elsewhere)["inputs"], next(here)["inputs"])


def test_an_epoch_shows_every_image_once_and_the_next_in_another_order(ramps):
    batches = training_batches(ramps, Crop(SIZE), batch_size=4, seed=0)
    first, second = labels(batches, 3), labels(batches, 3, start=3)
    assert np.sort(first, None).tolist() == np.sort(second, None).tolist() == list(range(COUNT))
    assert first != second


def test_another_seed_gives_another_order(ramps):
    make = functools.partial(training_batches, ramps, Crop(SIZE), batch_size=4)
    assert labels(make(seed=0), 3) != labels(make(seed=1), 3)


def test_without_reshuffling_the_same_images_meet_with_other_patches(ramps):
    batches = training_batches(ramps, Crop(SIZE), batch_size=5, seed=0, reshuffle=False)
    assert labels(batches, 2) == labels(batches, 2, start=2)
    assert np.any(batches[0]["inputs"] != batches[2]["inputs"])


@pytest.mark.parametrize("reshuffle", [True, False])
def test_processes_together_have_the_batches_of_one(ramps, reshuffle):
    make = functools.partial(
        training_batches, ramps, Crop(SIZE), batch_size=6, seed=0, reshuffle=reshuffle
    )
    shares = [stream(make(process=(index, 3)), 1) for index in range(3)]
    for number in (1, 2, 3):
        parts, whole = [next(share) for share in shares], make()[number]
        for name, values in whole.items():
            np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), values)


def test_processes_together_validate_on_every_image_in_order(ramps):
    make = functools.partial(validation_batches, ramps, size=8, batch_size=8)
    shares = [make(process=(index, 4)) for index in range(4)]
    for whole, *parts in zip(make(), *shares, strict=True):
        for name, values in whole.items():
            np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), values)


def test_patches_have_the_area_and_the_place_that_they_should_and_half_are_mirrored(ramps):
    batches = training_batches(ramps, Crop(SIZE, least_area=0.25), batch_size=COUNT, seed=0)
    rows = np.concatenate([batches[i]["inputs"] for i in range(20)])[:, SIZE // 2, :, 0] / 4.0
    # Over the inner columns, where nothing is extrapolated, brightness rises by the patch's width.
    widths = (rows[:, -3] - rows[:, 2]) * SIZE / (SIZE - 5)
    mirrored = np.mean(widths < 0)
    area = 40 * 60
    assert abs(mirrored - 0.5) < 4 * 0.5 / np.sqrt(len(rows))
    # A patch's width is the root of area times aspect; pixels are rounded to a quarter column.
    rounding = 0.5 * SIZE / (SIZE - 5)
    assert np.abs(widths).max() <= np.sqrt(area * 4 / 3) + rounding
    assert np.abs(widths).min() >= np.sqrt(0.25 * area * 3 / 4) - rounding
    assert rows.min() >= 0 and rows.max() <= 59
    assert rows.max() - rows.min() > 50


def test_validation_shows_every_image_once_in_order_and_fills_up_with_weight_zero(ramps):
    batches = list(validation_batches(ramps, size=8, batch_size=5))
    weight = np.concatenate([batch["weight"] for batch in batches])
    shown = np.concatenate([batch["labels"] for batch in batches])
    assert {batch["inputs"].shape for batch in batches} == {(5, 8, 8, 3)}
    assert (weight.tolist(), shown[weight == 1].tolist()) == ([1.0] * 12 + [0.0] * 3, [*range(12)])
    # The middle 40 of 60 columns.
    assert abs(batches[0]["inputs"][0, :, :, 0].mean() / 4 - 29.5) < 0.5


def test_a_part_has_the_first_images_of_the_first_classes():
    paths = tuple(Path(name) for name in ("a0", "b0", "a1", "b1", "c0"))
    images = ImageFolder(paths, np.array([0, 1, 0, 1, 2], np.int32), ("a", "b", "c"))
    part = part_of(images, 2, 1)
    assert [path.name for path in part.paths] == ["a0", "b0"]
    assert (part.labels.tolist(), part.classes) == ([0, 1], ("a", "b"))


def test_batches_larger_than_the_data_are_refused(ramps):
    with pytest.raises(ValueError, match="batch_size=13 is more than the 12 images"):
        training_batches(ramps, Crop(SIZE), batch_size=13, seed=0)


def test_batches_that_processes_cannot_share_are_refused(ramps):
    with pytest.raises(ValueError, match="batch_size=7 cannot be shared by 2 processes"):
        training_batches(ramps, Crop(SIZE), batch_size=7, seed=0, process=(1, 2))


def test_an_image_that_is_cut_off_is_named(ramps, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(ramps.paths[0].read_bytes()[:60])
    batches = training_batches(
        ramps._replace(paths=(broken,) * COUNT), Crop(8), batch_size=2, seed=0
    )
    with pytest.raises(DataError, match=r"broken\.png is not a complete image"):
        batches[0]
