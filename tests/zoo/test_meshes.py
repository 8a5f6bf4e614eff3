"""Meshes with explicit axes: whichever axis of `x` is sharded, the numbers are the definition's."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.ops.test_partitioned import compiled, counted, largest
from tests.zoo.cases import draw, outputs
from tests.zoo.every import CASES, labelled
from tests.zoo.test_laws import assert_equal, programs

MOST = 8  # devices


@functools.cache
def mesh(devices):
    kinds = (AxisType.Explicit,)
    return jax.make_mesh((devices,), ("a",), kinds, devices=jax.devices()[:devices])


def shards(size):
    """Returns the fewest and the most shards that an axis can be cut into."""
    divisors = [n for n in range(2, MOST + 1) if size % n == 0]
    return sorted({divisors[0], divisors[-1]}) if divisors else []


PLACES = [
    pytest.param(case, axis, n, id=f"{case.label}-{axis}-{n}")
    for case in CASES
    for axis, size in enumerate(draw(case)["x"].shape)
    for n in shards(size)
]


def placed(arrays, axis, devices, alike=("x",)):
    """Returns the arrays on a mesh: some sharded along an axis, the others on every device."""
    along = P(*(None,) * axis, "a")
    return {
        name: jax.device_put(v, NamedSharding(mesh(devices), along if name in alike else P()))
        for name, v in arrays.items()
    }


@pytest.mark.parametrize(("case", "axis", "devices"), PLACES)
@pytest.mark.sampled(6)
def test_a_sharded_axis_gives_the_numbers_of_the_definition(case, axis, devices):
    arrays = placed(draw(case), axis, devices)
    assert_equal(case, arrays)
    result, _ = programs(case.label)[0](arrays, {})
    normalized = "message" if case.member == "message_norm" else "x"
    assert outputs(result)[0].sharding.is_equivalent_to(
        arrays[normalized].sharding, arrays[normalized].ndim
    )
    for name in case.state:
        assert result[name].sharding.is_equivalent_to(arrays[name].sharding, arrays[name].ndim)


@pytest.mark.parametrize("alike", [("x",), ("x", "segment_ids")], ids=["x", "x and ids"])
@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=c.label) for c in CASES if "segment_ids" in draw(c)],
)
@pytest.mark.sampled(2)
def test_sharded_nodes_give_the_numbers_of_the_definition(case, alike):
    arrays = draw(case)
    padding = np.full_like(arrays["x"][:1], np.nan)
    more = {
        "x": np.concatenate([arrays["x"], padding]),
        "segment_ids": [*arrays["segment_ids"], -1],
    }
    more["segment_ids"] = np.array(more["segment_ids"], np.int32)
    assert_equal(case, placed({**arrays, **more}, 0, 4, alike))


@pytest.mark.parametrize(
    ("label", "axis", "alike"),
    [("domain_batch_norm", 0, ("x", "domain")), ("spade", 1, ("x", "segmentation"))],
    ids=["domains", "segmentations"],
)
@pytest.mark.sampled(1)
def test_what_is_sharded_with_x_gives_the_numbers_of_the_definition(label, axis, alike):
    case = labelled(label)
    assert_equal(case, placed(draw(case), axis, 2, alike))


@pytest.mark.parametrize("label", ["split_batch_norm", "domain_batch_norm"])
@pytest.mark.parametrize("axis", [0, -1])
def test_tables_that_lie_on_no_mesh_give_the_numbers_of_the_definition(label, axis):
    case = labelled(label)
    arrays = draw(case)
    axis %= arrays["x"].ndim
    assert_equal(
        case, {**arrays, "x": placed(arrays, axis, shards(arrays["x"].shape[axis])[0])["x"]}
    )


@pytest.mark.parametrize("label", ["local_contrast_norm", "divisive_norm", "batch_group_norm"])
@pytest.mark.sampled(1)
def test_no_device_gets_the_whole_of_sharded_positions(label):
    case = labelled(label)
    arrays = draw(case)
    arrays["x"] = np.tile(arrays["x"], (1, 1, 16, 1))
    given = placed(arrays, 2, 8)
    program = compiled(lambda arrays: case.call(**arrays), [given])
    assert largest(program.as_text()) < arrays["x"].size / 2


@pytest.mark.parametrize(("label", "windows"), [("local_contrast_norm", 2), ("divisive_norm", 2)])
@pytest.mark.sampled(1)
def test_what_windows_reach_is_exchanged_once_in_each_direction(label, windows):
    case = labelled(label)
    arrays = draw(case)
    arrays["x"] = np.tile(arrays["x"], (1, 1, 16, 1))
    program = programs(label)[0].lower(placed(arrays, 2, 8), {}).compile()
    exchanges = counted(program.as_text()).get("collective-permute", 0)
    assert 0 < exchanges <= windows * 2 * 2  # forward and backward
