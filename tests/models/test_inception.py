"""The Inception network against float64 NumPy, the paper's table and the published size."""

import functools

import jax
import numpy as np
import pytest

from jaxnorm.linen import BatchNorm
from jaxnorm.models import (
    INCEPTION_MODULES,
    Inception,
    InceptionBranches,
    InceptionModule,
    inception_64,
    inception_224,
)
from tests.models import reference

X = np.random.default_rng(0).standard_normal((4, 7, 5, 3)).astype(np.float32)


def pool(x: np.ndarray, kind: str, strides: int) -> np.ndarray:
    def windows(values: np.ndarray, fill: float) -> np.ndarray:
        padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
        view = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        return view[:, ::strides, ::strides]

    if kind == "max":
        return windows(x, -np.inf).max((-2, -1))
    return windows(x, 0).sum((-2, -1)) / windows(np.ones_like(x), 0).sum((-2, -1))


def unit(x: np.ndarray, params, strides: int = 1, act=reference.relu) -> np.ndarray:
    if "depthwise" in params:
        kernel = params["depthwise"]["kernel"]
        each = np.split(kernel, x.shape[-1], axis=-1)
        parts = zip(np.split(x, x.shape[-1], axis=-1), each, strict=True)
        x, strides = np.concatenate([reference.conv(c, k, strides) for c, k in parts], axis=-1), 1
    y = reference.conv(x, params["conv"]["kernel"], strides)
    return act(reference.batch_norm(y, params["norm"], train=True))


def module(x: np.ndarray, params, branches: InceptionBranches, act) -> np.ndarray:
    strides = branches.strides
    single = unit(unit(x, params["reduce_single"], act=act), params["single"], strides, act)
    double = unit(unit(x, params["reduce_double"], act=act), params["double_0"], act=act)
    parts = [single, unit(double, params["double_1"], strides, act)]
    if branches.point:
        parts.insert(0, unit(x, params["point"], act=act))
    pooled = pool(x, branches.pool, strides)
    parts.append(unit(pooled, params["project"], act=act) if branches.project else pooled)
    return np.concatenate(parts, axis=-1)


@pytest.mark.parametrize(
    ("branches", "activation", "act"),
    [
        (
            InceptionBranches("a", 2, 3, 4, 2, 5, "average", 3),
            jax.nn.sigmoid,
            lambda x: 1 / (1 + np.exp(-x)),
        ),
        (InceptionBranches("c", 0, 3, 4, 2, 5, "max", 0, strides=2), jax.nn.relu, reference.relu),
    ],
    ids=["average and sigmoid", "max passed through"],
)
def test_a_module_is_its_branches_by_hand(branches, activation, act):
    model = InceptionModule(branches, BatchNorm, activation)
    state = reference.random_variables(model, X)
    apply = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    want = module(X.astype(np.float64), reference.float64(state["params"]), branches, act)
    np.testing.assert_allclose(apply(state, X)[0], want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_the_stem_and_the_output_are_those_by_hand():
    images = np.random.default_rng(1).standard_normal((2, 25, 25, 3)).astype(np.float32)

    def halved():
        return lambda x: x / 2

    model = Inception(5, modules=(), width=1 / 16, stem_multiplier=2, stem_norm=halved)
    state = reference.random_variables(model, images)
    apply = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    params = reference.float64(state["params"])
    x = pool(unit(images.astype(np.float64), params["conv_1"], 2), "max", 2) / 2
    x = pool(unit(unit(x, params["conv_2_reduce"]), params["conv_2"]) / 2, "max", 2)
    want = x.mean((1, 2)) @ params["output"]["kernel"] + params["output"]["bias"]
    np.testing.assert_allclose(
        apply(state, images)[0], want, rtol=0, atol=1e-5 * np.abs(want).max()
    )


def forms(model, pixels: int):
    images = np.ones((1, pixels, pixels, 3), np.float32)
    take = functools.partial(
        model.init_with_output, mutable=True, capture_intermediates=True, train=False
    )
    return jax.eval_shape(take, jax.random.key(0), images)[1]


def output_shapes(model, pixels: int) -> dict[str, tuple[int, ...]]:
    seen = forms(model, pixels)["intermediates"]
    return {
        name.removeprefix("inception_"): seen[name]["__call__"][0].shape[1:]
        for name in seen
        if name.startswith(("conv", "inception"))
    }


def test_layers_of_the_published_network_have_the_shapes_of_figure_5():
    assert output_shapes(inception_224(), 224) == {
        "conv_1": (112, 112, 64),
        "conv_2_reduce": (56, 56, 64),
        "conv_2": (56, 56, 192),
        "3a": (28, 28, 256),
        "3b": (28, 28, 320),
        "3c": (14, 14, 576),
        **dict.fromkeys(("4a", "4b", "4c", "4d"), (14, 14, 576)),
        "4e": (7, 7, 1024),
        **dict.fromkeys(("5a", "5b"), (7, 7, 1024)),
    }


def test_the_smaller_network_is_half_as_wide_on_maps_of_about_the_same_size():
    large, small = output_shapes(inception_224(), 224), output_shapes(inception_64(), 64)
    assert {name: shape[2] for name, shape in small.items()} == {
        name: shape[2] // 2 for name, shape in large.items()
    }
    assert [small[name][0] for name in ("3a", "3c", "4e")] == [32, 16, 8]


def count(model, pixels: int) -> int:
    return reference.size(forms(model, pixels)["params"])


def test_parameters_are_those_of_the_rows_of_figure_5():
    stem = 49 * 3 * 8 + 24 * 64 + 64 * 64 + 9 * 64 * 192
    norms, convolutions, channels = 64 + 64 + 192, stem, 192
    for b in INCEPTION_MODULES:
        convolutions += channels * (b.point + b.reduce_single + b.reduce_double + b.project)
        convolutions += 9 * (b.reduce_single * b.single + b.reduce_double * b.double + b.double**2)
        widths = (b.point, b.reduce_single, b.single, b.reduce_double, 2 * b.double, b.project)
        norms += sum(widths)
        channels = b.point + b.single + b.double + (b.project or channels)
    assert (
        count(inception_224(), 224) == convolutions + 2 * norms + 1024 * 1000 + 1000 == 11_188_288
    )


def test_the_network_that_circulates_as_bn_inception_has_its_published_parameters():
    # 11 295 240 in the ports of its Caffe model, which projects 4c and 4d to 128, starts with an
    # ordinary convolution, and keeps the biases that batch norm makes idle.
    modules = tuple(
        b._replace(project=128) if b.name in ("4c", "4d") else b for b in INCEPTION_MODULES
    )
    params = forms(inception_224(modules=modules, stem_multiplier=0), 224)["params"]
    leaves = jax.tree_util.tree_leaves_with_path(params)
    biases = sum(leaf.size for path, leaf in leaves if path[-1].key == "scale")
    assert reference.size(params) + biases == 11_295_240


def test_without_a_norm_convolutions_have_biases_and_nothing_runs():
    seen = forms(inception_64(norm=None), 64)
    assert "batch_stats" not in seen
    assert set(seen["params"]["inception_3a"]["point"]) == {"conv"}
    assert set(seen["params"]["inception_3a"]["point"]["conv"]) == {"kernel", "bias"}


def test_input_that_is_no_batch_of_images_is_refused():
    with pytest.raises(ValueError, match=r"\[4, 7, 5\]"):
        jax.eval_shape(inception_64().init, jax.random.key(0), X[..., 0])
