"""Partitioned programs for four H100 and for a slice of four TPU: what they exchange."""

import functools
import re

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.bench._ahead import devices, shaped
from experiments.bench._exchanges import exchanges as exchanged
from jaxnorm import moments, quantized_rms_norm, standardize

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

# How a batch lies on 2 x 2 chips of TPU, and the exchanges of its statistics.
BATCHES = {
    "both axes": (P(("data", "model")), 1, 2),
    "one axis": (P("data"), 1, 2),
    "one axis, channels the other": (P("data", None, None, "model"), 1, 2),
    "channels": (P(None, None, None, "model"), 0, 0),
    "nothing": (P(), 0, 0),
}
GATHERED = 4 * 4 * 4 * SHAPE[-1]  # bytes of four numbers of each of four blocks


def programs(target, stats_shape, spec, sizes=(4,), explicit=False):
    """Returns the texts of the program of the output, and of that with all gradients."""
    chips = np.array(devices(target, 4)).reshape(sizes)
    kinds = (AxisType.Explicit if explicit else AxisType.Auto,) * len(sizes)
    mesh = Mesh(chips, ("data", "model")[: len(sizes)], axis_types=kinds)
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


def mapped_programs(target):
    """Returns the same of batch statistics in `shard_map`."""
    mesh = Mesh(devices(target, 4), ("data",))
    x = shaped(SHAPE, "bfloat16", NamedSharding(mesh, P("data")))

    def run(x):
        return standardize(x, BATCH, epsilon=1e-5, axis_name="data")[0]

    def both(x, cotangent):
        y, pullback = jax.vjp(run, x)
        return y, *pullback(cotangent)

    part = P("data")
    functions = [jax.shard_map(f, mesh=mesh, in_specs=part, out_specs=part) for f in (run, both)]
    lowered = [jax.jit(functions[0]).lower(x), jax.jit(functions[1]).lower(x, x)]
    return [v.compile().as_text() for v in lowered]


def exchanges(texts):
    return [len(re.findall(EXCHANGES, text)) for text in texts]


def assert_nothing_is_whole(texts):
    whole = rf"\[{','.join(map(str, SHAPE))}\]"
    assert not any(re.search(whole, text) for text in texts)


@pytest.mark.parametrize("name", CASES)
def test_four_h100_exchange_at_most_once_each_way_and_hold_nothing_whole(ahead, name):
    stats_shape, spec, once, both = CASES[name]
    texts = ahead("h100")(programs, "h100", stats_shape, spec)
    assert exchanges(texts) == [once, both]
    assert_nothing_is_whole(texts)


def quantized_program(target, explicit):
    """Returns the text of the program that counts rows in steps."""
    kinds = (AxisType.Explicit if explicit else AxisType.Auto,)
    mesh = Mesh(np.array(devices(target, 4)), ("data",), axis_types=kinds)
    x = shaped((8192, 1024), "bfloat16", NamedSharding(mesh, P("data")))
    run = functools.partial(quantized_rms_norm, implementation="pallas")
    return jax.jit(run).lower(x).compile().as_text()


@pytest.mark.parametrize("explicit", [False, True])
def test_rows_of_four_h100_are_counted_in_steps_by_a_kernel_of_each_shard(ahead, explicit):
    text = ahead("h100")(quantized_program, "h100", explicit)
    assert exchanges([text]) == [0]
    assert text.count("__gpu$xla.gpu.triton") == 1 and "[8192,1024]" not in text


def test_rows_on_a_slice_of_tpu_are_left_to_xla(ahead):
    texts = ahead("v5e")(programs, "v5e", ROWS, P("data"))
    assert exchanges(texts) == [0, 1]
    assert_nothing_is_whole(texts)


@pytest.mark.parametrize("target", ["v5e", "v5p"])
@pytest.mark.parametrize("name", BATCHES)
def test_a_slice_of_tpu_exchanges_batch_statistics_at_most_once_each_way(ahead, target, name):
    spec, once, both = BATCHES[name]
    texts = ahead(target)(programs, target, BATCH, spec, (2, 2))
    assert exchanges(texts) == [once, both]
    assert all(v.bytes <= GATHERED for text in texts for v in exchanged(text))
    if spec != P():
        assert_nothing_is_whole(texts)


def masked_and_moments(target):
    """Returns the texts of the programs of a masked batch, its gradient, and of moments alone."""
    whole = NamedSharding(Mesh(devices(target, 4), ("data",)), P("data"))
    x, mask = shaped(SHAPE, "bfloat16", whole), shaped((*SHAPE[:3], 1), "bool", whole)

    def run(x, mask):
        return standardize(x, BATCH, mask=mask, epsilon=1e-5)[0]

    def both(x, mask, cotangent):
        y, pullback = jax.vjp(lambda x: run(x, mask), x)
        return y, *pullback(cotangent)

    lowered = [
        jax.jit(run).lower(x, mask),
        jax.jit(both).lower(x, mask, x),
        jax.jit(lambda x: moments(x, BATCH)).lower(x),
    ]
    return [v.compile().as_text() for v in lowered]


def test_a_mask_and_moments_alone_cost_no_exchange_more_on_a_slice_of_tpu(ahead):
    texts = ahead("v5e")(masked_and_moments, "v5e")
    assert exchanges(texts) == [1, 2, 1]
    assert_nothing_is_whole(texts)


@pytest.mark.parametrize("target", ["h100", "v5e"])
@pytest.mark.parametrize("name", CASES)
def test_explicit_axes_exchange_at_most_once_each_way_and_hold_nothing_whole(ahead, name, target):
    stats_shape, spec, once, both = CASES[name]
    spec = P(*(name and ("data", "model") for name in spec))
    texts = ahead(target)(programs, target, stats_shape, spec, (2, 2), True)
    assert exchanges(texts) == [once, both]
    assert_nothing_is_whole(texts)


def test_a_slice_of_tpu_exchanges_once_each_way_in_shard_map(ahead):
    texts = ahead("v5e")(mapped_programs, "v5e")
    assert exchanges(texts) == [1, 2]
    assert_nothing_is_whole(texts)
