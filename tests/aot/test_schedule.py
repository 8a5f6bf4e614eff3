"""Whether a program waits for the statistics of a batch where their exchange begins."""

import jax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.bench._ahead import devices, shaped
from experiments.bench._exchanges import exchanges
from jaxnorm import standardize

pytestmark = pytest.mark.aot

SHAPE = (64, 32, 32, 256)


def program(target, mapped):
    """Returns the program of a batch norm beside work that does not depend on it."""
    mesh = Mesh(devices(target, 4), ("data",))
    x = shaped(SHAPE, "bfloat16", NamedSharding(mesh, P("data")))

    def run(x, other):
        y = standardize(x, (1, 1, 1, SHAPE[-1]), epsilon=1e-5, axis_name="data" if mapped else None)
        return y[0], jax.numpy.sin(other).sum((1, 2))

    part = P("data")
    if mapped:
        run = jax.shard_map(run, mesh=mesh, in_specs=part, out_specs=part)
    return jax.jit(run).lower(x, x).compile().as_text()


@pytest.mark.parametrize("mapped", [False, True], ids=["jit", "shard_map"])
def test_an_exchange_of_statistics_begins_on_h100_apart_from_where_it_is_waited_for(ahead, mapped):
    (found,) = exchanges(ahead("h100")(program, "h100", mapped))
    assert found.apart


def test_a_tpu_waits_for_the_statistics_as_its_compiler_is_set(ahead):
    (found,) = exchanges(ahead("v5e")(program, "v5e", True))
    assert (found.kind, found.apart) == ("all-gather", False)
