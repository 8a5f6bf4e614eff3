"""Every norm of Haiku: its weights and state there and back, its evaluation, its averages."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import linen
from jaxnorm.interop import from_haiku, norm_options, to_haiku
from tests.parity.moving import Case, check, distance, one_sided, template

hk = pytest.importorskip("haiku", reason="needs the extra `parity`")
# Each traces every norm of both.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("x64")]

X = np.random.default_rng(0).normal(1, 2, (4, 5, 3, 6))
DECAY = 0.9
NORMS = {
    "batch": lambda: hk.BatchNorm(True, True, DECAY, eps=1e-3, name="norm"),
    "batch without affine": lambda: hk.BatchNorm(False, False, DECAY, name="norm"),
    "layer": lambda: hk.LayerNorm(-1, True, True, name="norm"),
    "layer over three axes": lambda: hk.LayerNorm(
        (1, 2, 3), True, True, param_axis=-1, name="norm"
    ),
    "instance": lambda: hk.InstanceNorm(True, True, name="norm"),
    "group": lambda: hk.GroupNorm(3, name="norm"),
    "root mean square": lambda: hk.RMSNorm(-1, name="norm"),
}


def random_like(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda v: jnp.asarray(rng.normal(size=v.shape), v.dtype), tree)


def transformed(make):
    """Returns a norm as functions, and what `norm_options` says of it."""
    found = []

    def run(x, train):
        norm = make()
        found.append(norm_options(norm))
        return norm(x, is_training=train) if isinstance(norm, hk.BatchNorm) else norm(x)

    return hk.transform_with_state(run), found


def same(found, wanted):
    """Asserts that two trees are equal bit for bit."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)


def test_every_norm_evaluates_and_learns_as_in_haiku():
    cases = {}
    for seed, (name, make) in enumerate(NORMS.items()):
        net, found = transformed(make)
        params, state = net.init(jax.random.key(0), X, True)
        params = random_like(params, seed)
        for step in range(3 if state else 0):
            _, state = net.apply(params, state, None, X + step, True)
        y, _ = net.apply(params, state, None, X, False)
        ours = found[0].linen(param_dtype=jnp.float64)
        like = template(ours, X)
        options = {
            "names": {"norm": ""},
            "decay": DECAY,
        }
        done = from_haiku((params, state), like, **options)
        back = to_haiku(done.variables, (params, state), **options)
        same(back.variables, (params, state))
        after = None
        if state:
            _, later = net.apply(params, state, None, X, True)
            after = from_haiku((params, later), like, **options).variables
        cases[name] = Case(ours, done.variables, X, np.asarray(y), after)
    check(cases)


def test_plain_averages_go_to_haiku_as_ones_that_have_forgotten_their_start():
    net, _ = transformed(NORMS["batch"])
    template_of = net.init(jax.random.key(0), X, True)
    mean, var = np.arange(6.0), np.arange(1.0, 7.0)
    variables = {
        "params": {"norm": {"scale": np.ones(6), "bias": np.zeros(6)}},
        "batch_stats": {"norm": {"mean": mean, "var": var}},
    }
    params, state = to_haiku(variables, template_of).variables
    assert np.array_equal(np.ravel(state["norm/~/mean_ema"]["average"]), mean)
    _, later = net.apply(params, state, None, X, True)
    wanted = DECAY * mean + (1 - DECAY) * X.mean((0, 1, 2))
    assert distance(np.ravel(later["norm/~/mean_ema"]["average"]), wanted) <= 4


def test_a_spectral_norm_has_the_singular_value_of_haiku():
    def run(x):
        w = hk.get_parameter("w", (6, 5), x.dtype, hk.initializers.Constant(one_sided((6, 5))))
        # Its default of 1e-4 shortens both vectors, more so where the kernel is small.
        return x @ hk.SpectralNorm(eps=1e-24, name="norm")(w)

    net = hk.transform_with_state(run)
    params, state = net.init(jax.random.key(0), X[0, 0])
    for _ in range(8):
        y, state = net.apply(params, state, None, X[0, 0])
    dense = nn.Dense(5, use_bias=False, param_dtype=jnp.float64)
    ours = linen.SpectralNorm(dense, epsilon=1e-24, param_dtype=jnp.float64)
    call = {"update_stats": False}
    names = {"~": "", "norm": ""}
    done = from_haiku((params, state), template(ours, X[0, 0], **call), names=names)
    same(to_haiku(done.variables, (params, state), names=names).variables, (params, state))
    check({"spectral": Case(ours, done.variables, X[0, 0], np.asarray(y), call=call)})
