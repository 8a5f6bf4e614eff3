"""How the laws call the members of the catalogue, whose arguments differ, and what they expect.

A new row of the catalogue takes part in every law without a line here.
"""

import functools
import inspect
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import CATALOGUE, SpectralState, cumulative
from jaxnorm.ops._implementations import VARIABLE
from tests.ops.reference import naive_standardize, reference_gradient, reference_standardize

SHAPE = (4, 3, 2, 4)  # an example of two ghost batches, positions, and two groups of channels

ACTIVATIONS = [m for m in CATALOGUE if m.of == "activations" and m.stats_shape]
KERNELS = [m for m in CATALOGUE if m.of == "kernel"]
SAMPLED = [m for m in CATALOGUE if m.stats_shape]
CENTRED = [m for m in ACTIVATIONS if m.center]
RUNNING = [m for m in ACTIVATIONS if m.stateful]


def over(members):
    """Parametrizes a test by member."""
    return pytest.mark.parametrize("member", members, ids=[m.name for m in members])


def once(build):
    """Builds (and so compiles) once for each member and implementation."""
    built = {}

    @functools.wraps(build)
    def get(member, *choices):
        key = (member.name, os.environ.get(VARIABLE), *choices)
        if key not in built:
            built[key] = build(member, *choices)
        return built[key]

    return get


def output(member, x, scale=None, bias=None, **options):
    """Returns what `member` makes of `x` in training mode, by default with default arguments."""
    call = functools.partial(member.function, **{**member.options, **options})
    parameters = (scale,) if bias is None else (scale, bias)
    if scale is None and bias is None:
        parameters = ()
    if not member.stateful:
        return call(x, *parameters)
    if member.of == "kernel":
        out = jnp.shape(x)[-1]
        state = SpectralState(jnp.linspace(1.0, 2.0, out), jnp.ones(()))
        return call(x, state, *parameters)[0]
    population = cumulative()
    stats = population.init(np.shape(x)[-1:], jnp.result_type(x))
    return call(x, stats, *parameters, use_running_average=False, estimator=population)[0]


def options_of(member, **options):
    """Returns those of `options` that `member` takes."""
    taken = inspect.signature(inspect.unwrap(member.function)).parameters
    return {name: value for name, value in options.items() if name in taken}


def epsilon(member):
    return inspect.signature(inspect.unwrap(member.function)).parameters["epsilon"].default


def reference(member, shape, epsilon_value=None):
    """Returns the arguments that make a plain standardization the reference of `member`."""
    stats_shape = member.stats_shape(shape)
    given = {"stats_shape": stats_shape, "center": member.center, "scale": 1.0}
    given["epsilon"] = epsilon(member) if epsilon_value is None else epsilon_value
    if member.name == "weight_norm":  # a length rather than a root of a mean
        n = math.prod(shape) // math.prod(stats_shape)
        given.update(scale=n**-0.5, epsilon=given["epsilon"] / n)
    return given


def expected_output(member, x, scale=1.0, bias=0.0, weights=None):
    given = reference(member, x.shape)
    given["scale"] = given["scale"] * np.asarray(scale)
    return reference_standardize(x, weights=weights, bias=bias, **given)


def expected_gradient(member, x, cotangent, scale=1.0, weights=None):
    given = reference(member, x.shape)
    given["scale"] = given["scale"] * np.asarray(scale)
    return reference_gradient(x, cotangent, weights=weights, **given)


def naive_output(member, x, scale=1.0, bias=0.0, weights=None):
    """Returns the output in plain JAX, for automatic differentiation in float64."""
    given = reference(member, x.shape)
    given["scale"] = given["scale"] * scale
    return naive_standardize(x, weights=weights, bias=bias, **given)[0]


def samples_per_statistic(member, shape):
    return math.prod(shape) // math.prod(member.stats_shape(shape))


def whole_axis(member, shape=SHAPE):
    """Returns an axis that `member` reduces as a whole, on which a sample can be cut."""
    stats_shape = member.stats_shape(shape)
    return next(a for a, (n, s) in enumerate(zip(shape, stats_shape)) if s == 1 and n > 2)


def array(seed=0, shape=SHAPE, mean=0.0, dtype=np.float32):
    return np.random.default_rng(seed).normal(mean, 1, shape).astype(dtype)
