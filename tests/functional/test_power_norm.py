"""Power normalization: its own backward pass, against a loop of the paper's algorithm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import PowerState, power_norm
from tests.stats.reference import relative_error, rounding

DECAY, BACKWARD_DECAY, EPSILON = 0.8, 0.7, 1e-5


def paper(xs, gs, scale, bias, masks):
    """Yields output, gradients and both running statistics of each step, in float64."""
    squares, nu = np.ones(xs.shape[-1]), np.zeros(xs.shape[-1])
    for x, g, w in zip(xs.astype(np.float64), gs.astype(np.float64), masks, strict=True):
        z = x / np.sqrt(squares + EPSILON)
        g_z = g * scale
        gradient = (g_z - np.where(w[:, None], nu * z, 0)) / np.sqrt(squares + EPSILON)
        gamma, lam = (z * z)[w].mean(0), (g_z * z)[w].mean(0)
        nu = nu * (1 - (1 - BACKWARD_DECAY) * gamma) + (1 - BACKWARD_DECAY) * lam
        squares = DECAY * squares + (1 - DECAY) * (x * x)[w].mean(0)
        yield z * scale + bias, gradient, (g * z).sum(0), g.sum(0), squares, nu


def test_several_steps_are_those_of_the_papers_algorithm():
    rng = np.random.default_rng(0)
    xs, gs = (rng.normal(size=(4, 16, 3)).astype(np.float32) for _ in range(2))
    scale, bias = (rng.normal(size=3).astype(np.float32) for _ in range(2))
    masks = np.arange(16) < np.array([[16], [16], [9], [12]])

    def step(state, x, g, mask):
        def output(x, scale, bias, state):
            how = {"decay": DECAY, "backward_decay": BACKWARD_DECAY, "epsilon": EPSILON}
            how = {**how, "mask": mask[:, None]}
            return power_norm(x, state, scale, bias, use_running_average=False, **how)

        y, pullback, new = jax.vjp(output, x, scale, bias, state, has_aux=True)
        d_x, d_scale, d_bias, d_state = pullback(g)
        new = new._replace(backward=d_state.backward)
        return new, (y, d_x, d_scale, d_bias, *new)

    step = jax.jit(step)
    state, bound = PowerState(jnp.ones(3), jnp.zeros(3)), rounding(np.float32, 16)
    wants = paper(xs, gs, scale, bias, masks)
    for x, g, mask, want in zip(xs, gs, masks, wants, strict=True):
        state, got = step(state, x, g, mask)
        for have, expected in zip(got, want, strict=True):
            assert relative_error(np.asarray(have), expected) < bound


@pytest.mark.nightly
def test_shards_share_both_statistics():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(8, 3)), jnp.float32)
    state = PowerState(jnp.ones(3), jnp.full(3, 0.2))

    def run(x, axis_name=None):
        def loss(state):
            y, new = power_norm(x, state, use_running_average=False, axis_name=axis_name)
            return (y**3).sum(), new

        return jax.grad(loss, has_aux=True)(state)

    def both(x):
        shards = jax.vmap(lambda x: run(x, "i"), axis_name="i")(x.reshape(2, 4, 3))
        return run(x), shards

    whole, shards = jax.jit(both)(x)
    for got, want in zip(jax.tree.leaves(shards), jax.tree.leaves(whole), strict=True):
        assert relative_error(np.asarray(got[0]), np.asarray(want)) < rounding(np.float32, 24)
