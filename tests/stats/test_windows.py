"""Moments over sliding windows against a loop over the windows in float64."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnorm.stats import windowed_moments
from tests.ops.test_explicit import explicit
from tests.ops.test_partitioned import counted
from tests.stats.reference import relative_error, rounding

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 7, 5, 3)).astype(np.float32)
MASK = RNG.random(X.shape) < 0.6
TAPS = (0.5, 1.0, 2.0)


def windows(x, sizes, mask=None, center=True):
    """Returns mean, variance and count of the window around each entry; `sizes` by axis."""
    x = x.astype(np.float64)
    w = np.ones(x.shape) if mask is None else mask.astype(np.float64)
    results = np.zeros((3, *x.shape))
    for index in itertools.product(*map(range, x.shape)):
        inside, taps = [], []
        for axis, i in enumerate(index):
            size = sizes.get(axis, 1)
            weights = np.ones(size) if isinstance(size, int) else np.array(size)
            places = i - len(weights) // 2 + np.arange(len(weights))
            kept = (places >= 0) & (places < x.shape[axis])
            inside.append(places[kept])
            taps.append(weights[kept])
        tap = functools.reduce(np.multiply.outer, taps)
        total = tap * w[np.ix_(*inside)]
        values, n = x[np.ix_(*inside)], total.sum()
        mean = (total * values).sum() / n if n > 0 and center else 0
        var = (total * (values - mean) ** 2).sum() / n if n > 0 else 0
        results[(slice(None), *index)] = mean, var, n
    return results


def run(x, window, axes, **options):
    call = functools.partial(windowed_moments, window=window, axes=axes, **options)
    taken = jax.jit(call)(x)
    return [np.asarray(v, np.float64) for v in (taken.mean, taken.var, taken.count, taken.tail)]


@pytest.mark.parametrize(
    ("window", "axes"), [(3, 1), (4, -1), ((5, 2), (1, 2)), ((TAPS, 3), (2, 3)), (9, (1, 2))]
)
@pytest.mark.sampled(4)
def test_mean_variance_and_count_are_those_of_each_window(window, axes):
    named = axes if isinstance(axes, tuple) else (axes,)
    each = window if isinstance(window, tuple) else (window,) * len(named)
    expected = windows(X, {axis % 4: size for axis, size in zip(named, each)})
    mean, var, count, tail = run(X, window, axes)
    for have, want in zip((mean + tail, var, count), expected):
        assert relative_error(have, want) < rounding(np.float32, 81)


def test_what_a_mask_excludes_is_in_no_window():
    hidden = np.where(MASK, X, np.nan).astype(np.float32)
    mean, var, count, tail = run(hidden, 3, (1, 2), mask=MASK)
    for have, want in zip(
        (mean + tail, var, count), windows(np.nan_to_num(hidden), {1: 3, 2: 3}, MASK)
    ):
        assert relative_error(have, want) < rounding(np.float32, 9)


def test_not_centred_the_variance_is_the_mean_square():
    mean, var, _, _ = run(X, 3, 1, center=False)
    assert not mean.any()
    assert relative_error(var, windows(X, {1: 3}, center=False)[1]) < rounding(np.float32, 3)


def test_a_window_without_size_is_the_whole_axis():
    mean, var, count, tail = run(X, (3, None), (1, -1))
    whole = windows(X, {1: 3, 3: 7})[..., 1:2]  # around the middle of three a window of seven
    for have, want in zip((mean + tail, var, count), whole):
        assert relative_error(have, want) < rounding(np.float32, 9)


def test_the_variance_keeps_its_digits_where_the_mean_of_the_window_is_far_from_all_others():
    # A ramp of a million deviations: about any one pivot no digit of a variance would be left.
    x = (X + 1e6 * np.arange(7)[:, None, None]).astype(np.float32)
    mean, var, _, tail = run(x, 3, 2)
    expected = windows(x, {2: 3})
    assert relative_error(var, expected[1]) < rounding(np.float32, 3)
    assert np.abs(mean + tail - expected[0]).max() < rounding(np.float32, 3)


def test_the_gradient_is_that_of_the_definition():
    def loss(x):
        taken = windowed_moments(x, (3, TAPS), axes=(1, 2))
        return (taken.mean * X).sum() + (taken.var * X[::-1]).sum()

    def expected(x):
        mean, var, _ = windows(x, {1: 3, 2: TAPS})
        return (mean * X).sum() + (var * X[::-1]).sum()

    step = RNG.normal(size=X.shape)
    moved = [expected(X + sign * 1e-6 * step) for sign in (1, -1)]
    slope = (moved[0] - moved[1]) / 2e-6
    got = np.asarray(jax.jit(jax.grad(loss))(X), np.float64)
    assert abs((got * step).sum() - slope) < rounding(np.float32, X.size) * np.abs(got * step).sum()


# (how x [2, 8, 4] lies over four devices a and two devices b, windows, exchanges)
PLACEMENTS = {
    "one axis": (P("b", "a"), {1: 3}, 2),
    "two axes": (P(None, "a", "b"), {1: 3, 2: TAPS}, 4),
    "beyond a neighbour": (P(None, "a"), {1: 6}, 3),
    "beyond all neighbours": (P(None, None, "b"), {2: 9}, 2),
    "mesh axes in another order": (P(None, ("b", "a")), {1: 3}, 2),
}


@pytest.mark.parametrize("name", PLACEMENTS)
@pytest.mark.sampled(3)
def test_shards_exchange_what_windows_reach_once_in_each_direction(name):
    spec, sizes, exchanges = PLACEMENTS[name]
    x = RNG.normal(size=(2, 8, 4)).astype(np.float32)
    given = jax.device_put(x, NamedSharding(explicit(), spec))

    def taken(x):
        return windowed_moments(x, tuple(sizes.values()), axes=tuple(sizes))

    def gradient(x):
        def loss(x):
            got = taken(x)
            return (jnp.sin(got.mean) + got.var**2).sum()

        return jax.grad(loss)(x)

    forward, backward = (jax.jit(f).lower(given).compile() for f in (taken, gradient))
    assert counted(forward.as_text()) == {"collective-permute": exchanges}
    assert counted(backward.as_text()) == {"collective-permute": 2 * exchanges}
    got = forward(given)
    for have, want in zip((got.mean + got.tail, got.var, got.count), windows(x, sizes)):
        assert relative_error(have, want) < rounding(np.float32, 9)
    assert relative_error(backward(given), jax.jit(gradient)(x)) < rounding(np.float32, 9)


@pytest.mark.parametrize("spec", [P("b", "a"), P("b")], ids=str)
def test_nothing_is_gathered_where_vmap_maps_a_sharded_axis(spec):
    x = RNG.normal(size=(2, 8, 4)).astype(np.float32)
    given = jax.device_put(x, NamedSharding(explicit(), spec))
    run = jax.jit(jax.vmap(lambda x: windowed_moments(x, 3, axes=0).var)).lower(given).compile()
    exchanges = {"collective-permute"} if "a" in spec else set()
    assert counted(run.as_text()).keys() == exchanges
    assert relative_error(run(given), windows(x, {1: 3})[1]) < rounding(np.float32, 3)


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="window=0 is empty along axis 1"):
        windowed_moments(X, 0, axes=1)
    with pytest.raises(ValueError, match="has 2 entries for the 3 axes"):
        windowed_moments(X, (3, 3), axes=(0, 1, 2))
