"""The long short-term memory against float64 NumPy."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import linen
from jaxnorm.models import LSTM
from tests.models import reference

N, T, C, F = 5, 4, 3, 6
X = np.random.default_rng(0).standard_normal((N, T, C)).astype(np.float32)
SMALL = nn.initializers.constant(0.1)
BATCH = functools.partial(linen.BatchNorm, momentum=0.9, scale_init=SMALL)
# Sums of at most 7 products of order one, through T steps, each of which doubles an error at most.
TOLERANCE = 2**T * 7 * np.finfo(np.float32).eps


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def forward(params, normalize):
    """Returns the hidden states, and by place what `normalize(x, place, step)` was given."""
    cell = hidden = np.zeros((N, F))
    seen = {"norm_input": [], "norm_hidden": [], "norm_cell": []}

    def norm(x, place, step):
        seen[place].append(x)
        affine = params.get(place, {})
        return normalize(x, place, step) * affine.get("scale", 1) + affine.get("bias", 0)

    states = []
    for step in range(T):
        gates = norm(X[:, step].astype(np.float64) @ params["input"]["kernel"], "norm_input", step)
        gates = gates + norm(hidden @ params["hidden"]["kernel"], "norm_hidden", step)
        forget, enter, leave, new = np.split(gates + params["bias"], 4, axis=1)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(new)
        hidden = sigmoid(leave) * np.tanh(norm(cell, "norm_cell", step))
        states.append(hidden)
    return np.stack(states, 1), seen


def own(axis, epsilon):
    """Returns the normalization with the statistics of x itself along `axis`."""

    def normalize(x, place, step):
        return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + epsilon)

    return normalize


def drawn(model):
    variables = reference.random_variables(model, X)
    return variables, reference.float64(variables["params"]["cell"])


@pytest.mark.parametrize(
    ("norm", "normalize"),
    [
        (None, lambda x, place, step: x),
        (linen.LayerNorm, own(1, 1e-6)),
        (linen.BatchNorm, own(0, 1e-5)),
    ],
)
@pytest.mark.sampled(2)
def test_hidden_states_in_training_are_those_by_hand(norm, normalize):
    model = LSTM(F, norm=norm)
    variables, params = drawn(model)
    apply = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    want, _ = forward(params, normalize)
    np.testing.assert_allclose(apply(variables, X)[0], want, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("stats_steps", [1, 2, T, T + 2])
@pytest.mark.sampled(2)
def test_running_statistics_of_each_step_are_its_own_and_the_last_the_mean_of_the_rest(stats_steps):
    model = LSTM(F, norm=BATCH, stats_steps=stats_steps)
    variables, params = drawn(model)
    update = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    _, updated = update(variables, X)
    _, seen = forward(params, own(0, 1e-5))
    for place, inputs in seen.items():
        steps = np.stack(inputs)  # [T, N, C]
        for name, start, each in (("mean", 0.0, steps.mean(1)), ("var", 1.0, steps.var(1))):
            want = np.full((stats_steps, each.shape[1]), start)
            for entry in range(min(stats_steps, T)):
                last = entry == stats_steps - 1
                batch = each[entry:].mean(0) if last else each[entry]
                want[entry] = 0.9 * start + 0.1 * batch
            got = updated["batch_stats"]["cell"][place][name]
            np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("stats_steps", [1, 3, T + 2])
@pytest.mark.sampled(2)
def test_in_eval_mode_each_step_uses_its_running_statistics_and_later_ones_the_last(stats_steps):
    model = LSTM(F, norm=BATCH, stats_steps=stats_steps)
    variables, params = drawn(model)
    rng = np.random.default_rng(1)
    stats = jax.tree.map(lambda a: rng.uniform(0.5, 2, a.shape), variables["batch_stats"]["cell"])
    variables["batch_stats"] = {"cell": jax.tree.map(jnp.float32, stats)}

    def running(x, place, step):
        entry = min(step, stats_steps - 1)
        return (x - stats[place]["mean"][entry]) / np.sqrt(stats[place]["var"][entry] + 1e-5)

    want, _ = forward(params, running)
    got = jax.jit(model.apply)(variables, X)
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE)


def test_recurrent_batch_norm_keeps_the_statistics_of_each_step_itself_also_for_evaluation():
    model = LSTM(F, norm="recurrent_batch_norm", stats_steps=3)
    variables, params = drawn(model)
    train = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    y, updated = train(variables, X)
    want, seen = forward(params, own(0, 1e-5))
    np.testing.assert_allclose(y, want, rtol=0, atol=TOLERANCE)
    stats = updated["batch_stats"]["cell"]
    for place, inputs in seen.items():
        mean = np.zeros((3, inputs[0].shape[1]))
        var = np.ones_like(mean)
        for step, x in enumerate(inputs):
            row = min(step, 2)
            mean[row] = 0.99 * mean[row] + 0.01 * x.mean(0)
            var[row] = 0.99 * var[row] + 0.01 * x.var(0)
        for name, expected in (("mean", mean), ("var", var)):
            np.testing.assert_allclose(stats[place][name], expected, rtol=0, atol=TOLERANCE)

    def running(x, place, step):
        row = min(step, 2)
        return (x - stats[place]["mean"][row]) / np.sqrt(stats[place]["var"][row] + 1e-5)

    evaluated = jax.jit(model.apply)({**variables, **updated}, X)
    stats = reference.float64(stats)
    want, _ = forward(params, running)
    np.testing.assert_allclose(evaluated, want, rtol=0, atol=TOLERANCE)


def test_a_factory_of_recurrent_batch_norm_is_the_norm_by_its_name():
    named = LSTM(F, norm="recurrent_batch_norm", stats_steps=3)
    made = LSTM(F, norm=functools.partial(linen.RecurrentBatchNorm, max_steps=3))
    variables, _ = drawn(named)
    run = (jax.jit(m.apply) for m in (named, made))
    want, got = (apply(variables, X) for apply in run)
    np.testing.assert_array_equal(got, want)


def test_statistics_stay_where_they_are_not_mutable():
    model = LSTM(F, norm=BATCH, stats_steps=T)
    variables, params = drawn(model)
    got = jax.jit(functools.partial(model.apply, train=True))(variables, X)
    np.testing.assert_allclose(got, forward(params, own(0, 1e-5))[0], rtol=0, atol=TOLERANCE)


def test_scales_start_where_the_factory_says_and_the_forget_gate_open():
    model = LSTM(F, norm=BATCH, stats_steps=T)
    cell = jax.jit(model.init)(jax.random.key(0), X)["params"]["cell"]
    for place in ("norm_input", "norm_hidden", "norm_cell"):
        np.testing.assert_array_equal(cell[place]["scale"], np.float32(0.1))
    np.testing.assert_array_equal(cell["bias"], np.repeat(np.float32([1, 0]), [F, 3 * F]))
    product = cell["hidden"]["kernel"] @ cell["hidden"]["kernel"].T
    np.testing.assert_allclose(product, np.eye(F), atol=F * np.finfo(np.float32).eps)


@pytest.mark.parametrize(
    ("norm", "extra"),
    [
        (None, 0),
        # Scales at the two products, scale and bias at the cell.
        (linen.BatchNorm, 2 * 4 * 100 + 2 * 100),
        (linen.LayerNorm, 2 * 4 * 100 + 2 * 100),
        (linen.RMSNorm, 2 * 4 * 100 + 100),
    ],
)
def test_pixel_by_pixel_lstm_of_the_paper_has_the_parameters_of_its_gates(norm, extra):
    model = LSTM(100, norm=norm, stats_steps=784)
    form = jax.ShapeDtypeStruct((1, 784, 1), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), form)
    assert reference.size(shapes["params"]) == 4 * (100 * 100 + 1 * 100 + 100) + extra
    if norm is linen.BatchNorm:
        assert reference.size(shapes["batch_stats"]) == 784 * 2 * (4 + 4 + 1) * 100


def test_gradient_of_training_mode_is_that_of_the_steps_written_out():
    model = LSTM(F, norm=linen.BatchNorm, stats_steps=T)
    variables, _ = drawn(model)

    def by_scan(params):
        y, _ = model.apply({**variables, "params": params}, X, train=True, mutable=["batch_stats"])
        return jnp.sum(y[:, -1] ** 2)

    def written_out(params):
        p = params["cell"]

        def norm(x, place):
            y = (x - x.mean(0)) * jax.lax.rsqrt(x.var(0) + 1e-5)
            return y * p[place]["scale"] + p[place].get("bias", 0)

        cell = hidden = jnp.zeros((N, F))
        for step in range(T):
            gates = norm(X[:, step] @ p["input"]["kernel"], "norm_input") + p["bias"]
            # The first hidden state is zero, and so is what a constant is normalized to.
            if step:
                gates = gates + norm(hidden @ p["hidden"]["kernel"], "norm_hidden")
            forget, enter, leave, new = jnp.split(gates, 4, 1)
            cell = nn.sigmoid(forget) * cell + nn.sigmoid(enter) * jnp.tanh(new)
            hidden = nn.sigmoid(leave) * jnp.tanh(norm(cell, "norm_cell"))
        return jnp.sum(hidden**2)

    got = jax.jit(jax.grad(by_scan))(variables["params"])
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables["params"])
        want = jax.jit(jax.grad(written_out))(wide)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True
    ):
        scale = np.abs(b).max()
        np.testing.assert_allclose(
            a, b, rtol=0, atol=32 * TOLERANCE * scale, err_msg=jax.tree_util.keystr(path)
        )


@pytest.mark.parametrize(
    ("shape", "stats_steps", "message"),
    [((5, 4), 1, r"got x \[5, 4\]"), ((5, 0, 3), 1, "at least one step"), ((5, 4, 3), 0, "=0")],
)
def test_what_is_no_batch_of_sequences_is_refused(shape, stats_steps, message):
    with pytest.raises(ValueError, match=message):
        LSTM(F, stats_steps=stats_steps).init(jax.random.key(0), jnp.zeros(shape))
