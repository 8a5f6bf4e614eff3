"""Online normalization: both passes, against a loop over samples of the paper's algorithm."""

import jax
import numpy as np
import pytest

from jaxnorm import OnlineState, online_norm
from tests.stats.reference import relative_error, rounding

DECAY, BACKWARD_DECAY, EPSILON = 0.8, 0.7, 1e-5


def paper(xs, gs, scale, bias, masks):
    """Yields output, gradients and all running statistics of each step, in float64."""
    mean, var, u, v = np.zeros(3), np.ones(3), np.zeros(3), np.zeros(3)
    for x, g, mask in zip(xs.astype(np.float64), gs.astype(np.float64), masks, strict=True):
        z, sd, y, size = np.empty_like(x), np.empty((len(x), 3)), np.empty_like(x), len(x) * [0]
        for n, (sample, w) in enumerate(zip(x, mask, strict=True)):
            sd[n] = np.sqrt(var + EPSILON)
            z[n] = (sample - mean) / sd[n]
            y[n], size[n] = z[n] * scale + bias, 1
            if not w.any():
                continue
            size[n] = np.sqrt((y[n][w] ** 2).mean() + EPSILON)
            m, d = sample[w].mean(0), sample[w].var(0)
            var = DECAY * var + (1 - DECAY) * d + DECAY * (1 - DECAY) * (m - mean) ** 2
            mean = DECAY * mean + (1 - DECAY) * m
        d_x, d_scale, d_bias = np.empty_like(x), np.zeros(3), np.zeros(3)
        for n, w in enumerate(mask):
            out = y[n] / size[n]
            of_all = (g[n] * out).sum() / max(w.sum(), 1) / 3
            g_y = (g[n] - np.where(w[:, None], of_all * out, 0)) / size[n]
            d_scale, d_bias = d_scale + (g_y * z[n]).sum(0), d_bias + g_y.sum(0)
            h = g_y * scale - np.where(w[:, None], (1 - BACKWARD_DECAY) * v * z[n], 0)
            v = v + (h * z[n])[w].sum(0) / max(w.sum(), 1)
            d = h / sd[n] - np.where(w[:, None], (1 - BACKWARD_DECAY) * u, 0)
            u = u + d[w].sum(0) / max(w.sum(), 1)
            d_x[n] = d
        yield y / np.reshape(size, (-1, 1, 1)), d_x, d_scale, d_bias, mean, var, u, v


def test_several_steps_are_those_of_the_papers_algorithm():
    rng = np.random.default_rng(0)
    xs, gs = (rng.normal(size=(3, 6, 4, 3)).astype(np.float32) for _ in range(2))
    scale, bias = (rng.normal(size=3).astype(np.float32) for _ in range(2))
    masks = np.ones((3, 6, 4), bool)
    masks[1:] = rng.random((2, 6, 4)) < 0.5
    masks[2, 3] = False

    def step(state, x, g, mask):
        def output(x, scale, bias, state):
            how = {"decay": DECAY, "backward_decay": BACKWARD_DECAY, "mask": mask[..., None]}
            return online_norm(x, state, scale, bias, use_running_average=False, **how)

        y, pullback, new = jax.vjp(output, x, scale, bias, state, has_aux=True)
        d_x, d_scale, d_bias, d_state = pullback(g)
        new = new._replace(gradient=d_state.gradient, product=d_state.product)
        return new, (y, d_x, d_scale, d_bias, *new)

    step = jax.jit(step)
    state, bound = OnlineState.start((3,)), rounding(np.float32, 24)
    want = paper(xs, gs, scale, bias, masks)
    for x, g, mask, expected in zip(xs, gs, masks, want, strict=True):
        state, got = step(state, x, g, mask)
        for have, wanted in zip(got, expected, strict=True):
            assert relative_error(np.asarray(have), wanted) < bound


def test_bad_states_and_decays_are_refused_with_their_numbers():
    state = OnlineState.start((2,))
    with pytest.raises(ValueError, match=r"state.mean \[2\] does not fit x.*is \[3\]"):
        online_norm(np.ones((4, 3), np.float32), state, use_running_average=False)
    with pytest.raises(ValueError, match=r"decay=1.5 must be from 0 to 1"):
        online_norm(np.ones((4, 2), np.float32), state, use_running_average=False, decay=1.5)
