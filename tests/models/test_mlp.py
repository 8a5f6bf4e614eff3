"""The multilayer perceptron against float64 NumPy."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxnorm import linen
from jaxnorm.models import MLP
from tests.models import reference

X = np.random.default_rng(0).standard_normal((6, 4, 2)).astype(np.float32)


def forward(params, *, norm: bool, train: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns the output and the inputs of the activations."""
    x, before = X.reshape(6, 8).astype(np.float64), []
    for i in range(2):
        layer = params[f"hidden_{i}"]
        x = x @ layer["kernel"] + layer.get("bias", 0)
        if norm:
            x = reference.batch_norm(x, params[f"norm_{i}"], train)
        before.append(x)
        x = np.tanh(x)
    return x @ params["output"]["kernel"] + params["output"]["bias"], before


@pytest.mark.parametrize("norm", [None, linen.BatchNorm])
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.sampled(2)
def test_output_and_sown_preactivations_are_those_by_hand(norm, train):
    model = MLP(features=(5, 3), num_outputs=2, norm=norm, activation=nn.tanh)
    state = reference.random_variables(model, X)
    y, updated = model.apply(state, X, train=train, mutable=["batch_stats", "intermediates"])
    want, before = forward(reference.float64(state["params"]), norm=norm is not None, train=train)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-5)
    for i in range(2):
        (sown,) = updated["intermediates"][f"preactivation_{i}"]
        np.testing.assert_allclose(sown, before[i], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("norm", "use_bias", "hidden"),
    [
        (None, None, 8 * 5 + 5),
        (None, False, 8 * 5),
        (linen.BatchNorm, None, 8 * 5 + 2 * 5),
        (linen.BatchNorm, True, 8 * 5 + 5 + 2 * 5),
        (linen.RMSNorm, None, 8 * 5 + 5 + 5),
        (linen.RMSNorm, False, 8 * 5 + 5),
    ],
)
def test_parameters_are_as_many_as_the_layers_have(norm, use_bias, hidden):
    model = MLP(features=(5,), num_outputs=3, norm=norm, use_bias=use_bias)
    shapes = jax.eval_shape(model.init, jax.random.key(0), X)
    assert reference.size(shapes["params"]) == hidden + 5 * 3 + 3


def test_dropout_acts_in_training_only():
    model = MLP(features=(64,), num_outputs=1, dropout_rate=0.5)
    state = reference.random_variables(model, X)
    plain = MLP(features=(64,), num_outputs=1).apply(state, X, train=True)
    np.testing.assert_array_equal(model.apply(state, X), plain)
    dropped = model.apply(state, X, train=True, rngs={"dropout": jax.random.key(1)})
    assert (np.asarray(dropped) != plain).all()


def test_small_gaussian_weights_are_as_small_as_asked():
    model = MLP((64,), 8, kernel_init=nn.initializers.normal(0.01))
    params = model.init(jax.random.key(0), X)["params"]
    kernels = np.concatenate([np.ravel(layer["kernel"]) for layer in params.values()])
    # The standard deviation of n draws is within 5 / sqrt(2 n) of the true one, five sigma.
    np.testing.assert_allclose(kernels.std(), 0.01, rtol=5 / np.sqrt(2 * kernels.size))


def test_output_is_float32_when_hidden_layers_are_bfloat16():
    model = MLP(features=(5,), num_outputs=2, dtype="bfloat16")
    y = model.apply(reference.random_variables(model, X), X)
    assert y.dtype == np.float32
