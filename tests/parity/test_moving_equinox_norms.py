"""Every norm of Equinox: its weights and state there and back, its evaluation, its averages."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.interop import from_equinox, norm_options, to_equinox
from tests.parity.moving import Case, check, distance, one_sided, template

eqx = pytest.importorskip("equinox", reason="needs the extra `parity`")
# Each traces every norm of both.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

X = np.random.default_rng(0).normal(1, 2, (4, 6, 5, 3))  # channels second, as in Equinox
ROWS = np.random.default_rng(1).normal(1, 2, (7, 6))
SEEN = 3  # training steps


def last(x):
    return np.moveaxis(np.asarray(x), 1, -1)


def random_like(tree, seed):
    rng = np.random.default_rng(seed)
    arrays, rest = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(lambda v: jnp.asarray(rng.normal(size=v.shape)), arrays), rest)


def same(found, wanted):
    """Asserts that the arrays of two trees are equal bit for bit."""
    both = [jax.tree.leaves(eqx.filter(tree, eqx.is_array)) for tree in (found, wanted)]
    for a, b in zip(*both, strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)


def state_of(norm, state):
    """Returns the arrays of a batch norm in a state."""
    named = (norm.batch_counter, norm.batch_state_index, norm.ema_first_time_index)
    return [state.get(index) for index in (*named, norm.ema_state_index) if index is not None]


def apply(model, state, x, train):
    model = eqx.nn.inference_mode(model, not train)
    return jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)


@pytest.mark.parametrize("mode", ["batch", "ema"])
def test_a_batch_norm_evaluates_and_learns_as_in_equinox(mode):
    make = eqx.nn.make_with_state(eqx.nn.BatchNorm)
    model, state = make(6, "batch", eps=1e-3, momentum=0.9, mode=mode)
    model = random_like(model, 0)
    for step in range(SEEN):
        _, state = apply(model, state, X + step, True)
    ours = norm_options(model).linen(param_dtype=jnp.float64)
    like = template(ours, last(X))
    done = from_equinox((model, state), like)
    y, _ = apply(model, state, X, False)
    back, back_state = to_equinox(done.variables, (model, state)).variables
    same(back, model)
    same(state_of(back, back_state), state_of(model, state))
    after = from_equinox((model, apply(model, state, X, True)[1]), like).variables
    check({mode: Case(ours, done.variables, last(X), last(y), after)})


def test_a_batch_norm_before_its_first_batch_is_the_identity():
    model, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(6, "batch", mode="ema")
    like = template(norm_options(model).linen(), last(X))
    stats = from_equinox((model, state), like).variables["batch_stats"]
    assert np.array_equal(stats["mean"], np.zeros(6)) and np.array_equal(stats["var"], np.ones(6))


def test_plain_averages_go_to_equinox_as_ones_that_have_forgotten_their_start():
    model, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(6, "batch", momentum=0.9, mode="batch")
    mean, var = np.arange(6.0), np.arange(1.0, 7.0)
    affine = {"scale": np.ones(6), "bias": np.zeros(6)}
    variables = {"params": affine, "batch_stats": {"mean": mean, "var": var}}
    new = to_equinox(variables, (model, state)).variables
    y, _ = apply(*new, X, False)
    wanted = (last(X) - mean) / np.sqrt(var + model.eps)
    assert distance(last(y), wanted) <= 4


def test_the_norms_without_state_evaluate_as_in_equinox():
    norms = {
        "layer": (eqx.nn.LayerNorm(6), ROWS, np.asarray),
        "layer without bias": (eqx.nn.LayerNorm(6, use_bias=False), ROWS, np.asarray),
        "layer over three axes": (eqx.nn.LayerNorm((6, 5, 3)), X, np.asarray),
        "group": (eqx.nn.GroupNorm(3, 6), X, last),
        "root mean square": (eqx.nn.RMSNorm(6), ROWS, np.asarray),
        "root mean square without bias": (eqx.nn.RMSNorm(6, use_bias=False), ROWS, np.asarray),
        "weight norm": (eqx.nn.WeightNorm(linear()), ROWS, np.asarray),
    }
    cases = {}
    for seed, (name, (model, x, out)) in enumerate(norms.items()):
        model = random_like(model, seed)
        options = norm_options(model)
        wrapped = (nn.Dense(5, param_dtype=jnp.float64),) if name == "weight norm" else ()
        ours = options.linen(*wrapped, param_dtype=jnp.float64)
        done = from_equinox(model, template(ours, out(x)))
        same(to_equinox(done.variables, model).variables, model)
        cases[name] = Case(ours, done.variables, out(x), out(jax.vmap(model)(x)))
    check(cases)


def linear():
    return eqx.nn.Linear(6, 5, key=jax.random.key(0))


def test_a_spectral_norm_divides_as_in_equinox():
    make = eqx.nn.make_with_state(eqx.nn.SpectralNorm)
    layer = eqx.tree_at(lambda layer: layer.weight, linear(), jnp.asarray(one_sided((5, 6))))
    model, state = make(layer, "weight", num_power_iterations=8, key=jax.random.key(1))
    _, state = model(ROWS[0], state)
    model = eqx.nn.inference_mode(model)
    y = jax.vmap(lambda row: model(row, state)[0])(ROWS)
    ours = norm_options(model).linen(nn.Dense(5, param_dtype=jnp.float64), param_dtype=jnp.float64)
    call = {"update_stats": False}
    done = from_equinox((model, state), template(ours, ROWS, **call))
    back, back_state = to_equinox(done.variables, (model, state)).variables
    same(back, model)
    again = jax.vmap(lambda row: back(row, back_state)[0])(ROWS)
    assert distance(again, y) <= 4
    check({"spectral": Case(ours, done.variables, ROWS, np.asarray(y), call=call)})


def test_a_bias_of_rms_norm_that_ours_lacks_is_named():
    with pytest.raises(ValueError, match=r"left over: bias \[6\]: like has no bias"):
        from_equinox(eqx.nn.RMSNorm(6), {"params": {"scale": np.ones(6)}})
