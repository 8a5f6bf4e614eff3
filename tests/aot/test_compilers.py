"""The compilers run here without the hardware, and what they make can be counted."""

import jax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from experiments.bench._ahead import TARGETS, count, devices, shaped

pytestmark = pytest.mark.aot


def counts_of_a_sum_and_its_use(target):
    (device,) = devices(target)
    x = shaped((1024, 512), "float32", SingleDeviceSharding(device))
    return count(jax.jit(lambda x: (x.sum(0), x * x.sum(0))).lower(x).compile())


def collectives_of_a_sum_over_shards(target):
    mesh = Mesh(devices(target, 4), ("data",))
    x = shaped((1024, 512), "float32", NamedSharding(mesh, PartitionSpec("data")))
    return count(jax.jit(lambda x: x.sum(0)).lower(x).compile()).collectives


@pytest.mark.parametrize("target", TARGETS)
def test_a_program_is_compiled_and_counted(ahead, target):
    counts = ahead(target)(counts_of_a_sum_and_its_use, target)
    assert 2 <= counts.programs <= 4
    assert counts.collectives == counts.conditionals == 0


@pytest.mark.parametrize("target", TARGETS)
def test_a_sum_over_four_chips_is_one_collective(ahead, target):
    assert ahead(target)(collectives_of_a_sum_over_shards, target) == 1
