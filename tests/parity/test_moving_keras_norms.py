"""Every norm of Keras: its variables there and back, its evaluation, its moving averages."""

import os

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.interop import from_keras, norm_options, to_keras
from tests.parity.moving import Case, check, one_sided, template

os.environ.setdefault("KERAS_BACKEND", "jax")
keras = pytest.importorskip("keras", reason="needs the extra `parity`")
pytestmark = pytest.mark.slow  # traces every norm of both


@pytest.fixture(autouse=True)
def float64(x64):
    """Lets Keras store float64; inside, its norms still compute in float32."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


X = np.random.default_rng(0).normal(1, 2, (4, 5, 3, 6))
NORMS = {
    "batch": lambda: keras.layers.BatchNormalization(momentum=0.7),
    "batch without affine": lambda: keras.layers.BatchNormalization(
        center=False, scale=False, epsilon=1e-2
    ),
    "layer": lambda: keras.layers.LayerNormalization(),
    "layer over three axes": lambda: keras.layers.LayerNormalization(axis=(1, 2, 3)),
    "layer without scale": lambda: keras.layers.LayerNormalization(scale=False),
    "group": lambda: keras.layers.GroupNormalization(3),
    "group of each channel": lambda: keras.layers.GroupNormalization(-1, center=False),
    "root mean square": lambda: keras.layers.RMSNormalization(),
    "unit": lambda: keras.layers.UnitNormalization(),
}


def randomize(layer, seed):
    rng = np.random.default_rng(seed)
    for variable in layer.variables:
        draw = rng.normal(size=variable.shape)
        variable.assign(np.abs(draw) + 0.5 if "variance" in variable.name else draw)


def same(found, wanted):
    """Asserts that arrays are equal bit for bit."""
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        assert found[key].dtype == value.dtype and np.array_equal(found[key], value)


def values(layer):
    return {v.path: np.asarray(v) for v in layer.variables}


def test_every_norm_evaluates_and_learns_as_in_keras():
    cases = {}
    for seed, (name, make) in enumerate(NORMS.items()):
        layer = make()
        layer.build(X.shape)
        randomize(layer, seed)
        ours = norm_options(layer).linen(param_dtype=jnp.float64)
        like, names = template(ours, X), lambda layer: ""
        done = from_keras(layer, like, names=names)
        same(to_keras(done.variables, layer, names=names).variables, values(layer))
        y, after = np.asarray(layer(X)), None
        if name.startswith("batch"):
            layer(X, training=True)
            after = from_keras(layer, like, names=names).variables
        cases[name] = Case(ours, done.variables, X, y, after)
    check(cases, theirs=np.float32)


def test_a_frozen_batch_norm_normalizes_by_its_moving_averages_in_training():
    layer = keras.layers.BatchNormalization()
    layer.trainable = False
    assert norm_options(layer).options["use_running_average"] is True


def test_a_spectral_norm_holds_the_divided_kernel():
    layer = keras.layers.SpectralNormalization(keras.layers.Dense(5), 8)
    rows = X[0, 0]
    layer.build(rows.shape)
    layer.layer.kernel.assign(one_sided((6, 5)))
    for _ in range(2):  # the second divides by what the first one made 1
        layer(rows, training=True)
    ours = norm_options(layer).linen(nn.Dense(5, param_dtype=jnp.float64), param_dtype=jnp.float64)
    like, names = template(ours, rows, update_stats=False), lambda layer: ""
    done = from_keras(layer, like, names=names)
    same(to_keras(done.variables, layer, names=names).variables, values(layer))
    call = {"update_stats": False}
    case = Case(ours, done.variables, rows, np.asarray(layer(rows)), call=call)
    check({"spectral": case}, theirs=np.float32)


def test_what_no_module_of_ours_does_is_refused():
    with pytest.raises(ValueError, match="renorm=True is batch renormalization"):
        norm_options(keras.layers.BatchNormalization(renorm=True))
    with pytest.raises(ValueError, match="no variables yet"):
        from_keras(keras.layers.LayerNormalization(), {"params": {"scale": np.ones(2)}})
