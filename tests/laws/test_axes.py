"""Laws 13 and 24: any axes, in any order, up to rank ten."""

import itertools

import numpy as np
import pytest

from jaxnorm import (
    batch_norm,
    ema,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
    standardize,
)
from tests.laws.members import array
from tests.ops.reference import reference_standardize
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

EPSILON = 1e-6
SIZES = (2, 3, 1, 2, 1, 2, 1, 1, 2, 3)


def stats_shape(shape, reduced):
    return tuple(1 if a in reduced else n for a, n in enumerate(shape))


def assert_right(y, x, shape, center=True):
    expected = reference_standardize(x, shape, EPSILON, center=center)
    assert relative_error(y, expected, 1e-2) < rounding(np.float32, x.size)


@pytest.mark.parametrize("ndim", range(1, 5))
@pytest.mark.parametrize("norm", [layer_norm, rms_norm])
def test_every_subset_of_axes_may_be_reduced(norm, ndim):
    x = array(shape=SIZES[:ndim], mean=3.0)
    subsets = [c for k in range(1, ndim + 1) for c in itertools.combinations(range(ndim), k)]
    options = {"epsilon": EPSILON} | ({"single_value": "allow"} if norm is layer_norm else {})
    run = compiled(lambda x: [norm(x, reduction_axes=s, **options) for s in subsets])
    for reduced, y in zip(subsets, run(x)):
        assert_right(y, x, stats_shape(x.shape, reduced), norm is layer_norm)


@pytest.mark.parametrize("ndim", [5, 9, 10])
def test_axes_are_taken_in_sorted_order_at_high_rank(ndim):
    # A set of small integers is not sorted from rank 9 on: (1, 8) iterates as (8, 1).
    x = array(shape=SIZES[:ndim], mean=3.0)
    reduced, last = (ndim - 1, 1), x.shape[-1]
    scale = array(1, (x.shape[1], last))
    kept = [a for a in range(ndim) if a not in reduced]
    stats = ema().init(tuple(x.shape[a] for a in kept))
    groups = tuple(last if a == ndim - 1 else 1 if a == 1 else n for a, n in enumerate(x.shape))

    @compiled
    def run(x):
        return (
            layer_norm(x, scale, reduction_axes=reduced, feature_axes=reduced, epsilon=EPSILON),
            group_norm(x, group_size=1, reduction_axes=reduced, epsilon=EPSILON),
            batch_norm(x, stats, axis=kept[::-1], use_running_average=False, epsilon=EPSILON)[0],
        )

    layer, group, batch = run(x)
    spread_scale = scale.reshape([n if a in reduced else 1 for a, n in enumerate(x.shape)])
    whole = stats_shape(x.shape, reduced)
    expected = reference_standardize(x, whole, EPSILON, scale=spread_scale)
    assert relative_error(layer, expected) < rounding(np.float32, x.size)
    assert_right(group, x, groups)
    assert_right(batch, x, whole)


@pytest.mark.parametrize("ndim", [5, 9, 10])
def test_feature_axes_may_be_named_in_any_order_and_sign(ndim):
    x = array(shape=SIZES[:ndim], mean=3.0)
    run = compiled(lambda x: instance_norm(x, feature_axes=(-1, 3), epsilon=EPSILON))
    reduced = [a for a in range(ndim) if a not in (0, 3, ndim - 1)]
    assert_right(run(x), x, stats_shape(x.shape, reduced))


@pytest.mark.parametrize("ndim", range(6, 11))
@pytest.mark.sampled(2)
def test_reduced_kept_and_grouped_axes_may_alternate_up_to_rank_ten(ndim):
    shape = (4, 2, 3, 4, 1, 2, 1, 2, 1, 4)[:ndim]
    rng = np.random.default_rng(ndim)
    choices = [[1, n] + [2] * (n == 4) for n in shape]
    drawn = [tuple(int(rng.choice(c)) for c in choices) for _ in range(6)]
    x = array(shape=shape, mean=3.0)
    run = compiled(lambda x: [standardize(x, s, epsilon=EPSILON)[0] for s in drawn])
    for s, y in zip(drawn, run(x)):
        assert_right(y, x, s)
