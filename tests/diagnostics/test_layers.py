"""What is captured from a model is what its layers compute, by NumPy and by plain autodiff."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.datasets import load_digits

import jaxnorm.models.nnx
import jaxnorm.nnx
from jaxnorm.diagnostics import (
    layer_gradients,
    layer_percentiles,
    layer_values,
    train_eval_gap,
)
from jaxnorm.linen import BatchNorm
from jaxnorm.models import MLP
from jaxnorm.surgery import with_variables
from jaxnorm.training import cross_entropy

IMAGES, LABELS = load_digits(return_X_y=True)
X = jnp.asarray(IMAGES[:64], jnp.float32) / 16
BATCH = {"labels": jnp.asarray(LABELS[:64])}
MODEL = MLP(features=(12, 8), num_outputs=10, norm=BatchNorm)
VARIABLES = MODEL.init(jax.random.key(0), X)
NNX = with_variables(
    jaxnorm.models.nnx.MLP(64, (12, 8), 10, norm=jaxnorm.nnx.BatchNorm, rngs=nnx.Rngs(0)), VARIABLES
)
BOTH = pytest.mark.parametrize("model", [(MODEL.apply, VARIABLES), (NNX,)], ids=["linen", "nnx"])
LAYERS = ["hidden_0", "norm_0", "hidden_1", "norm_1", "output"]
# Sums of at most 64 products in float32.
CLOSE = {"rtol": 64 * np.finfo(np.float32).eps, "atol": 1e-5}


def loss(logits):
    return cross_entropy(logits, BATCH)[0]


def numpy_hidden() -> tuple[np.ndarray, np.ndarray]:
    """Returns the first hidden layer before and after its norm in train mode, in float64."""
    kernel = np.asarray(VARIABLES["params"]["hidden_0"]["kernel"], np.float64)
    z = np.asarray(X, np.float64) @ kernel
    return z, (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)


@BOTH
def test_every_layer_is_captured_in_the_order_of_the_calls(model):
    found = layer_values(*model, X, train=True)
    assert list(found) == LAYERS
    np.testing.assert_allclose(found["norm_0"].input, numpy_hidden()[0], **CLOSE)
    np.testing.assert_allclose(found["norm_0"].output, numpy_hidden()[1], rtol=1e-4, atol=1e-4)


def test_capturing_works_under_jit():
    take = functools.partial(layer_values, MODEL.apply, train=False)
    found, plain = jax.jit(take)(VARIABLES, X), take(VARIABLES, X)
    assert set(found) == set(LAYERS)
    np.testing.assert_allclose(found["output"].output, plain["output"].output, **CLOSE)


@BOTH
@pytest.mark.parametrize("layers", [("norm_1",), lambda path: path.endswith("m_1")])
def test_layers_are_picked_by_path_or_by_function(layers, model):
    assert list(layer_values(*model, X, layers=layers)) == ["norm_1"]


class Shared(nn.Module):
    """One layer, called twice, below a rematerialized one."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(4, name="shared")
        return nn.remat(nn.Dense)(2, name="remat")(layer(layer(x)))


def test_calls_of_a_shared_layer_are_told_apart():
    x = jnp.ones((3, 4))
    model = Shared()
    variables = model.init(jax.random.key(0), x)
    found = layer_values(model.apply, variables, x)
    assert list(found) == ["shared", "shared#2", "remat"]
    np.testing.assert_array_equal(found["shared#2"].input, found["shared"].output)


class SharedInNnx(nnx.Module):
    """The same in nnx, the second layer rematerialized."""

    def __init__(self):
        self.shared = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
        self.remat = nnx.Linear(4, 2, rngs=nnx.Rngs(1))

    def __call__(self, x):
        x = self.shared(self.shared(x))
        return nnx.remat(lambda layer, x: layer(x))(self.remat, x)


def test_calls_of_a_shared_layer_of_nnx_are_told_apart_and_nothing_stays_behind():
    model, x = SharedInNnx(), jnp.ones((3, 4))
    before = nnx.graphdef(model)
    found = jax.jit(lambda x: layer_values(model, x))(x)
    assert set(found) == {"shared", "shared#2", "remat"}
    np.testing.assert_array_equal(found["shared#2"].input, found["shared"].output)
    assert nnx.graphdef(model) == before


def test_layers_on_integers_have_no_floating_input():
    model, tokens = nn.Embed(5, 3), jnp.arange(4)
    variables = model.init(jax.random.key(0), tokens)
    [values] = layer_values(model.apply, variables, tokens).values()
    assert (values.input, values.output.shape) == (None, (4, 3))


@BOTH
@pytest.mark.parametrize(("side", "index"), [("input", 0), ("output", 1)])
def test_percentiles_of_a_layer_are_numpys(side, index, model):
    found = layer_percentiles(*model, X, side=side, train=True)
    expected = np.percentile(numpy_hidden()[index], [15, 50, 85], axis=0)
    np.testing.assert_allclose(found["norm_0"], expected, rtol=1e-4, atol=1e-4)


@BOTH
def test_the_gradient_of_the_last_layers_output_is_the_softmax_minus_the_labels(model):
    found = layer_gradients(*model, X, loss, train=True)
    logits = np.asarray(layer_values(MODEL.apply, VARIABLES, X, train=True)["output"].output)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    error = shares / shares.sum(1, keepdims=True) - np.eye(10)[LABELS[:64]]
    expected = np.sqrt(np.mean((error / 64) ** 2, axis=0))
    np.testing.assert_allclose(found["output"].output, expected, rtol=1e-4)


@BOTH
def test_parameter_gradients_are_those_of_plain_autodiff(model):
    def plain(params):
        given = {**VARIABLES, "params": params}
        return loss(MODEL.apply(given, X, train=True, mutable=["batch_stats"])[0])

    grads = jax.grad(plain)(VARIABLES["params"])
    found = layer_gradients(*model, X, loss, train=True)
    assert list(found) == LAYERS
    for name in LAYERS:
        flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(grads[name])])
        np.testing.assert_allclose(found[name].params, np.linalg.norm(flat), rtol=1e-4)


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_a_unit_that_no_example_reaches_is_dead(kind):
    params = jax.tree.map(jnp.copy, VARIABLES["params"])
    params["norm_0"]["bias"] = params["norm_0"]["bias"].at[3].set(-100.0)
    given = {**VARIABLES, "params": params}
    model = (MODEL.apply, given) if kind == "linen" else (with_variables(NNX, given),)
    found = layer_gradients(*model, X, loss, train=True)
    assert found["norm_0"].dead.tolist() == [unit == 3 for unit in range(12)]


@BOTH
def test_the_gap_between_modes_is_the_one_that_numpy_finds(model):
    gap = train_eval_gap(*model, X)
    z, train = numpy_hidden()
    evaluate = z / np.sqrt(1 + 1e-5)
    within = (np.mean(train.var(0)) + np.mean(evaluate.var(0))) / 2
    expected = np.sqrt(np.mean((train - evaluate) ** 2) / within)
    assert gap["hidden_0"] == 0
    np.testing.assert_allclose(gap["norm_0"], expected, rtol=1e-4)
