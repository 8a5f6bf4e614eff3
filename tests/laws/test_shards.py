"""Laws 2, 3 and 20: statistics over devices are those of the whole, at one collective each way."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from tests.laws.members import (
    SHAPE,
    array,
    claiming,
    expected_gradient,
    expected_output,
    once,
    output,
    over,
    whole_axis,
)
from tests.stats.programs import OPTIMIZED
from tests.stats.reference import relative_error, rounding

DEVICES = 4
COLLECTIVES = (" all-reduce(", " all-gather(", " all-to-all(", " collective-permute(")


@once
def sharded(member):
    """Returns the compiled output and gradient of an array cut on an axis of its samples."""
    axis = whole_axis(member)
    part = P(*[None] * axis, "devices")
    mesh = Mesh(np.array(jax.devices()[:DEVICES]), ("devices",))

    def both(x, cotangent, mask):
        run = functools.partial(output, member, mask=mask, axis_name="devices")
        y, pullback = jax.vjp(run, x)
        return y, pullback(cotangent)[0]

    return jax.jit(jax.shard_map(both, mesh=mesh, in_specs=part, out_specs=part))


def arrays(member):
    axis = whole_axis(member)
    shape = tuple(n * DEVICES if a == axis else n for a, n in enumerate(SHAPE))
    mask = np.random.default_rng(2).random(shape) < 0.7
    np.moveaxis(mask, axis, 0)[1 : SHAPE[axis]] = False
    return array(0, shape, 3.0), array(1, shape), mask


@over(claiming("shards"))
@pytest.mark.sampled(2)
def test_unequal_masked_shards_on_devices_give_what_the_whole_gives(member):
    x, cotangent, mask = arrays(member)
    y, dx = sharded(member)(x, cotangent, mask)
    bound = rounding(np.float32, x.size)
    assert relative_error(y, expected_output(member, x, weights=mask)) < bound
    assert relative_error(dx, expected_gradient(member, x, cotangent, weights=mask)) < bound


@over(claiming("shards"))
@pytest.mark.sampled(2)
def test_shards_cost_at_most_one_collective_forward_and_one_backward(member):
    lines = sharded(member).lower(*arrays(member)).compile(OPTIMIZED).as_text().splitlines()
    collectives = [line for line in lines if any(name in line for name in COLLECTIVES)]
    assert len(collectives) == 2


@over(claiming("shards"))
def test_a_collective_axis_that_is_not_there_is_named_with_the_remedy(member):
    message = r"axis_name='batch' .* no vmap, pmap or shard_map with axis_name='batch'.*=None"
    with pytest.raises(ValueError, match=message):
        output(member, array(), axis_name="batch")
