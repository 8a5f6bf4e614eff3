"""Norms under the lifted transformations of linen: layers in a scan, in a vmap, rematerialized."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec as P
from numpy.testing import assert_allclose

from jaxnorm.linen import BatchNorm, LayerNorm
from jaxnorm.surgery import norm_param_labels, recalibrate

EPS = float(jnp.finfo(jnp.float32).eps)
X = jax.random.normal(jax.random.key(0), (8, 4))


class Block(nn.Module):
    """A residual block with a batch norm, as the body of a scan."""

    train: bool = True

    @nn.compact
    def __call__(self, x, _=None):
        y = BatchNorm(use_running_average=not self.train, momentum=0.9, name="norm")(
            nn.Dense(4, name="dense")(x)
        )
        return x + jnp.tanh(y), None


class Scanned(nn.Module):
    """Three rematerialized blocks in a scan, with parameters and statistics along axis 0."""

    train: bool = True

    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            nn.remat(Block),
            variable_axes={"params": 0, "batch_stats": 0, "batch_moments": 0},
            split_rngs={"params": True},
            length=3,
        )
        return scan(self.train, name="blocks")(x, None)[0]


class Looped(nn.Module):
    """The same blocks one after the other."""

    train: bool = True

    @nn.compact
    def __call__(self, x):
        for i in range(3):
            x, _ = Block(self.train, name=f"block_{i}")(x)
        return x


VARIABLES = Scanned(train=False).init(jax.random.key(1), X)
PARTS = [jax.tree.map(lambda v, i=i: v[i], VARIABLES) for i in range(3)]


def of_loop(collection):
    return {f"block_{i}": part[collection]["blocks"] for i, part in enumerate(PARTS)}


def test_a_scan_over_layers_trains_as_a_loop_and_keeps_statistics_of_each_layer():
    looped = {name: of_loop(name) for name in VARIABLES}

    @functools.partial(jax.jit, static_argnums=0)
    def step(model, variables):
        def loss(params):
            y, updated = model.apply({**variables, "params": params}, X, mutable=["batch_stats"])
            return jnp.mean(y**3), updated["batch_stats"]

        return jax.grad(loss, has_aux=True)(variables["params"])

    found, want = step(Scanned(), VARIABLES), step(Looped(), looped)
    for got, wanted in zip(found, want):
        parts = [wanted[f"block_{i}"] for i in range(3)]
        wanted = jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
        jax.tree.map(
            lambda a, b: assert_allclose(a, b, rtol=1e-5, atol=64 * EPS), got["blocks"], wanted
        )


def test_statistics_of_scanned_layers_are_recalibrated():
    new = recalibrate(Scanned().apply, VARIABLES, [X[:3], X[3:]])["batch_stats"]["blocks"]["norm"]
    kernel = np.asarray(VARIABLES["params"]["blocks"]["dense"]["kernel"][0], np.float64)
    hidden = np.asarray(X, np.float64) @ kernel
    assert new["mean"].shape == (3, 4)
    assert_allclose(new["mean"][0], hidden.mean(0), rtol=1e-5, atol=1e-6)
    assert_allclose(new["var"][0], hidden.var(0), rtol=1e-5)


def test_statistics_of_an_ensemble_lie_along_the_axis_that_is_asked_for():
    many = nn.vmap(
        BatchNorm,
        in_axes=0,
        variable_axes={"params": 0, "batch_stats": 1},
        split_rngs={"params": True},
        axis_size=2,
    )
    norm, x = many(use_running_average=False, momentum=0.9), jnp.stack([X, 3 * X + 1])
    variables = norm.init(jax.random.key(0), x)
    _, updated = norm.apply(variables, x, mutable=["batch_stats"])
    found = updated["batch_stats"]
    assert found["mean"].shape == (4, 2)
    wide = np.asarray(x, np.float64)
    assert_allclose(found["mean"], 0.1 * wide.mean(1).T, rtol=1e-5, atol=1e-6)
    assert_allclose(found["var"], 0.9 + 0.1 * wide.var(1).T, rtol=1e-5)


def test_scale_and_bias_carry_the_names_of_mesh_axes():
    named = {
        "scale_init": nn.with_partitioning(nn.initializers.ones, ("model",)),
        "bias_init": nn.with_partitioning(nn.initializers.zeros, ("model",)),
    }
    model = nn.Sequential([BatchNorm(use_running_average=False, **named), LayerNorm(**named)])
    variables = model.init(jax.random.key(0), X)
    specs = nn.get_partition_spec(variables)
    assert set(jax.tree.leaves(specs["params"], is_leaf=lambda s: isinstance(s, P))) == {P("model")}
    assert specs["batch_stats"]["layers_0"]["mean"] == P()
    plain = nn.meta.unbox(variables)
    y, updated = model.apply(variables, X, mutable=["batch_stats"])
    want, _ = model.apply(plain, X, mutable=["batch_stats"])
    assert_allclose(y, want, rtol=0, atol=0)
    assert updated["batch_stats"].keys() == plain["batch_stats"].keys()
    # What trains and labels parameters takes the boxes as they are.
    labels = norm_param_labels(variables["params"], variables["batch_stats"])
    tx = optax.multi_transform({"norm": optax.sgd(1.0)}, labels)
    params = variables["params"]
    updates, _ = tx.update(params, tx.init(params), params)
    moved = nn.meta.unbox(optax.apply_updates(params, updates))
    assert not np.any(moved["layers_0"]["scale"])
