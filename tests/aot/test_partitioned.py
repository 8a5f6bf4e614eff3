"""Partitioned programs for four H100 and for a slice of four TPU: what is exchanged, and when."""

import re

import jax
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.bench._ahead import devices, shaped
from jaxnorm import standardize

pytestmark = pytest.mark.aot

SHAPE = (64, 8, 8, 256)
ROWS, BATCH, INSTANCE = (64, 8, 8, 1), (1, 1, 1, 256), (64, 1, 1, 256)
EXCHANGES = r" (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("

# Statistics shape, how x lies, exchanges of the output, and of the output and all gradients.
CASES = {
    "rows": (ROWS, P("data"), 0, 1),
    "features": (ROWS, P(None, None, None, "data"), 1, 2),
    "batch": (BATCH, P("data"), 1, 2),
    "ghost batches": ((8, 1, 1, 256), P("data"), 0, 1),
    "instances by positions": (INSTANCE, P(None, "data"), 1, 2),
    "groups of two shards": ((64, 1, 1, 2), P(None, None, None, "data"), 1, 2),
}


def programs(target, stats_shape, spec):
    """Returns the texts of the program of the output, and of that with all gradients."""
    mesh = Mesh(devices(target, 4), ("data",))
    x = shaped(SHAPE, "bfloat16", NamedSharding(mesh, spec))
    features = shaped(
        SHAPE[-1:], "float32", NamedSharding(mesh, P(spec[3] if len(spec) > 3 else None))
    )

    def run(x, scale, bias):
        return standardize(x, stats_shape, scale=scale, bias=bias, epsilon=1e-5)[0]

    def both(x, scale, bias, cotangent):
        y, pullback = jax.vjp(run, x, scale, bias)
        return y, *pullback(cotangent)

    given = (x, features, features, x)
    lowered = [jax.jit(run).lower(*given[:3]), jax.jit(both).lower(*given)]
    return [v.compile().as_text() for v in lowered]


@pytest.mark.parametrize("target", ["h100", "v5e"])
@pytest.mark.parametrize("name", CASES)
def test_each_way_is_exchanged_at_most_once_and_nothing_is_whole(ahead, target, name):
    stats_shape, spec, once, both = CASES[name]
    texts = ahead(target)(programs, target, stats_shape, spec)
    assert [len(re.findall(EXCHANGES, text)) for text in texts] == [once, both]
    whole = rf"\[{','.join(map(str, SHAPE))}\]"
    assert not any(re.search(whole, text) for text in texts)
