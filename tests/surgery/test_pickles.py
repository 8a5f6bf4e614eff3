"""Modules, frozen modules and states are the same after a journey through another process."""

import copy
import functools
import pickle
import subprocess
import sys
from pathlib import Path

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxnorm
from jaxnorm import linen
from jaxnorm.preprocessing import MinMaxScaler, StandardScaler
from jaxnorm.surgery import freeze, freeze_statistics
from jaxnorm.training import TrainState

ROOT = Path(__file__).parents[2]
X = jnp.asarray(np.random.default_rng(0).normal(3, 2, (6, 4)), jnp.float32)


class Net(nn.Module):
    """A batch norm behind a dense layer whose fields can be pickled, unlike Flax's initializers."""

    features: int = 4
    rate: float = 0.5

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.Dense(self.features)(x)
        x = linen.BatchNorm(use_running_average=not train, name="norm")(x)
        return nn.Dropout(self.rate, deterministic=not train)(x)


def dense():
    return nn.Dense(3, kernel_init=nn.initializers.ones)


MODULES = {
    "BatchNorm": lambda: linen.BatchNorm(use_running_average=False, momentum=0.9),
    "LayerNorm": lambda: linen.LayerNorm(epsilon=1e-3),
    "RMSNorm": lambda: linen.RMSNorm(use_scale=False),
    "GroupNorm": lambda: linen.GroupNorm(num_groups=2),
    "InstanceNorm": lambda: linen.InstanceNorm(feature_axes=(-1,)),
    "WeightNorm": lambda: linen.WeightNorm(dense(), variable_filter=("kernel",)),
    "SpectralNorm": lambda: linen.SpectralNorm(dense(), n_steps=2),
    "Net": lambda: Net(3),
}
FROZEN = {
    name: lambda make=MODULES[name]: freeze_statistics(make())
    for name in ("BatchNorm", "LayerNorm", "Net")
}
LINEN = {**MODULES, **{f"frozen {name}": make for name, make in FROZEN.items()}}
every_module = pytest.mark.parametrize("name", LINEN)


NNX = {
    "BatchNorm": lambda rngs: jaxnorm.nnx.BatchNorm(4, momentum=0.9, rngs=rngs),
    "LayerNorm": lambda rngs: jaxnorm.nnx.LayerNorm(4, rngs=rngs),
    "RMSNorm": lambda rngs: jaxnorm.nnx.RMSNorm(4, rngs=rngs),
    "GroupNorm": lambda rngs: jaxnorm.nnx.GroupNorm(4, num_groups=2, rngs=rngs),
    "InstanceNorm": lambda rngs: jaxnorm.nnx.InstanceNorm(4, rngs=rngs),
    "WeightNorm": lambda rngs: jaxnorm.nnx.WeightNorm(nnx.Linear(4, 3, rngs=rngs), rngs=rngs),
    "SpectralNorm": lambda rngs: jaxnorm.nnx.SpectralNorm(nnx.Linear(4, 3, rngs=rngs), rngs=rngs),
}


def states():
    """Returns a state of every kind that the package makes."""
    zero = jnp.zeros((), jnp.int32)
    params = {"kernel": jnp.ones((2, 3))}
    tx = optax.adam(0.1)
    batch = jaxnorm.moments(X, (1, 4))
    train = TrainState(zero, params, {}, tx.init(params), jax.random.key(0), zero)
    estimators = (
        jaxnorm.ema(0.9),
        jaxnorm.debiased(),
        jaxnorm.cumulative(),
        jaxnorm.window(2),
        jaxnorm.guarded(jaxnorm.ema()),
        jaxnorm.surgery.average_of_batches(),
    )
    running = [e.update(e.init((1, 4)), batch) for e in estimators]
    return [train, batch, running, StandardScaler().fit(X), MinMaxScaler().fit(X)]


SCALERS = [StandardScaler(with_mean=False), MinMaxScaler((-1.0, 1.0), clip=True)]


