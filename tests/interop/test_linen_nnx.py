"""Between linen and nnx: every norm that both have, Flax's own classes and ours."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm
from jaxnorm.interop import norm_options, to_linen, to_nnx

X = np.random.default_rng(0).normal(1, 2, (3, 5, 6)).astype(np.float32)
NORMS = {
    "BatchNorm": {"epsilon": 1e-3},
    "LayerNorm": {"use_bias": False},
    "RMSNorm": {},
    "GroupNorm": {"num_groups": 3},
    "InstanceNorm": {},
}
ROOMS = {"flax": (nn, nnx), "jaxnorm": (jaxnorm.linen, jaxnorm.nnx)}


def made(module, x, **call):
    """Returns random variables of a linen module."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), x, **call))
    return jax.tree.map(lambda v: jnp.asarray(rng.uniform(0.5, 2, v.shape), v.dtype), shapes)


def same(found, wanted):
    """Asserts that two trees are equal bit for bit."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype and np.array_equal(a, b)


def ulps(found, wanted):
    return np.abs(found - wanted).max() / np.spacing(np.float32(np.abs(wanted).max()))


@pytest.mark.parametrize("room", ROOMS)
def test_every_norm_gives_in_nnx_what_it_gives_in_linen_and_comes_back(room):
    linen, other = ROOMS[room]
    pairs = {}
    for name, options in NORMS.items():
        average = {"use_running_average": True} if name == "BatchNorm" else {}
        theirs = getattr(linen, name)(**options, **average)
        like = getattr(other, name)(6, **options, **average, rngs=nnx.Rngs(0))
        variables = made(theirs, X)
        done = to_nnx(variables, like)
        same(to_linen(done.variables, variables).variables, variables)
        pairs[name] = theirs, variables, done.variables
        if room == "flax":
            assert norm_options(theirs).name == norm_options(like).name == name
            new = norm_options(like).nnx(6, rngs=nnx.Rngs(0))
            assert norm_options(theirs).linen().epsilon == new.epsilon == like.epsilon

    @jax.jit
    def run(x):
        return {name: (module.apply(v, x), other(x)) for name, (module, v, other) in pairs.items()}

    for name, (y, z) in run(X).items():
        assert ulps(z, y) <= 4, name


def test_norms_of_kernels_and_estimators_move_as_well():
    x = X[0]
    dense = functools.partial(nnx.Linear, 6, 4, rngs=nnx.Rngs(0))
    average = jaxnorm.debiased(0.9)
    pairs = [
        (jaxnorm.linen.WeightNorm(nn.Dense(4)), jaxnorm.nnx.WeightNorm, {}),
        (
            jaxnorm.linen.SpectralNorm(nn.Dense(4)),
            jaxnorm.nnx.SpectralNorm,
            {"update_stats": False},
        ),
    ]
    moved = []
    for module, other, call in pairs:
        variables = made(module, x, **call)
        done = to_nnx(variables, other(dense(), rngs=nnx.Rngs(0)))
        same(to_linen(done.variables, variables).variables, variables)
        moved.append((module, variables, done.variables, call))

    @jax.jit
    def run(x):
        return [(new(x, **call), old.apply(v, x, **call)) for old, v, new, call in moved]

    assert [max(0, ulps(*pair) - 4) for pair in run(x)] == [0, 0]
    module = jaxnorm.linen.BatchNorm(True, estimator=average)
    variables = made(module, x)
    done = to_nnx(variables, jaxnorm.nnx.BatchNorm(6, estimator=average, rngs=nnx.Rngs(0)))
    same(to_linen(done.variables, variables).variables, variables)


def test_a_module_and_its_state_come_out_as_what_they_are_and_like_is_untouched():
    model = nnx.Sequential(
        nnx.Linear(6, 4, rngs=nnx.Rngs(0)),
        jaxnorm.nnx.BatchNorm(4, rngs=nnx.Rngs(0)),
        nnx.Dropout(0.5, rngs=nnx.Rngs(1)),
    )
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    variables = {
        "params": {
            "dense": {"kernel": np.full((6, 4), 2.0), "bias": np.zeros(4)},
            "norm": {"scale": np.ones(4), "bias": np.zeros(4)},
        },
        "batch_stats": {"norm": {"mean": np.ones(4), "var": np.full(4, 3.0)}},
    }
    names = {"layers/0": "dense", "layers/1": "norm"}
    new = to_nnx(variables, model, names=names).variables
    assert isinstance(new, nnx.Sequential) and float(new.layers[1].var[0]) == 3
    state = to_nnx(variables, nnx.state(model), names=names).variables
    assert isinstance(state, nnx.State) and float(state["layers"][0]["kernel"][...][0, 0]) == 2
    same(jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model, nnx.Param))), before)
