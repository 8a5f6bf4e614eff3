"""Moments of arrays: masks, weights, offsets, complex values, empty samples, dtypes and errors."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from tests.stats.programs import compiled, without_type_checks
from tests.stats.reference import reference_moments, relative_error, rounding

SHAPE = (4, 3, 6)
# Reduced and kept; reduced, kept and grouped; two grouped axes.
STATS_SHAPES = [(1, 1, 6), (4, 1, 2), (2, 3, 3)]
VARIANCES = ["one_pass", "two_pass", "fast"]


def moments(x, stats_shape, **options):
    """Returns the moments, taken by one compiled program."""
    return compiled(lambda x, **given: jaxnorm.moments(x, stats_shape, **given))(x, **options)


def sample(seed=0, mean=3.0, shape=SHAPE, dtype=np.float32):
    rng = np.random.default_rng(seed)
    x = rng.normal(mean, 1, shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.normal(-2, 2, shape)
    return x.astype(dtype)


def taken(x, sample_arguments, center=True, variance="one_pass"):
    """Returns the moments of every statistics shape, compiled as one function."""

    @compiled
    def compute(x, arguments):
        options = {"center": center, "variance": variance, **arguments}
        return [jaxnorm.moments(x, s, **options) for s in STATS_SHAPES]

    return compute(x, sample_arguments)


def assert_right(got, x, weights=None, center=True):
    for s, (mean, var, count, _) in zip(STATS_SHAPES, got):
        expected = reference_moments(x, s, weights, center)
        bound = rounding(np.float32, x.size)
        assert relative_error(jnp.broadcast_to(mean, s), expected.mean) < bound
        # The entries have a variance of about one, however little of it one sample shows.
        assert relative_error(jnp.broadcast_to(var, s), expected.var, 1.0) < bound
        assert relative_error(jnp.broadcast_to(count, s), expected.count) < bound


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("variance", VARIANCES)
def test_moments_are_those_of_numpy(variance, center):
    x = sample()
    assert_right(taken(x, {}, center, variance), x, center=center)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.sampled(2)
def test_a_mask_leaves_entries_out(variance):
    x, mask = sample(), np.random.default_rng(1).random(SHAPE) < 0.4
    assert_right(taken(x, {"mask": mask}, variance=variance), x, mask)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.sampled(2)
def test_weights_that_are_no_integers_weigh(variance):
    x, weights = sample(), np.random.default_rng(1).exponential(size=SHAPE).astype(np.float32)
    assert_right(taken(x, {"weights": weights}, variance=variance), x, weights)


@pytest.mark.parametrize("center", [True, False])
def test_a_mask_and_weights_multiply(center):
    x, rng = sample(), np.random.default_rng(1)
    mask, weights = rng.random(SHAPE) < 0.6, rng.random((3, 1)).astype(np.float32)
    got = taken(x, {"mask": mask, "weights": weights}, center)
    assert_right(got, x, mask * weights, center)


def test_integer_and_boolean_weights_are_accepted():
    x, weights = sample(), np.random.default_rng(1).integers(0, 4, SHAPE)
    assert_right(taken(x, {"weights": weights}), x, weights)
    assert_right(taken(x, {"weights": weights > 0}), x, weights > 0)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.sampled(2)
def test_complex_samples_have_complex_means_and_real_variances(variance, weighted):
    x = sample(dtype=np.complex64)
    weights = np.random.default_rng(1).random(SHAPE).astype(np.float32) if weighted else None
    got = taken(x, {"weights": weights} if weighted else {}, variance=variance)
    assert {m.mean.dtype for m in got} == {np.dtype(np.complex64)}
    assert {m.var.dtype for m in got} == {np.dtype(np.float32)}
    assert_right(got, x, weights)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.sampled(2)
def test_low_precision_is_summed_in_float32(dtype, variance):
    x = jnp.asarray(sample()).astype(dtype)
    got = taken(x, {}, variance=variance)
    assert {v.dtype for m in got for v in m} == {np.dtype(np.float32)}
    assert_right(got, x)


@pytest.mark.parametrize("variance", ["one_pass", "two_pass"])
@pytest.mark.parametrize("offset", [1e2, 1e4, 1e6])
@pytest.mark.sampled(2)
def test_the_variance_keeps_its_digits_at_any_offset(variance, offset):
    x = sample(mean=offset)
    assert_right(taken(x, {}, variance=variance), x)


def test_the_fast_variance_about_zero_loses_all_digits_at_an_offset_of_1e4():
    x = sample(mean=1e4, shape=(1, 1024))
    expected = reference_moments(x, (1, 1)).var
    assert relative_error(moments(x, (1, 1), variance="fast").var, expected) > 0.1
    assert relative_error(moments(x, (1, 1)).var, expected) < 4e-6


def test_two_passes_are_exact_whatever_the_pivot():
    # First, middle and last entry at one outlying value: the pivot is 1e4 deviations off.
    x = sample(shape=(1, 1001))
    x[0, [0, 500, 1000]] = 1e4
    expected = reference_moments(x, (1, 1)).var
    assert relative_error(moments(x, (1, 1), variance="two_pass").var, expected) < 4e-6


def test_the_one_pass_error_grows_no_faster_than_the_sample_size():
    # The worst sample: all three candidates for the pivot are the outliers.
    x = sample(shape=(1, 4097))
    x[0, [0, 2048, 4096]] = 1e4
    expected = reference_moments(x, (1, 1)).var
    bound = x.size * np.finfo(np.float32).eps
    assert relative_error(moments(x, (1, 1), variance="one_pass").var, expected) < bound


@pytest.mark.parametrize("sample_arguments", ["mask", "weights"])
def test_the_first_valid_entry_may_be_an_outlier(sample_arguments):
    x = sample(shape=(1, 4097))
    x[0, :2] = 1e30, 1e4
    valid = (np.arange(4097) > 0)[None]
    given = {sample_arguments: valid if sample_arguments == "mask" else 0.5 * valid}
    expected = reference_moments(x, (1, 1), valid)
    mean, var, _, tail = moments(x, (1, 1), **given)
    exact = np.float64(mean) + np.float64(tail)
    assert np.abs(exact - expected.mean) < 1e-6 * np.sqrt(expected.var)
    # The squares of a lane follow the outlier's in one chain, whose length the machine decides.
    assert relative_error(var, expected.var) < x.size / 8 * np.finfo(np.float32).eps


@pytest.mark.parametrize("value", [0.0, 0.1, -3e4, 1e30, 1e-30])
@pytest.mark.sampled(2)
def test_a_constant_sample_has_exactly_its_value_as_mean_and_no_variance(value):
    for variance in ("one_pass", "two_pass"):
        mean, var, *_ = moments(np.full((3, 5), value, np.float32), (3, 1), variance=variance)
        assert mean.tolist() == [[np.float32(value)]] * 3 and not np.any(var)


@pytest.mark.parametrize("variance", VARIANCES)
def test_an_empty_sample_has_moments_zero(variance):
    x, mask = sample(), np.zeros(SHAPE, bool)
    mask[1] = True
    got = moments(x, (4, 1, 1), mask=mask, variance=variance)
    expected = reference_moments(x, (4, 1, 1), mask)
    assert all(np.all(np.asarray(v)[[0, 2, 3]] == 0) for v in got)
    assert relative_error(got.var, expected.var) < rounding(np.float32, 18)


@pytest.mark.parametrize("variance", VARIANCES)
def test_an_array_without_entries_has_moments_zero(variance):
    got = moments(jnp.zeros((0, 3)), (1, 3), variance=variance)
    assert [np.ravel(np.broadcast_to(v, (1, 3))).tolist() for v in got] == [[0, 0, 0]] * 4


def test_an_array_with_no_statistics_at_all_is_no_error():
    assert moments(jnp.zeros((0, 3)), (0, 1)).mean.shape == (0, 1)


def test_non_finite_entries_outside_the_mask_do_not_enter():
    x, mask = sample(), np.random.default_rng(1).random(SHAPE) < 0.7
    dirty = np.where(mask, x, np.resize([np.nan, np.inf, -np.inf, 3e38], SHAPE))
    assert_right(taken(dirty.astype(np.float32), {"mask": mask}), x, mask)
    assert_right(taken(dirty.astype(np.float32), {"weights": mask * 0.5}), x, mask * 0.5)


def test_a_non_finite_entry_inside_the_sample_shows():
    x = sample()
    x[0, 0, 0] = np.inf
    mean, var, *_ = moments(x, (1, 1, 6))
    assert not np.isfinite(mean[0, 0, 0]) and not np.isfinite(var[0, 0, 0])
    assert np.all(np.isfinite(mean[0, 0, 1:])) and np.all(np.isfinite(var[0, 0, 1:]))


@pytest.mark.parametrize(
    ("shape", "expected"), [(s, (1,) * (3 - len(s)) + s) for s in [(), (6,), (3, 1), (4, 1, 1)]]
)
@pytest.mark.sampled(2)
def test_a_mask_of_lower_rank_broadcasts_as_in_numpy(shape, expected):
    x, mask = sample(), np.asarray(np.random.default_rng(2).random(shape) < 0.7)
    assert_right(taken(x, {"mask": mask}), x, mask.reshape(expected))


def test_the_count_is_one_number_where_all_samples_are_equally_large():
    count = moments(sample(), (4, 1, 1)).count
    assert (count.shape, float(count)) == ((), 18)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.sampled(2)
def test_double_precision_is_summed_in_double_precision(variance):
    x = sample(dtype=np.float64)
    for s in STATS_SHAPES:
        mean, var, count, _ = moments(x, s, variance=variance)
        expected = reference_moments(x, s)
        assert {mean.dtype, var.dtype, count.dtype} == {np.dtype(np.float64)}
        assert relative_error(mean, expected.mean) < rounding(np.float64, x.size)
        assert relative_error(var, expected.var) < rounding(np.float64, x.size)


@pytest.mark.usefixtures("x64")
def test_float32_may_be_summed_in_float64():
    x = sample(shape=(1, 999))
    got, expected = moments(x, (1, 1), dtype=jnp.float64), reference_moments(x, (1, 1))
    assert got.var.dtype == np.float64
    assert relative_error(got.var, expected.var) < rounding(np.float64, x.size)


def test_a_narrower_dtype_than_the_default_changes_nothing():
    assert moments(sample(), (1, 1, 6), dtype=jnp.bfloat16).var.dtype == np.float32


NIGHTLY = [pytest.param(ndim, marks=pytest.mark.nightly) for ndim in range(6, 11)]


@pytest.mark.parametrize("ndim", [*range(1, 6), *NIGHTLY])
@pytest.mark.sampled(2)
def test_every_subset_of_kept_axes_gives_the_moments_of_numpy(ndim):
    assert_subsets_right(ndim, list(itertools.product((False, True), repeat=ndim)))


@pytest.mark.nightly
@pytest.mark.parametrize("ndim", range(6, 11))
def test_some_subsets_of_kept_axes_give_the_moments_of_numpy_at_high_rank(ndim):
    assert_subsets_right(ndim, np.random.default_rng(ndim).random((12, ndim)) < 0.5)


def assert_subsets_right(ndim, subsets):
    shape = (2, 3, 1, 2, 1, 2, 1, 1, 2, 2)[:ndim]
    x = sample(ndim, shape=shape)
    stats_shapes = [tuple(n if k else 1 for n, k in zip(shape, keep)) for keep in subsets]
    run = compiled(lambda x: [jaxnorm.moments(x, s)[:2] for s in stats_shapes])
    for s, (mean, var) in zip(stats_shapes, run(x)):
        expected = reference_moments(x, s)
        assert relative_error(mean, expected.mean) < rounding(np.float32, x.size)
        assert relative_error(var, expected.var, 1.0) < rounding(np.float32, x.size)


def test_integers_are_refused_with_a_remedy():
    with pytest.raises(TypeError, match=r"x must be floating .* int32 \[2, 3\]; convert it"):
        moments(jnp.ones((2, 3), jnp.int32), (1, 3))


def test_an_unknown_variance_is_refused_with_those_there_are():
    message = r"variance='welford' is unknown; use .*'one_pass'"
    with without_type_checks(), pytest.raises(ValueError, match=message):
        moments(sample(), (1, 1, 6), variance="welford")


@pytest.mark.parametrize("name", ["mask", "weights"])
@pytest.mark.parametrize("shape", [(5,), (4, 3, 2), (2, 3, 6), (1, 4, 3, 6), (4, 3, 6, 1)])
def test_a_mask_that_does_not_broadcast_is_refused_with_both_shapes(name, shape):
    given = {name: np.ones(shape, bool)}
    with pytest.raises(ValueError, match=rf"{name} \[.*\] does not broadcast to x \[4, 3, 6\]"):
        moments(sample(), (1, 1, 6), **given)


def test_a_mask_that_is_not_boolean_is_refused_with_a_remedy():
    with pytest.raises(TypeError, match="mask must be boolean, got float32; .* weights="):
        moments(sample(), (1, 1, 6), mask=np.ones(SHAPE, np.float32))


def test_complex_weights_are_refused():
    with pytest.raises(TypeError, match="weights must be real, got complex64"):
        moments(sample(), (1, 1, 6), weights=np.ones(SHAPE, np.complex64))
