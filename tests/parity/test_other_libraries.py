"""Functions beside the modules of Flax, Haiku and Equinox, in float32 near zero mean."""

import functools
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import (
    BatchStats,
    batch_norm,
    batch_renorm,
    ema,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
)
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

X = np.random.default_rng(0).normal(0.5, 1, (4, 5, 3, 6)).astype(np.float32)
SCALE = np.random.default_rng(1).normal(1, 0.3, 6).astype(np.float32)
BIAS = np.random.default_rng(2).normal(size=6).astype(np.float32)
COTANGENT = np.random.default_rng(3).normal(size=X.shape).astype(np.float32)
BOUND = rounding(np.float32, 90)

FLAX = {
    "layer": (nn.LayerNorm(), lambda x, s, b: layer_norm(x, s, b)),
    "group": (nn.GroupNorm(num_groups=3), lambda x, s, b: group_norm(x, s, b, num_groups=3)),
    "instance": (nn.InstanceNorm(), lambda x, s, b: instance_norm(x, s, b)),
    "rms": (nn.RMSNorm(), lambda x, s, b: rms_norm(x, s)),
    "batch": (
        nn.BatchNorm(use_running_average=False),
        lambda x, s, b: batch_norm(x, ema().init((6,)), s, b, use_running_average=False)[0],
    ),
}


@pytest.mark.parametrize("name", FLAX)
def test_output_and_gradients_are_those_of_flax(name):
    module, ours = FLAX[name]

    def flax(x, scale, bias):
        parameters = {"scale": scale} if name == "rms" else {"scale": scale, "bias": bias}
        stats = {"batch_stats": {"mean": jnp.zeros(6), "var": jnp.ones(6)}}
        variables = {"params": parameters, **(stats if name == "batch" else {})}
        return module.apply(variables, x, mutable=["batch_stats"])[0]

    @compiled
    def both(x, scale, bias):
        results = []
        for function in (ours, flax):
            y, pullback = jax.vjp(function, x, scale, bias)
            results.append((y, *pullback(COTANGENT)))
        return results

    got, expected = both(X, SCALE, BIAS)
    for have, want in zip(got, expected, strict=True):
        assert relative_error(have, np.asarray(want), 1.0) < BOUND


def test_five_updates_of_the_running_statistics_are_those_of_flax():
    module = nn.BatchNorm(use_running_average=False, momentum=0.9, use_bias=False, use_scale=False)
    theirs = {"batch_stats": {"mean": jnp.zeros(6), "var": jnp.ones(6)}}
    ours, options = ema(0.9).init((6,)), {"use_running_average": False, "estimator": ema(0.9)}
    train = compiled(functools.partial(batch_norm, **options))
    for step in range(5):
        x = X * (1 + step) + step
        _, theirs = module.apply(theirs, x, mutable=["batch_stats"])
        _, ours = train(x, ours)
    for have, want in zip(ours, BatchStats(**theirs["batch_stats"]), strict=True):
        assert relative_error(have, np.asarray(want)) < BOUND


def test_output_is_that_of_haiku():
    haiku = pytest.importorskip("haiku")

    def run(x):
        layer = haiku.LayerNorm(-1, True, True, eps=1e-6)(x)
        group = haiku.GroupNorm(groups=3, eps=1e-6)(x)
        return layer, group, haiku.BatchNorm(True, True, 0.9, eps=1e-5)(x, is_training=True)

    transformed = haiku.transform_with_state(run)
    params, state = transformed.init(jax.random.key(0), X)
    layer, group, batch = transformed.apply(params, state, None, X)[0]
    assert relative_error(layer_norm(X), np.asarray(layer)) < BOUND
    assert relative_error(group_norm(X, num_groups=3), np.asarray(group)) < BOUND
    ours, _ = batch_norm(X, ema().init((6,)), use_running_average=False)
    assert relative_error(ours, np.asarray(batch)) < BOUND


def test_output_is_that_of_equinox():
    equinox = pytest.importorskip("equinox")
    example = np.moveaxis(X[0], -1, 0)  # channels first, one example
    group = equinox.nn.GroupNorm(3, 6, eps=1e-6)(example)
    ours = group_norm(example[None], num_groups=3, axis=1)[0]
    assert relative_error(ours, np.asarray(group)) < BOUND
    row = X[0, 0, 0]
    layer = equinox.nn.LayerNorm(6, eps=1e-6)(row)
    assert relative_error(layer_norm(row), np.asarray(layer)) < BOUND
    root = equinox.nn.RMSNorm(6, eps=1e-6)(row)
    assert relative_error(rms_norm(row), np.asarray(root)) < BOUND


@pytest.mark.slow
def test_batch_renorm_is_that_of_keras():
    """Keras averages standard deviations; from the same ones, the output agrees."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="needs the extra `parity`")
    clipping = {"rmin": 1 / 1.2, "rmax": 1.2, "dmax": 0.2}
    layer = keras.layers.BatchNormalization(renorm=True, renorm_clipping=clipping, epsilon=1e-3)
    layer.build(X.shape)
    mean = np.linspace(-0.5, 1.5, 6, dtype=np.float32)
    var = np.linspace(0.5, 2, 6, dtype=np.float32)
    given = {
        "gamma": SCALE,
        "beta": BIAS,
        "renorm_mean": mean,
        "renorm_stddev": (var + 1e-3) ** 0.5,
    }
    for variable in layer.variables:
        if variable.name in given:
            variable.assign(given[variable.name])
    trainable = [variable.value for variable in layer.trainable_variables]
    others = [variable.value for variable in layer.non_trainable_variables]

    def theirs(x):
        return layer.stateless_call(trainable, others, x, training=True)[0]

    def ours(x):
        options = {"r_max": 1.2, "d_max": 0.2, "epsilon": 1e-3, "use_running_average": False}
        return batch_renorm(x, BatchStats(mean, var), SCALE, BIAS, **options)[0]

    (have, pull), (want, pull_theirs) = jax.vjp(ours, X), jax.vjp(theirs, X)
    assert relative_error(have, want) < BOUND
    assert relative_error(pull(COTANGENT)[0], pull_theirs(COTANGENT)[0]) < BOUND
