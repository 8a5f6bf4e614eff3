"""Small whole networks of Haiku, Equinox and Keras: every layout that their layers have."""

import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.interop import (
    after_flatten,
    from_equinox,
    from_haiku,
    from_keras,
    to_equinox,
    to_haiku,
    to_keras,
)
from jaxnorm.linen import BatchNorm
from tests.stats.reference import relative_error

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 6, 5, 4)).astype(np.float32)
IDS = np.array([2, 0, 1])
os.environ.setdefault("KERAS_BACKEND", "jax")
pytestmark = pytest.mark.slow  # each compiles two whole networks


class Network(nn.Module):
    """A convolution, a transposed one, a depthwise one, a norm, an embedding, a dense layer."""

    epsilon: float

    @nn.compact
    def __call__(self, x, ids):
        x = nn.Conv(3, (3, 2), padding="VALID", name="conv")(x)
        x = nn.ConvTranspose(5, (2, 3), (2, 1), padding="VALID", name="up")(x)
        options = {"feature_group_count": 5, "padding": "VALID"}
        x = nn.Conv(10, (2, 2), **options, name="depthwise")(x)
        x = BatchNorm(True, epsilon=self.epsilon, name="norm")(x)
        x = nn.relu(x).reshape(x.shape[0], -1) + nn.Embed(4, 350, name="table")(ids)
        return nn.Dense(2, name="head")(x)


def run(epsilon, variables):
    return jax.jit(Network(epsilon).apply)(variables, X, IDS)


def shapes():
    return jax.eval_shape(lambda: Network(0.0).init(jax.random.key(0), X, IDS))


def drawn(shape, positive=False):
    return np.abs(RNG.normal(size=shape)) + 0.5 if positive else RNG.normal(size=shape)


def same(found, wanted):
    """Asserts that two trees are equal bit for bit."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)


def test_a_network_of_haiku():
    hk = pytest.importorskip("haiku", reason="needs the extra `parity`")

    def network(x, ids, train):
        x = hk.Conv2D(3, (3, 2), padding="VALID", name="conv")(x)
        x = hk.Conv2DTranspose(5, (2, 3), (2, 1), padding="VALID", name="up")(x)
        x = hk.DepthwiseConv2D(2, (2, 2), padding="VALID", name="depthwise")(x)
        x = hk.BatchNorm(True, True, 0.9, name="norm")(x, is_training=train)
        x = jax.nn.relu(x).reshape(x.shape[0], -1) + hk.Embed(4, 350, name="table")(ids)
        return hk.Linear(2, name="head")(x)

    net = hk.transform_with_state(network)
    params, state = jax.jit(net.init, static_argnums=3)(jax.random.key(0), X, IDS, True)
    params = jax.tree.map(lambda v: jnp.asarray(drawn(v.shape), v.dtype), params)
    apply = jax.jit(net.apply, static_argnums=5)
    for step in range(2):
        _, state = apply(params, state, None, X + step, IDS, True)
    layouts = {"up": "conv_transpose"}
    variables = from_haiku((params, state), shapes(), layouts=layouts).variables
    y, _ = apply(params, state, None, X, IDS, False)
    assert relative_error(run(1e-5, variables), np.asarray(y)) < 1e-5
    back, _ = to_haiku(variables, (params, state), layouts=layouts).variables
    same(back, params)


def test_a_network_of_equinox():
    eqx = pytest.importorskip("equinox", reason="needs the extra `parity`")

    class Theirs(eqx.Module):
        conv: eqx.nn.Conv2d
        up: eqx.nn.ConvTranspose2d
        depthwise: eqx.nn.Conv2d
        norm: eqx.nn.BatchNorm
        table: eqx.nn.Embedding
        head: eqx.nn.Linear

        def __init__(self):
            keys = iter(jax.random.split(jax.random.key(0), 5))
            self.conv = eqx.nn.Conv2d(4, 3, (3, 2), key=next(keys))
            self.up = eqx.nn.ConvTranspose2d(3, 5, (2, 3), (2, 1), key=next(keys))
            self.depthwise = eqx.nn.Conv2d(5, 10, 2, groups=5, key=next(keys))
            self.norm = eqx.nn.BatchNorm(10, "batch", mode="batch")
            self.table = eqx.nn.Embedding(4, 350, key=next(keys))
            self.head = eqx.nn.Linear(350, 2, key=next(keys))

        def __call__(self, x, i, state):
            x, state = self.norm(self.depthwise(self.up(self.conv(x))), state)
            # Positions before channels, as our flatten has them.
            flat = jnp.moveaxis(jax.nn.relu(x), 0, -1).ravel()
            return self.head(flat + self.table(i)), state

    model, state = eqx.nn.make_with_state(Theirs)()
    apply = jax.vmap(
        lambda model, x, i, state: model(x, i, state),
        axis_name="batch",
        in_axes=(None, 0, 0, None),
        out_axes=(0, None),
    )
    apply = eqx.filter_jit(apply)
    x = np.moveaxis(X, -1, 1)
    for step in range(2):
        _, state = apply(model, x + step, IDS, state)
    variables = from_equinox((model, state), shapes()).variables
    y, _ = apply(eqx.nn.inference_mode(model), x, IDS, state)
    assert relative_error(run(1e-5, variables), np.asarray(y)) < 1e-5
    back, _ = to_equinox(variables, (model, state)).variables
    same(eqx.filter(back, eqx.is_array), eqx.filter(model, eqx.is_array))
    # Behind a flatten with channels first the head would need another order.
    first = {"head": after_flatten(10, 7, 5)}
    moved = from_equinox((model, state), shapes(), layouts=first).variables
    kernel = np.asarray(model.head.weight).T.reshape(10, 7, 5, 2)
    assert np.array_equal(
        moved["params"]["head"]["kernel"], np.moveaxis(kernel, 0, 2).reshape(350, 2)
    )


def test_a_network_of_keras():
    keras = pytest.importorskip("keras", reason="needs the extra `parity`")
    layers = keras.layers
    image, ids = keras.Input(X.shape[1:]), keras.Input((), dtype="int32")
    x = layers.Conv2D(3, (3, 2), name="conv")(image)
    x = layers.Conv2DTranspose(5, (2, 3), (2, 1), name="up")(x)
    x = layers.DepthwiseConv2D(2, depth_multiplier=2, name="depthwise")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Flatten()(layers.ReLU()(x)) + layers.Embedding(4, 350, name="table")(ids)
    model = keras.Model([image, ids], layers.Dense(2, name="head")(x))
    for variable in model.variables:
        variable.assign(drawn(variable.shape, "variance" in variable.name))
    layouts = {"up": "conv_transpose"}
    variables = from_keras(model, shapes(), layouts=layouts).variables
    y = model([X, IDS])
    assert relative_error(run(1e-3, variables), np.asarray(y)) < 1e-5
    back = to_keras(variables, model, layouts=layouts).variables
    same(list(back.values()), [np.asarray(v) for v in model.variables])
