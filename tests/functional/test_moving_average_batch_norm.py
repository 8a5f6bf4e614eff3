"""Moving average batch normalization: both passes, against a loop of the paper's algorithm."""

import jax
import numpy as np
import pytest

from jaxnorm import MovingAverageState, moving_average_batch_norm
from tests.stats.reference import relative_error, rounding

WINDOW, WARMUP, CORRECTION, DECAY, R_MAX, EPSILON = 2, 4, 5, 0.8, 1.2, 1e-5


def paper(xs, gs, scale, bias, masks):
    """Yields output, gradients and the state of each step, in float64."""
    running, squares, products = np.ones(3), np.zeros((WINDOW, 3)), np.zeros((WINDOW, 3))
    steps = zip(xs.astype(np.float64), gs.astype(np.float64), masks, strict=True)
    for t, (x, g, w) in enumerate(steps, start=1):
        averaged = t > WINDOW and t >= WARMUP
        squares = np.concatenate([[(x * x)[w].mean(0)], squares[:-1]])
        s = squares.mean(0) if averaged else squares[0]
        z = x / np.sqrt(s + EPSILON)
        r = np.clip(np.sqrt((s + EPSILON) / (running + EPSILON)), 1 / R_MAX, R_MAX)
        r = r if t > CORRECTION else np.ones(3)
        g_z = g * scale * r
        products = np.concatenate([[(g_z * z)[w].mean(0)], products[:-1]])
        p = products.mean(0) if averaged else products[0]
        d_x = (g_z - np.where(w[:, None], p * z, 0)) / np.sqrt(s + EPSILON)
        running = DECAY * running + (1 - DECAY) * s
        d_scale = (g * r * z).sum(0)
        yield r * z * scale + bias, d_x, d_scale, g.sum(0), running, squares, products, [t] * 3


@pytest.mark.parametrize("axis_name", [None, "shards"])
def test_several_steps_are_those_of_the_papers_algorithm(axis_name):
    rng = np.random.default_rng(0)
    xs, gs = (rng.normal(size=(8, 16, 3)).astype(np.float32) for _ in range(2))
    xs = xs * rng.uniform(0.5, 2, (8, 1, 3)).astype(np.float32)
    scale, bias = (rng.normal(size=3).astype(np.float32) for _ in range(2))
    masks = rng.random((8, 16)) < 0.7

    def step(state, x, g, mask):
        def output(x, scale, bias, state):
            how = {"decay": DECAY, "r_max": R_MAX, "epsilon": EPSILON, "mask": mask[:, None]}
            how |= {"warmup_steps": WARMUP, "correction_steps": CORRECTION, "axis_name": axis_name}
            return moving_average_batch_norm(
                x, state, scale, bias, use_running_average=False, **how
            )

        y, pullback, new = jax.vjp(output, x, scale, bias, state, has_aux=True)
        d_x, d_scale, d_bias, d_state = pullback(g)
        new = new._replace(products=d_state.products)
        return new, (y, d_x, d_scale, d_bias, *new)

    run = step
    if axis_name is not None:

        def run(state, *arrays):
            halves = [v.reshape(2, 8, *v.shape[1:]) for v in arrays]
            mapped = jax.vmap(step, (None, 0, 0, 0), axis_name=axis_name)
            state, (y, d_x, d_scale, d_bias, *new) = mapped(state, *halves)
            whole = y.reshape(16, 3), d_x.reshape(16, 3), d_scale.sum(0), d_bias.sum(0)
            first = jax.tree.map(lambda v: v[0], (state, new))
            return first[0], (*whole, *first[1])

    run = jax.jit(run)
    state, bound = MovingAverageState.start((3,), WINDOW), rounding(np.float32, 24)
    wants = paper(xs, gs, scale, bias, masks)
    for x, g, mask, want in zip(xs, gs, masks, wants, strict=True):
        state, got = run(state, x, g, mask)
        for have, wanted in zip(got, want, strict=True):
            assert relative_error(np.asarray(have), wanted) < bound
