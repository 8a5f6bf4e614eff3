"""How the laws call the members whose arguments are those of most, and what they expect.

A row's claims choose the laws that a member takes part in; the expected numbers come from the
oracle of its name in `tests.oracles`. Members of other arguments, which have no oracle there, have
a case in `tests.zoo` and the laws beside it.
"""

import functools
import inspect
import math
import os

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import CATALOGUE, SpectralState, cumulative
from tests import oracles
from tests.laws.implementations import VARIABLE
from tests.stats.reference import wide

SHAPE = (4, 3, 2, 4)  # an example of two ghost batches, positions, and two groups of channels

CORE = [m for m in CATALOGUE if hasattr(oracles, m.name)]
SAMPLED = [m for m in CORE if m.stats_shape]
ACTIVATIONS = [m for m in SAMPLED if m.of == "activations"]
KERNELS = [m for m in CORE if m.of == "kernel"]
CENTRED = [m for m in ACTIVATIONS if m.center]


def claiming(*claims, among=CORE):
    """Returns the members whose rows make all of `claims`."""
    return [m for m in among if m.claims.issuperset(claims)]


FEW = ("batch_norm", "rms_norm", "group_norm")
"""A column, a row and a group: the members over which a long law runs every time."""


def over(members, quick=None):
    """Parametrizes a test by member; those that `quick`, if given, does not name run nightly."""
    late = [quick is not None and m.name not in quick for m in members]
    params = [pytest.param(m, marks=[pytest.mark.nightly] * n) for m, n in zip(members, late)]
    return pytest.mark.parametrize("member", params, ids=[m.name for m in members])


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
        state = SpectralState(direction(jnp.shape(x)[-1]), jnp.ones(()))
        return call(x, state, *parameters)[0]
    population = cumulative()
    stats = population.init(np.shape(x)[-1:], jnp.result_type(x))
    return call(x, stats, *parameters, use_running_average=False, estimator=population)[0]


def direction(size):
    """Returns the vector from which an iteration starts."""
    return jnp.linspace(1.0, 2.0, size)


def taken(member):
    """Returns the parameters of the function of `member`."""
    return inspect.signature(inspect.unwrap(member.function)).parameters


def options_of(member, **options):
    """Returns those of `options` that `member` takes."""
    return {name: value for name, value in options.items() if name in taken(member)}


def epsilon(member):
    return taken(member)["epsilon"].default


def oracle(member):
    return getattr(oracles, member.name)


def given_to_oracle(member, x, scale, bias, weights):
    """Returns what the oracle takes by position, and what by name, without its options."""
    position = [x] if scale is None and bias is None else [x, 1.0 if scale is None else scale]
    if bias is not None:
        position.append(bias)
    name = {}
    if "weights" in member.claims:
        weights = 1.0 if weights is None else weights
        name["weights"] = np.broadcast_to(wide(weights), np.shape(x))
    if member.stateful and member.of == "kernel":
        name["u"] = wide(direction(np.shape(x)[-1]))
    return position, name


def expected_output(member, x, scale=None, bias=None, weights=None, **options):
    """Returns the output of the oracle, in float64."""
    position, name = given_to_oracle(member, x, scale, bias, weights)
    return oracle(member)(*map(wide, position), **name, **{**member.options, **options})


def expected_gradients(member, x, cotangent, scale=None, bias=None, weights=None, **options):
    """Returns the gradients of the oracle with respect to each array given, in float64."""
    position, name = given_to_oracle(member, x, scale, bias, weights)
    return oracles.gradients(
        oracle(member), position, cotangent, name, {**member.options, **options}
    )


def expected_gradient(member, x, cotangent, scale=None, weights=None, **options):
    """Returns the gradient of the oracle with respect to `x`, in float64."""
    return expected_gradients(member, x, cotangent, scale, weights=weights, **options)[0]


def expected_tangent(member, given, moved, weights=None, **options):
    """Returns how the output of the oracle moves with x, scale and bias, in float64."""
    _, name = given_to_oracle(member, given[0], None, None, weights)
    return oracles.tangent(oracle(member), given, moved, name, {**member.options, **options})


def naive_output(member, x, scale=None, bias=None, weights=None):
    """Returns the output of the oracle on arrays of JAX, for automatic differentiation."""
    position, name = given_to_oracle(member, x, scale, bias, weights)
    return oracle(member)(*position, **name, **member.options)


def samples_per_statistic(member, shape):
    return math.prod(shape) // math.prod(member.stats_shape(shape))


def whole_axis(member, shape=SHAPE):
    """Returns an axis that `member` reduces as a whole, on which a sample can be cut."""
    stats_shape = member.stats_shape(shape)
    return next(a for a, (n, s) in enumerate(zip(shape, stats_shape)) if s == 1 and n > 2)


def array(seed=0, shape=SHAPE, mean=0.0, dtype=np.float32):
    return np.random.default_rng(seed).normal(mean, 1, shape).astype(dtype)