@functools.cache
def travellers():
    """Returns what is sent to the other process."""
    return {
        "linen": [make() for make in LINEN.values()],
        "frozen": freeze_statistics(Net()),
        "frozen in part": freeze_statistics(Net(), "norm"),
        "nnx": [make(nnx.Rngs(0)) for make in NNX.values()],
        "states": states(),
        "scalers": SCALERS,
    }


@pytest.fixture(scope="module")
def journey():
    """Returns the travellers as another process sends them back, and the text that it saw."""
    command = (
        "import pickle, sys; values = pickle.load(sys.stdin.buffer); "
        "sys.stdout.buffer.write(pickle.dumps((values, repr(values['linen']))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", command],
        input=pickle.dumps(travellers()),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return pickle.loads(done.stdout)


@pytest.mark.nightly
def test_modules_are_equal_after_a_journey(journey):
    modules = [make() for make in LINEN.values()]
    values, text = journey
    back = values["linen"]
    assert back == modules
    assert [type(module) for module in back] == [type(module) for module in modules]
    assert text == repr(modules)


@every_module
def test_copies_of_a_module_are_equal(name):
    module = LINEN[name]()
    assert copy.deepcopy(module) == copy.copy(module) == module.clone() == module == LINEN[name]()
    assert hash(copy.deepcopy(module)) == hash(LINEN[name]())


@pytest.mark.parametrize("name", FROZEN)
def test_a_frozen_module_is_not_the_module(name):
    assert FROZEN[name]() != MODULES[name]()
    assert not isinstance(MODULES[name](), type(FROZEN[name]()))


@pytest.mark.nightly
def test_a_frozen_module_is_frozen_after_a_journey(journey):
    model = Net()
    variables = model.init(jax.random.key(0), X)
    variables["batch_stats"]["norm"]["mean"] = jnp.arange(4.0)
    back = journey[0]["frozen"]
    rngs = {"dropout": jax.random.key(1)}
    y, new = back.apply(variables, X, train=True, rngs=rngs, mutable=["batch_stats"])
    chex.assert_trees_all_equal(new["batch_stats"], variables["batch_stats"])
    whole = freeze_statistics(model.clone(rate=0.0)).apply(variables, X, train=True)
    np.testing.assert_array_equal(whole, model.apply(variables, X))
    kept = np.asarray(y != 0)
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(y[kept], 2 * whole[kept], rtol=1e-6)


def test_freezing_twice_is_freezing_once():
    once = freeze_statistics(Net())
    assert freeze_statistics(once) == once
    assert type(freeze_statistics(once)) is type(once)


def test_equal_frozen_models_are_traced_once():
    chex.clear_trace_counter()
    variables = Net().init(jax.random.key(0), X)

    @functools.partial(jax.jit, static_argnums=0)
    @chex.assert_max_traces(n=1)
    def run(model, x):
        return model.apply(variables, x)

    models = [freeze(Net(), optax.sgd(0.1), variables).model for _ in range(2)]
    np.testing.assert_array_equal(*[run(model, X) for model in models])


def test_modules_of_nnx_compute_the_same_after_a_journey(journey):
    for module, other in zip(travellers()["nnx"], journey[0]["nnx"], strict=True):
        assert type(other) is type(module)
        chex.assert_trees_all_equal(nnx.state(other), nnx.state(module))
        np.testing.assert_array_equal(other(X), module(X))


def test_states_are_equal_after_a_journey(journey):
    ours, back = travellers()["states"], journey[0]["states"]
    assert jax.tree.structure(back) == jax.tree.structure(ours)
    assert back[0].rng == ours[0].rng
    without_key = [[state[0]._replace(rng=None), *state[1:]] for state in (back, ours)]
    chex.assert_trees_all_equal(*without_key)


def test_scalers_are_equal_after_a_journey(journey):
    back = journey[0]["scalers"]
    assert back == SCALERS
    assert [hash(scaler) for scaler in back] == [hash(scaler) for scaler in SCALERS]
