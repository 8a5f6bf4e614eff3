"""Cross-iteration batch normalization of a convolution, against a loop of the paper's algorithm."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm
from jaxnorm import CrossIterationState, cross_iteration_batch_norm
from tests.stats.reference import relative_error, rounding

WINDOW, BURN_IN, DECAY, EPSILON = 3, 1, 0.8, 1e-5
FIELDS = {"window": WINDOW, "burn_in_steps": BURN_IN, "decay": DECAY, "epsilon": EPSILON}
CONV = {"kernel_size": (2,), "padding": "VALID", "use_bias": False}


def paper(inputs, kernels, gs):
    """Yields output, gradient of the kernel, running statistics and whether the maximum is taken.

    Mean squares and their derivatives in float64, as the paper has them.
    """
    past, running = [], (np.zeros(4), np.ones(4))
    for t, (a, w, g) in enumerate(zip(inputs, kernels, gs, strict=True)):
        a = np.concatenate([a[:, :-1], a[:, 1:]], -1).astype(np.float64).reshape(-1, 6)
        w, g = w.astype(np.float64).reshape(6, 4), g.astype(np.float64).reshape(-1, 4)
        x = a @ w
        rows, clipped = [(x.mean(0), (x * x).mean(0))], False
        for m, square, dm, ds, old in past if t >= BURN_IN else ():
            m, square = m + (dm * (w - old)).sum(0), square + (ds * (w - old)).sum(0)
            clipped = clipped or (square < m**2).any()
            rows.append((m, np.maximum(square, m**2)))
        m, v = (np.mean(v, 0) for v in zip(*rows, strict=True))
        v, n = v - m**2, len(rows) * len(x)
        sd = np.sqrt(v + EPSILON)
        y = (x - m) / sd
        d_x = (g - g.sum(0) / n - y * (g * y).sum(0) / n) / sd
        slopes = a.mean(0)[:, None] + 0 * w, 2 * a.T @ x / len(x)
        past = [(*(v.mean(0) for v in (x, x * x)), *slopes, w), *past][: WINDOW - 1]
        pairs = zip(running, (x.mean(0), x.var(0)), strict=True)
        running = [DECAY * old + (1 - DECAY) * new for old, new in pairs]
        yield y.reshape(5, 3, 4), (a.T @ d_x).reshape(2, 3, 4), *running, clipped


def in_linen(kernel):
    norm = jaxnorm.linen.CrossIterationBatchNorm(
        nn.Conv(4, **CONV), use_scale=False, use_bias=False, use_running_average=False, **FIELDS
    )

    def step(stats, kernel, a, g):
        def output(kernel):
            params = {"layer_instance": {"kernel": kernel}}
            variables = {"params": params, "batch_stats": stats}
            return norm.apply(variables, a, mutable=["batch_stats"])

        y, back, new = jax.vjp(output, kernel, has_aux=True)
        return new["batch_stats"], (y, *back(g))

    variables = jax.jit(norm.init)(jax.random.key(0), jnp.ones((5, 4, 3)))
    assert jax.tree.map(jnp.shape, variables["params"]) == {
        "layer_instance": {"kernel": kernel.shape}
    }
    return step, variables["batch_stats"], lambda stats: (stats["mean"], stats["var"])


def in_nnx(kernel):
    rngs = nnx.Rngs(0)
    norm = jaxnorm.nnx.CrossIterationBatchNorm(
        nnx.Conv(3, 4, **CONV, rngs=rngs), use_scale=False, use_bias=False, **FIELDS, rngs=rngs
    )
    graph, params, rest = nnx.split(norm, nnx.Param, ...)

    def step(rest, kernel, a, g):
        def output(kernel):
            new = jax.tree.map(lambda _: kernel, params)
            norm = nnx.merge(graph, new, rest, copy=True)
            return norm(a), nnx.split(norm, nnx.Param, ...)[2]

        y, back, new = jax.vjp(output, kernel, has_aux=True)
        return new, (y, *back(g))

    return step, rest, lambda rest: (rest["mean"][...], rest["var"][...])


@pytest.mark.parametrize("room", [in_linen, in_nnx])
def test_several_steps_are_those_of_the_papers_algorithm(room):
    rng = np.random.default_rng(0)
    inputs, gs = rng.normal(size=(6, 5, 4, 3)), rng.normal(size=(6, 5, 3, 4))
    kernels = np.cumsum(rng.normal(size=(6, 2, 3, 4)) * 0.4, 0)
    inputs, gs, kernels = (v.astype(np.float32) for v in (inputs, gs, kernels))
    step, state, running = room(kernels[0])
    step = jax.jit(step)
    bound, taken = rounding(np.float32, 60), []
    for arrays in zip(kernels, inputs, gs, paper(inputs, kernels, gs), strict=True):
        *given, (*want, clipped) = arrays
        taken.append(clipped)
        state, got = step(state, *given)
        for have, wanted in zip((*got, *running(state)), want, strict=True):
            assert relative_error(np.asarray(have), wanted) < bound
    assert any(taken) and not all(taken[2:])


def test_a_far_mean_costs_the_variance_of_earlier_batches_no_digits():
    # As mean squares the moments of x are 1e8 and their difference 1: no digit would be left.
    rng = np.random.default_rng(1)
    noise, weight = rng.normal(size=(2, 64, 1)).astype(np.float32), np.ones((1, 1), np.float32)
    how = {"use_running_average": False, "epsilon": 0.0}
    state = CrossIterationState.start((1, 1), 2)

    @jax.jit
    def step(state, x):
        return cross_iteration_batch_norm(x, state, weight, lambda g: g.sum(0)[None], **how)

    for x in noise + np.float32(1e4):
        y, state = step(state, x)
    x = np.asarray(noise + np.float32(1e4), np.float64)
    want = (x[1] - x.mean()) / x.std()
    # The mean of the batch before is kept in float32, to half a unit in the last place.
    assert np.abs(np.asarray(y) - want).max() < 2.0**-24 * 1e4 + rounding(np.float32, 64)


def test_a_layer_with_a_bias_and_a_kernel_of_another_layout_are_refused():
    with pytest.raises(ValueError, match=r"got one with \['bias', 'kernel'\]; make it with use_b"):
        jaxnorm.nnx.CrossIterationBatchNorm(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    norm = jaxnorm.linen.CrossIterationBatchNorm(nn.Dense(3), use_running_average=False)
    with pytest.raises(ValueError, match=r"got one with \['bias', 'kernel'\]; make it with use_b"):
        norm.init(jax.random.key(0), jnp.ones((4, 2)))
    state = CrossIterationState.start((3, 2), 2)
    with pytest.raises(ValueError, match=r"kernel \[3, 2\] must have the features \[3\] of x"):
        cross_iteration_batch_norm(
            jnp.ones((4, 3)), state, jnp.ones((3, 2)), lambda g: g, use_running_average=False
        )
