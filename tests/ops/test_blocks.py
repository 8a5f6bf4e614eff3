"""Batch statistics where XLA partitions by itself, as on TPU: in blocks, which are gathered once.

The form for TPU is compiled for eight devices of the CPU, whose compiler does not call back here.
"""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.bench._exchanges import exchanges
from jaxnorm import _partitioning, standardize
from jaxnorm.ops import _implementations
from jaxnorm.ops._implementations import XLA, XLA_TPU
from jaxnorm.stats import moments
from tests.ops.reference import reference_gradient, reference_standardize
from tests.ops.test_partitioned import (
    BATCH,
    EPSILON,
    SHAPE,
    arrays,
    assert_right,
    compiled,
    counted,
    forward,
    mesh,
    placed,
    with_gradients,
)
from tests.stats.reference import reference_moments, relative_error, rounding

GATHER, SUM = {"all-gather": 1}, {"all-reduce": 1}
STATISTICS = 4 * 4 * 8 * SHAPE[-1]  # bytes of four numbers for each block and channel


@pytest.fixture(autouse=True)
def left_to_xla(monkeypatch):
    """Lets the form for TPU be partitioned on CPU as on TPU."""
    monkeypatch.setattr(_partitioning, "CALLING_BACK", ())
    monkeypatch.setattr(_implementations, "TABLE", (XLA_TPU._replace(platform="cpu"), XLA))


def counted_of_statistics(text):
    """Returns how often statistics are exchanged.

    Plain JAX for CPU branches where squares may have overflowed, on which all devices agree by one
    byte. On TPU nothing branches.
    """
    return dict(collections.Counter(v.kind for v in exchanges(text) if v.bytes > 1))


@pytest.mark.parametrize("spec", [P(("a", "b")), P("a"), P(("b", "a"))])
@pytest.mark.sampled(2)
def test_a_batch_on_any_axes_of_a_mesh_is_exchanged_once_each_way(spec):
    values = arrays()
    given = placed(values, spec)
    assert counted(compiled(forward(BATCH), given[:3], True).as_text()) == GATHER
    program = compiled(with_gradients(BATCH), given, True)
    assert counted(program.as_text()) == {**GATHER, **SUM}
    assert_right(program(*given), values, BATCH)


@pytest.mark.parametrize(
    ("spec", "parameters"),
    [
        (P(), P()),
        (P(None, None, None, "a"), P("a")),
        (P("a", None, None, "b"), P("b")),
        (P("b", None, "a"), P()),
        (P(None, "a"), P()),
    ],
    ids=["nothing", "channels", "batch and channels", "batch and positions", "positions"],
)
@pytest.mark.sampled(3)
def test_other_axes_of_x_stay_right_and_gather_nothing_large(spec, parameters):
    values = arrays()
    given = placed(values, spec, parameters)
    program = compiled(with_gradients(BATCH), given, True)
    # Parts of images are brought to one device for the pivots where positions are cut.
    found = [v for v in exchanges(program.as_text() or "") if v.kind != "collective-permute"]
    assert all(v.bytes <= STATISTICS for v in found)
    assert_right(program(*given), values, BATCH)


@pytest.mark.parametrize("examples", [6, 10, 7])
@pytest.mark.sampled(2)
def test_a_batch_that_eight_devices_do_not_divide_is_cut_in_as_many_blocks_as_divide_both(examples):
    values = arrays((examples, 4, 24))
    given = placed(values, P("b") if examples % 2 == 0 else P())
    stats_shape = (1, 1, 24)
    text = compiled(forward(stats_shape), given[:3], True).as_text()
    assert counted(text) == (GATHER if examples % 2 == 0 else {})
    got = compiled(with_gradients(stats_shape), given)(*given)
    assert_right(got, values, stats_shape)


@pytest.mark.parametrize(("offset", "size"), [(1e6, 1), (0, 1e30), (1e6, 1e-20)])
@pytest.mark.sampled(2)
def test_blocks_keep_their_digits_at_any_offset_and_size(offset, size):
    x = ((arrays((24, 24))[0] + np.float32(offset)) * np.float32(size)).astype(np.float32)
    (given,) = placed([x], P("a"))
    y = jax.jit(lambda x: standardize(x, (1, 24), epsilon=0.0)[0])(given)
    assert relative_error(y, reference_standardize(x, (1, 24), 0.0)) < 4e-6


def test_groups_of_a_batch_and_bfloat16_are_those_of_one_device():
    values = arrays(SHAPE, jnp.bfloat16)
    given = placed(values, P(("a", "b")))
    got = compiled(with_gradients((1, 1, 1, 6)), given)(*given)
    assert_right(got, values, (1, 1, 1, 6))


@pytest.mark.parametrize("axes", [SHAPE[:3], (1, *SHAPE[1:3])], ids=["entries", "positions"])
def test_a_mask_costs_no_exchange_more_even_where_a_block_is_empty(axes):
    values = arrays()
    w = np.random.default_rng(1).random((*axes, 1)) < 0.6
    w[: axes[0] // 8] = False  # all that one device has
    given = placed(values, P(("a", "b")))
    lies = P(("a", "b")) if axes[0] > 1 else P()
    w_given = jax.device_put(w, NamedSharding(mesh(), lies))

    def run(x, cotangent, w):
        of = lambda x: standardize(x, BATCH, mask=w, epsilon=EPSILON)[0]  # noqa: E731
        y, pullback = jax.vjp(of, x)
        return y, *pullback(cotangent)

    program = compiled(run, [given[0], given[3], w_given])
    assert counted_of_statistics(program.as_text()) == {**GATHER, **SUM}
    x, *_, cotangent = values
    weights, bound = (
        np.broadcast_to(w, (*SHAPE[:3], 1)).astype(np.float32),
        rounding(np.float32, x.size),
    )
    y, d_x = program(given[0], given[3], w_given)
    want = reference_standardize(x, BATCH, EPSILON, weights=weights)
    assert relative_error(y, want) < bound
    want = reference_gradient(x, cotangent, BATCH, EPSILON, weights=weights)
    assert relative_error(d_x, want) < bound


def test_moments_are_exchanged_once():
    x = arrays()[0]
    given = placed([x], P(("a", "b")))
    program = compiled(lambda x: moments(x, BATCH), given, True)
    assert counted_of_statistics(program.as_text()) == GATHER
    found = program(*given)
    mean, var = reference_moments(x, BATCH)[:2]
    assert relative_error(found.mean, mean) < rounding(np.float32, x.size)
    assert relative_error(found.var, var) < rounding(np.float32, x.size)


def test_one_device_and_plain_jax_on_request_gather_nothing():
    def asked(x):
        return standardize(x, BATCH, epsilon=EPSILON, implementation="xla")[0]

    x = arrays()[0]
    (given,) = placed([x], P("a"))
    assert "sharding_constraint" in jax.jit(forward(BATCH)).lower(given, 1.0, 0.0).as_text()
    assert "sharding_constraint" not in jax.jit(asked).lower(given).as_text()
    assert "sharding_constraint" not in jax.jit(forward(BATCH)).lower(x, 1.0, 0.0).as_text()
