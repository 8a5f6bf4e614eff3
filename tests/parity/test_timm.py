"""Norms beside timm's, whose wheel is fetched at test time.

Its layers are imported without the package around them, which wants torchvision.
"""

import importlib
import os
import sys
import tempfile
import types
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxnorm
from jaxnorm.stats import ema
from tests.downloads import UnavailableError, cache_folder, download
from tests.stats.reference import relative_error

torch = pytest.importorskip("torch", reason="needs the extra `parity`")
pytestmark = pytest.mark.slow

VERSION = "1.0.31"
RNG = np.random.default_rng(3)
X = RNG.normal(0.5, 2, size=(4, 5, 3, 6)).astype(np.float32)
COTANGENT = RNG.normal(size=X.shape).astype(np.float32)
KERNEL = RNG.normal(0.1, 1, size=(3, 2, 6, 5)).astype(np.float32)
TOLERANCE = 1e-5  # timm takes its statistics in float32


@pytest.fixture(scope="module")
def layers():
    """Returns a function from the name of a file of `timm.layers` to the module."""
    folder = cache_folder("timm") / VERSION
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            try:
                wheel = download(f"timm=={VERSION}", Path(scratch))
            except UnavailableError as error:
                pytest.skip(str(error))
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(Path(scratch) / "unpacked")
            os.replace(Path(scratch) / "unpacked", folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("timm", "timm.layers"):
            package = types.ModuleType(name)
            package.__path__ = [str(folder / name.replace(".", "/"))]
            patch.setitem(sys.modules, name, package)
        yield lambda name: importlib.import_module(f"timm.layers.{name}")
        for name in [name for name in sys.modules if name.startswith("timm.layers.")]:
            del sys.modules[name]


def random_parameters(module):
    """Returns a module with random parameters, and these by name."""
    for value in module.parameters():
        value.data = torch.tensor(RNG.normal(1, 0.3, size=value.shape).astype(np.float32))
    return module, {name: v.detach().numpy() for name, v in module.named_parameters()}


def assert_equal(ours, theirs, x=X, cotangent=COTANGENT, channels=True):
    """Compares output and gradient; `channels` says that theirs are second."""
    there = torch.tensor(x, requires_grad=True)
    y = theirs(there.movedim(-1, 1)).movedim(1, -1) if channels else theirs(there)
    y.backward(torch.tensor(cotangent))
    have, pullback = jax.vjp(ours, x)
    assert relative_error(have, y.detach().double().numpy()) < TOLERANCE
    assert relative_error(pullback(cotangent)[0], there.grad.double().numpy()) < TOLERANCE


@pytest.mark.parametrize("letter", ["0", "1", "2"])
@pytest.mark.parametrize("train", [True, False])
def test_evo_norm_with_batch_statistics(layers, letter, train):
    cls = getattr(layers("evo_norm"), f"EvoNorm2dB{letter}")
    theirs, given = random_parameters(cls(6, momentum=0.25, eps=1e-3))
    theirs.train(train)
    theirs.running_var.copy_(torch.tensor(RNG.uniform(0.5, 3, 6)))
    gate = [given["v"]] if letter == "0" else []
    evo_norm = getattr(jaxnorm, f"evo_norm_b{letter}")
    stats = ema().init((6,))._replace(var=theirs.running_var.numpy().copy())

    def ours(x):
        return evo_norm(
            x,
            stats,
            *gate,
            given["weight"],
            given["bias"],
            use_running_average=not train,
            estimator=ema(0.75, unbiased=True),
            epsilon=1e-3,
        )

    assert_equal(lambda x: ours(x)[0], theirs)
    if train:  # `assert_equal` ran theirs once
        var = ours(X)[1].var
        assert relative_error(var, theirs.running_var.double().numpy()) < TOLERANCE


@pytest.mark.parametrize("letter", ["0", "1", "2"])
def test_evo_norm_with_statistics_of_a_sample(layers, letter):
    cls = getattr(layers("evo_norm"), f"EvoNorm2dS{letter}")
    theirs, given = random_parameters(cls(6, groups=3, eps=1e-3))
    gate = [given["v"]] if letter == "0" else []
    evo_norm = getattr(jaxnorm, f"evo_norm_s{letter}")
    assert_equal(
        lambda x: evo_norm(x, *gate, given["weight"], given["bias"], num_groups=3, epsilon=1e-3),
        theirs,
    )


def test_filter_response_norm(layers):
    theirs, given = random_parameters(layers("filter_response_norm").FilterResponseNormTlu2d(6))
    arguments = given["weight"], given["bias"], given["tau"]
    assert_equal(lambda x: jaxnorm.filter_response_norm(x, *arguments, epsilon=1e-5), theirs)


def test_global_response_norm(layers):
    theirs, given = random_parameters(layers("grn").GlobalResponseNorm(6))
    assert_equal(
        lambda x: jaxnorm.global_response_norm(x, given["weight"], given["bias"]),
        theirs,
        channels=False,
    )


def test_split_batch_norm(layers):
    theirs, _ = random_parameters(layers("split_batchnorm").SplitBatchNorm2d(6, momentum=0.25))
    norms = [theirs, *theirs.aux_bn]
    scale, bias = (np.stack([getattr(n, k).detach() for n in norms]) for k in ("weight", "bias"))

    def ours(x):
        return jaxnorm.split_batch_norm(
            x,
            ema().init((2, 6)),
            scale,
            bias,
            use_running_average=False,
            estimator=ema(0.75, unbiased=True),
        )

    assert_equal(lambda x: ours(x)[0], theirs)
    after = ours(X)[1]
    for have, name in ((after.mean, "running_mean"), (after.var, "running_var")):
        want = np.stack([getattr(norm, name).double() for norm in norms])
        assert relative_error(have, want) < TOLERANCE


@pytest.mark.parametrize("scaled", [False, True])
def test_standardized_kernels(layers, scaled):
    module = layers("std_conv")
    cls = module.ScaledStdConv2d if scaled else module.StdConv2d
    # In the scaled one, theirs is added to the variance and ours bounds fan-in times it from below.
    epsilon = 1e-12 if scaled else 1e-3
    theirs = cls(6, 5, (3, 2), padding=0, bias=False, eps=epsilon)
    theirs, given = random_parameters(theirs)
    gain = [given["gain"].reshape(-1)] if scaled else []
    standardize = (
        jaxnorm.scaled_weight_standardization if scaled else jaxnorm.weight_standardization
    )

    def convolve(kernel):
        """Returns the convolution of `X` with a kernel as our layout has it."""
        kernel = kernel.permute(3, 2, 0, 1)
        given = {"weight": kernel, "gain": theirs.gain} if scaled else {"weight": kernel}
        x = torch.tensor(X).movedim(-1, 1)
        return torch.func.functional_call(theirs, given, (x,)).movedim(1, -1)

    def ours(kernel):
        kernel = standardize(kernel, *gain, epsilon=epsilon)
        return jax.lax.conv_general_dilated(
            X, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    shape = jax.eval_shape(ours, KERNEL).shape
    cotangent = RNG.normal(size=shape).astype(np.float32)
    assert_equal(ours, convolve, KERNEL, cotangent, channels=False)
