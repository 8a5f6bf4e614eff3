"""Training over meshes of devices: the losses of one device, however state and batch lie."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.stats.reference import relative_error, rounding
from tests.training.digits import STEP, digits, rows, start

STEPS = 6
DATA = digits()


def replicated(shape, sizes):
    return P()


def fully_sharded(shape, sizes):
    """Returns how FSDP lays a parameter: its first axis over the devices that share the batch."""
    return P("data") if shape and shape[0] % sizes["data"] == 0 else P()


def tensor_parallel(shape, sizes):
    """Returns how a parameter lies whose last axis, the channels, is cut."""
    whole = not shape or shape[-1] % sizes["model"]
    return P() if whole else P(*[None] * (len(shape) - 1), "model")


def both(shape, sizes):
    """Returns the same, its first axis cut as well where there are two."""
    spec = tensor_parallel(shape, sizes)
    return P("data", *spec[1:]) if len(shape) > 1 and shape[0] % sizes["data"] == 0 else spec


def losses(data, model, layout):
    """Returns the losses of some steps on a mesh, and the last running statistics."""
    devices = np.array(jax.devices()[: data * model]).reshape(data, model)
    mesh = Mesh(devices, ("data", "model"))

    def place(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        spec = P() if is_key else layout(leaf.shape, mesh.shape)
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    state, curve = jax.tree.map(place, start()), []
    for step in range(STEPS):
        batch = rows(DATA, 32 * step, 32 * step + 32)
        batch = jax.device_put(batch, NamedSharding(mesh, P("data")))
        state, metrics = STEP(state, batch)
        curve.append(float(metrics["loss"]))
    return np.array(curve), jax.device_get(state.batch_stats)


@pytest.fixture(scope="module")
def alone():
    """Returns the losses of one device."""
    return losses(1, 1, replicated)


@pytest.mark.parametrize(
    ("data", "model", "layout"),
    [
        (2, 1, replicated),
        (4, 1, fully_sharded),
        (2, 2, tensor_parallel),
        pytest.param(4, 1, replicated, marks=pytest.mark.nightly),
        pytest.param(2, 1, fully_sharded, marks=pytest.mark.nightly),
        *(
            pytest.param(data, 8 // data, layout, marks=pytest.mark.nightly)
            for data, layout in (
                (8, replicated),
                (8, fully_sharded),
                (2, tensor_parallel),
                (4, both),
            )
        ),
    ],
)
@pytest.mark.sampled(2)
def test_the_losses_are_those_of_one_device(alone, data, model, layout):
    curve, stats = losses(data, model, layout)
    want, running = alone
    assert want[-1] < want[0]
    # Each step adds its rounding to the parameters, and the losses follow those.
    bound = STEPS * rounding(np.float32, 64)
    assert relative_error(curve, want) < bound
    for have, wanted in zip(jax.tree.leaves(stats), jax.tree.leaves(running), strict=True):
        assert relative_error(have, wanted) < bound
