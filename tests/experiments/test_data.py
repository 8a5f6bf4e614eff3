"""Data sets in their published layouts, and what is said of files that are not whole."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from experiments.data import DataError, decode, image_folder, load, tiny_imagenet

MNIST_FILES = {
    "train-images-idx3-ubyte": (6, 28, 28),
    "train-labels-idx1-ubyte": (6,),
    "t10k-images-idx3-ubyte": (3, 28, 28),
    "t10k-labels-idx1-ubyte": (3,),
}


def idx(values: np.ndarray) -> bytes:
    header = struct.pack(">BBBB", 0, 0, 8, values.ndim)
    return header + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.fixture
def mnist_folder(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    (tmp_path / "mnist").mkdir()
    for name, shape in MNIST_FILES.items():
        arrays[name] = rng.integers(0, 10 if len(shape) == 1 else 256, shape).astype(np.uint8)
        (tmp_path / "mnist" / f"{name}.gz").write_bytes(gzip.compress(idx(arrays[name])))
    return tmp_path, arrays


@pytest.fixture
def cifar_folder(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    records = rng.integers(0, 256, (2, 3073)).astype(np.uint8)
    records[:, 0] = 3, 7
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return tmp_path, records


def test_digits_are_those_of_scikit_learn():
    data, digits = load("digits"), load_digits()
    images = np.sort(np.concatenate([data.train_images, data.test_images]).reshape(-1, 64), axis=0)
    np.testing.assert_array_equal(images, np.sort(digits.data.astype(np.uint8), axis=0))


def test_mnist_is_read_byte_for_byte(mnist_folder):
    data, arrays = load("mnist", mnist_folder[0]), mnist_folder[1]
    np.testing.assert_array_equal(data.train_images[..., 0], arrays["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(data.test_labels, arrays["t10k-labels-idx1-ubyte"])


def test_mnist_that_is_not_the_published_one_is_said_to_be_so(mnist_folder):
    assert load("mnist", mnist_folder[0]).note.startswith("not the published MNIST")


@pytest.mark.parametrize("keep", [3, 10, 2000])
def test_a_truncated_mnist_file_is_named(mnist_folder, keep):
    folder, arrays = mnist_folder
    path = folder / "mnist" / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(arrays["train-images-idx3-ubyte"])[:keep]))
    with pytest.raises(DataError, match=path.name):
        load("mnist", folder)


def test_a_truncated_gzip_file_is_named(mnist_folder):
    path = mnist_folder[0] / "mnist" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(DataError, match=f"{path.name} is not a complete gzip file"):
        load("mnist", mnist_folder[0])


def test_labels_that_do_not_fit_the_images_are_named(mnist_folder):
    path = mnist_folder[0] / "mnist" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(5, np.uint8))))
    with pytest.raises(DataError, match="train-labels-idx1-ubyte"):
        load("mnist", mnist_folder[0])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist", "train-images-idx3-ubyte"),
        ("cifar10", "data_batch_1.bin"),
        ("tiny-imagenet", "wnids.txt"),
    ],
)
def test_missing_files_are_listed_where_there_is_no_network(name, file, tmp_path, no_network):
    with pytest.raises(DataError, match=f"(?s)Put these files in place.*{file}"):
        load(name, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_cifar_pixels_are_planes_of_red_green_and_blue(cifar_folder):
    folder, records = cifar_folder
    data = load("cifar10", folder)
    expected = records[0, 1:].reshape(3, 32, 32).transpose(1, 2, 0)
    np.testing.assert_array_equal(data.train_images[0], expected)
    assert data.train_labels[:2].tolist() == [3, 7]


def test_a_truncated_cifar_batch_is_named(cifar_folder):
    path = cifar_folder[0] / "cifar-10-batches-bin" / "data_batch_4.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"data_batch_4\.bin is truncated or corrupt"):
        load("cifar10", cifar_folder[0])


def test_a_cifar_label_above_nine_is_named(cifar_folder):
    path = cifar_folder[0] / "cifar-10-batches-bin" / "test_batch.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(DataError, match=r"test_batch\.bin is corrupt: it has a label 10"):
        load("cifar10", cifar_folder[0])


@pytest.fixture
def tiny_folder(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    (root / "val" / "images").mkdir(parents=True)
    (root / "wnids.txt").write_text("n02\nn01\n")
    for value, name in ((10, "n01"), (200, "n02")):
        (root / "train" / name / "images").mkdir(parents=True)
        picture = Image.fromarray(np.full((64, 64, 3), value, np.uint8))
        picture.save(root / "train" / name / "images" / f"{name}_0.png")
        picture.save(root / "val" / "images" / f"val_{value}.png")
    lines = "val_10.png\tn01\t0\t0\t1\t1\nval_200.png\tn02\t0\t0\t1\t1\n"
    (root / "val" / "val_annotations.txt").write_text(lines)
    return tmp_path


def test_tiny_imagenet_has_the_classes_and_labels_of_its_lists(tiny_folder):
    data = load("tiny-imagenet", tiny_folder)
    assert data.classes == ("n02", "n01")
    assert data.train_images[:, 0, 0, 0].tolist() == [200, 10]
    assert (data.test_images[:, 5, 5, 1].tolist(), data.test_labels.tolist()) == ([10, 200], [1, 0])


def test_an_annotation_without_its_image_is_named(tiny_folder):
    (tiny_folder / "tiny-imagenet-200" / "val" / "images" / "val_200.png").unlink()
    with pytest.raises(DataError, match=r"val_annotations\.txt line 2"):
        tiny_imagenet(tiny_folder)


def test_decoding_scales_the_shorter_side_and_cuts_out_the_middle(tmp_path):
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 90
    Image.fromarray(wide).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(
        decode([tmp_path / "wide.png"], size=4), np.full((1, 4, 4, 3), 90)
    )


def test_an_image_that_is_cut_off_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:500])
    with pytest.raises(DataError, match=r"cut\.png is not a complete image"):
        decode([tmp_path / "whole.png", tmp_path / "cut.png"], size=32)


def test_an_image_folder_lists_its_classes_in_order(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "x.png")
    found = image_folder(tmp_path)
    assert (found.classes, found.labels.tolist()) == (("a", "b"), [0, 1])
