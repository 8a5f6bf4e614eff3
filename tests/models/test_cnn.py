"""The convolutional network against float64 NumPy."""

import functools

import jax
import numpy as np
import pytest

from jaxnorm import linen
from jaxnorm.models import CNN
from tests.models import reference

X = np.random.default_rng(0).standard_normal((3, 9, 8, 2)).astype(np.float32)


def max_pool(x: np.ndarray) -> np.ndarray:
    n, h, w, c = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))


def forward(params, *, norm: bool, train: bool) -> np.ndarray:
    """Returns the output of the network of stages (3, 4) and (5), and a dense layer of 6."""
    depth = iter(range(4))

    def hidden(x: np.ndarray, layer_of) -> np.ndarray:
        i = next(depth)
        layer = params[f"hidden_{i}"]
        x = layer_of(x, layer["kernel"]) + layer.get("bias", 0)
        if norm:
            x = reference.batch_norm(x, params[f"norm_{i}"], train)
        return reference.relu(x)

    x = X.astype(np.float64)
    x = max_pool(hidden(hidden(x, reference.conv), reference.conv))
    x = max_pool(hidden(x, reference.conv))
    x = hidden(x.reshape(len(x), -1), np.matmul)
    return x @ params["output"]["kernel"] + params["output"]["bias"]


@pytest.mark.parametrize(("norm", "train"), [(None, False), (linen.BatchNorm, True)])
def test_output_is_that_by_hand(norm, train):
    model = CNN(num_outputs=7, stages=((3, 4), (5,)), features=(6,), norm=norm)
    state = reference.random_variables(model, X)
    apply = jax.jit(functools.partial(model.apply, train=train, mutable=["batch_stats"]))
    y, _ = apply(state, X)
    want = forward(reference.float64(state["params"]), norm=norm is not None, train=train)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_vgg_like_network_has_as_many_parameters_as_its_layers():
    model = CNN(10, ((64, 64), (128, 128)), features=(256,), norm=linen.BatchNorm)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.ones((1, 32, 32, 3), np.float32))
    convolutions = 9 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 128)
    dense = 8 * 8 * 128 * 256 + 256 * 10 + 10
    norms = 2 * (64 + 64 + 128 + 128 + 256)
    assert reference.size(shapes["params"]) == convolutions + dense + norms


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 8, 3, 1)])
def test_input_that_the_stages_cannot_pool_is_refused(shape):
    with pytest.raises(ValueError, match=r"at least 4 x 4 pixels"):
        jax.eval_shape(CNN(num_outputs=2).init, jax.random.key(0), np.ones(shape, np.float32))
