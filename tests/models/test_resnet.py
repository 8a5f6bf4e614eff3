"""Residual networks against float64 NumPy and the published sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import linen
from jaxnorm.models import BasicBlock, ResNet, resnet_18, resnet_20
from tests.models import reference

X = np.random.default_rng(0).standard_normal((4, 7, 6, 3)).astype(np.float32)
SMALL = functools.partial(ResNet, (1, 1), (4, 8), num_outputs=5)


def block(x: np.ndarray, params, strides: int, train: bool) -> np.ndarray:
    y = reference.conv(x, params["conv_0"]["kernel"], strides)
    y = reference.relu(reference.batch_norm(y, params["norm_0"], train))
    y = reference.conv(y, params["conv_1"]["kernel"])
    y = reference.batch_norm(y, params["norm_1"], train)
    if "conv_shortcut" in params:
        x = reference.conv(x, params["conv_shortcut"]["kernel"], strides)
        x = reference.batch_norm(x, params["norm_shortcut"], train)
    else:
        x = x[:, ::strides, ::strides]
        x = np.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))
    return reference.relu(x + y)


def forward(params, train: bool) -> np.ndarray:
    x = reference.conv(X.astype(np.float64), params["conv_stem"]["kernel"])
    x = reference.relu(reference.batch_norm(x, params["norm_stem"], train))
    x = block(x, params["stage_0_block_0"], 1, train)
    x = block(x, params["stage_1_block_0"], 2, train)
    return x.mean((1, 2)) @ params["output"]["kernel"] + params["output"]["bias"]


@pytest.mark.parametrize(
    ("shortcut", "train"), [("identity", True), ("identity", False), ("projection", True)]
)
def test_output_is_that_by_hand(shortcut, train):
    model = SMALL(shortcut=shortcut)
    state = reference.random_variables(model, X)
    apply = jax.jit(functools.partial(model.apply, train=train, mutable=["batch_stats"]))
    want = forward(reference.float64(state["params"]), train)
    np.testing.assert_allclose(apply(state, X)[0], want, rtol=0, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize(
    "norm",
    [
        None,
        linen.BatchNorm,
        linen.LayerNorm,
        linen.RMSNorm,
        linen.InstanceNorm,
        functools.partial(linen.GroupNorm, num_groups=2),
    ],
)
def test_every_norm_gives_finite_outputs_and_gradients_to_all_parameters(norm):
    model = ResNet((1,), (4,), num_outputs=5, norm=norm)
    state = reference.random_variables(model, X)

    def loss(params):
        y, _ = model.apply({**state, "params": params}, X, train=True, mutable=["batch_stats"])
        return jnp.sum(y * jnp.arange(5.0))

    value, grads = jax.jit(jax.value_and_grad(loss))(state["params"])
    assert np.isfinite(value)
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.isfinite(grad).all() and np.any(grad), jax.tree_util.keystr(path)


def parameters(model) -> int:
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.ones((1, 32, 32, 3), np.float32))
    return reference.size(shapes["params"])


def test_resnet_20_has_the_270_thousand_parameters_of_the_paper():
    convolutions = 9 * (3 * 16 + 6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2)
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    assert parameters(resnet_20()) == convolutions + norms + 64 * 10 + 10 == 269_722


def test_resnet_18_has_the_parameters_of_its_layers():
    convolutions, norms, before = 9 * 3 * 64, 64, 64
    for width in (64, 128, 256, 512):
        convolutions += 9 * (before * width + 3 * width**2)
        norms += 4 * width
        if before != width:
            convolutions += before * width
            norms += width
        before = width
    assert parameters(resnet_18()) == convolutions + 2 * norms + 512 * 10 + 10


def test_block_whose_residual_starts_at_zero_starts_as_its_shortcut():
    model = BasicBlock(3, norm=linen.BatchNorm, zero_init_residual=True)
    y, _ = jax.jit(functools.partial(model.init_with_output, train=True))(jax.random.key(0), X)
    np.testing.assert_array_equal(y, np.maximum(X, 0))


def test_sown_preactivation_is_the_input_of_the_activation():
    model = BasicBlock(3, norm=linen.LayerNorm)
    state = reference.random_variables(model, X)
    y, updated = model.apply(state, X, mutable=["intermediates"])
    (sown,) = updated["intermediates"]["preactivation_1"]
    np.testing.assert_array_equal(y, np.maximum(sown, 0))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (SMALL(shortcut="none"), "shortcut='none'"),
        (ResNet((1, 1), (8, 4), 5), "cannot narrow 8 of them to width=4"),
        (ResNet((1, 1), (8,), 5), r"\(1, 1\) has 2 stages.*\(8,\) has 1"),
        (SMALL(norm=None, zero_init_residual=True), "norm=None takes no scale_init"),
    ],
)
def test_error_names_what_does_not_fit(model, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), X)


def test_input_that_is_no_batch_of_images_is_refused():
    with pytest.raises(ValueError, match=r"\[4, 7\]"):
        jax.eval_shape(SMALL().init, jax.random.key(0), X[:, :, 0, 0])
