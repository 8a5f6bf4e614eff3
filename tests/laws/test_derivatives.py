"""Every member in every mode of differentiation, against plain autodiff in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import SpectralState, spectral_norm
from tests.laws.members import FEW, SAMPLED, naive_output, options_of, output, over
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

SHAPE = (4, 3, 4)
# Third derivatives lose a few digits that first ones keep; a wrong term is off by far more.
BOUND = 100 * rounding(np.float64, np.prod(SHAPE))

pytestmark = pytest.mark.usefixtures("x64")


def arguments(member, seed=0):
    rng = np.random.default_rng(seed)
    given = {"x": rng.normal(1, 1, SHAPE), "scale": rng.normal(1, 0.5, SHAPE[-1:])}
    if options_of(member, bias=0):
        given["bias"] = rng.normal(size=SHAPE[-1:])
    return given


def derivatives(function, given, tangent):
    """Returns value, jvp, gradient, HVP both ways, and the gradient in vmap, scan and remat."""

    def loss(given):
        y = function(**given)
        return jnp.sum(jnp.sin(2 * y) * y)

    gradient, rematerialized = jax.grad(loss), jax.grad(jax.checkpoint(loss))

    @compiled
    def compute(given, tangent):
        value, forward = jax.jvp(lambda given: function(**given), (given,), (tangent,))
        pair = jax.tree.map(lambda a, b: jnp.stack([a, b]), given, tangent)

        def slope(given):
            parts = jax.tree.map(lambda g, t: jnp.sum(g * t), gradient(given), tangent)
            return sum(jax.tree.leaves(parts))

        return {
            "value": value,
            "jvp": forward,
            "grad": gradient(given),
            "forward over reverse": jax.jvp(gradient, (given,), (tangent,))[1],
            "grad of grad": jax.grad(slope)(given),
            "vmap": jax.vmap(gradient)(pair),
            "scan of remat": jax.lax.scan(lambda c, g: (c, rematerialized(g)), 0, pair)[1],
        }

    return compute(given, tangent)


@over(SAMPLED, FEW)
@pytest.mark.sampled(2)
def test_every_mode_of_differentiation_agrees_with_plain_autodiff(member):
    given, tangent = arguments(member), arguments(member, 1)
    got = derivatives(functools.partial(output, member), given, tangent)
    expected = derivatives(functools.partial(naive_output, member), given, tangent)
    for name in expected:
        have, want = jax.tree.leaves(got[name]), jax.tree.leaves(expected[name])
        for h, w in zip(have, want, strict=True):
            assert relative_error(h, w, 1.0) < BOUND, name


def test_spectral_norm_agrees_with_plain_autodiff_of_fixed_vectors():
    rng = np.random.default_rng(0)
    kernel, u = rng.normal(size=(6, 4)), rng.normal(size=4)
    v = kernel @ u / np.linalg.norm(kernel @ u)
    u_next = v @ kernel / np.linalg.norm(v @ kernel)

    def normalized(x):
        return spectral_norm(x, SpectralState(jnp.asarray(u), jnp.ones(())))[0]

    def naive(x):
        return x / (v @ x @ u_next)

    given, tangent = {"x": kernel}, {"x": rng.normal(size=(6, 4))}
    got, expected = (derivatives(f, given, tangent) for f in (normalized, naive))
    # A second derivative would move the vectors, which the naive one holds: first ones only.
    for name in ("value", "jvp", "grad"):
        have, want = jax.tree.leaves(got[name]), jax.tree.leaves(expected[name])
        for h, w in zip(have, want, strict=True):
            assert relative_error(h, w, 1.0) < 1e-9, name
