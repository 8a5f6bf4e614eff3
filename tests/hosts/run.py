"""A small training run that any number of processes takes part in."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnorm.training import TrainState, create_train_state

MODEL = nn.Dense(4)
TX = optax.adam(0.1)


def batch(step: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(step)
    inputs = random.normal(size=(8, 8)).astype(np.float32)
    return {"inputs": inputs, "labels": random.integers(0, 4, 8).astype(np.int32)}


def fresh(seed: int = 0) -> TrainState:
    return create_train_state(MODEL, jax.random.key(seed), jnp.ones((1, 8)), TX)


def placed(mesh: jax.sharding.Mesh, seed: int = 0) -> TrainState:
    """Returns `fresh(seed)` with kernels cut into rows over the devices, as FSDP does."""

    def place(leaf):
        return NamedSharding(mesh, P("data") if leaf.ndim == 2 else P())

    forms = jax.eval_shape(lambda: fresh(seed))
    return jax.jit(lambda: fresh(seed), out_shardings=jax.tree.map(place, forms))()


def mesh_of_all() -> jax.sharding.Mesh:
    auto = (jax.sharding.AxisType.Auto,)
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=auto)


def sharded(whole, mesh, *axes):
    spec = NamedSharding(mesh, P(*axes))
    return jax.make_array_from_callback(whole.shape, spec, lambda index: whole[index])
