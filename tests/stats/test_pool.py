"""The algebra of moments: pool, merge, mix and Bessel's correction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from jaxnorm.stats import Moments
from tests.stats.programs import compiled
from tests.stats.reference import reference_moments, relative_error, rounding

SHAPE = (4, 3, 6)

merge = compiled(jaxnorm.merge)
mix = compiled(jaxnorm.mix)
unbiased_var = compiled(jaxnorm.unbiased_var)


def moments(x, stats_shape, **options):
    return compiled(lambda x, **given: jaxnorm.moments(x, stats_shape, **given))(x, **options)


def pool(taken, stats_shape):
    return compiled(lambda taken: jaxnorm.pool(taken, stats_shape))(taken)


def sample(mean=3.0, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.normal(mean, 1, SHAPE)
    return (x + 1j * rng.normal(size=SHAPE) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def assert_equal_moments(got, expected, dtype=np.float32):
    for have, want in zip(got[:3], expected, strict=True):
        have = jnp.broadcast_to(have, want.shape)
        assert relative_error(have, want) < rounding(dtype, np.prod(SHAPE))


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_coarser_moments_come_from_finer_ones(dtype):
    x = sample(dtype=dtype)
    mask = np.random.default_rng(1).random(SHAPE) < 0.5
    steps = [
        ((4, 3, 6), (1, 1, 6)),
        ((4, 1, 6), (4, 1, 2)),
        ((4, 1, 6), (2, 1, 3)),
        ((2, 3, 3), (1, 1, 1)),
        ((4, 3, 1), (4, 3, 1)),
    ]
    run = compiled(lambda x: [jaxnorm.pool(jaxnorm.moments(x, f, mask=mask), c) for f, c in steps])
    for (_, coarser), got in zip(steps, run(x)):
        assert_equal_moments(got, reference_moments(x, coarser, mask))


def test_pooling_weighs_by_count_where_an_average_of_variances_drops_what_lies_between():
    fine = Moments(np.array([0.0, 10.0]), np.array([1.0, 1.0]), np.array([8.0, 1.0]))
    whole = np.concatenate([np.repeat([-1.0, 1.0], 4), [9.0, 11.0]])
    weights = np.concatenate([np.ones(8), [0.5, 0.5]])
    expected = reference_moments(whole, (1,), weights)
    assert_equal_moments(pool(jax.tree.map(jnp.float32, fine), (1,)), expected)


def test_pooling_keeps_its_digits_at_an_offset_of_1e6():
    x = sample(mean=1e6)
    got = pool(moments(x, (4, 3, 6)), (1, 1, 6))
    assert relative_error(got.var, reference_moments(x, (1, 1, 6)).var) < 4e-6


def test_empty_samples_do_not_take_part_in_a_pool_even_if_they_come_first():
    x, mask = sample(), np.ones(SHAPE, bool)
    mask[0] = False
    fine = moments(x, (4, 1, 6), mask=mask)
    assert not np.any(np.asarray(fine.count)[0])
    assert_equal_moments(pool(fine, (1, 1, 6)), reference_moments(x, (1, 1, 6), mask))


def test_a_pool_of_empty_samples_is_an_empty_sample():
    empty = jax.tree.map(lambda v: v * 0, moments(sample(), (4, 1, 6)))
    assert not any(np.any(v) for v in jax.tree.leaves(pool(empty, (1, 1, 6))))


def test_the_moments_of_an_empty_sample_do_not_matter():
    fine = Moments(jnp.array([1e6, 2.0]), jnp.array([1e9, 3.0]), jnp.array([0.0, 4.0]))
    assert [float(v[0]) for v in pool(fine, (1,))] == [2.0, 3.0, 4.0, 0.0]


def test_a_pool_that_does_not_divide_the_statistics_is_an_error():
    with pytest.raises(ValueError, match=r"asks for 4 groups along axis 2 of x \[4, 1, 6\]"):
        pool(moments(sample(), (4, 1, 6)), (1, 1, 4))


def test_pooling_has_the_derivative_of_the_pooled_moments():
    x = sample()
    mean, var, count = reference_moments(x, (1, 1, 6))

    @compiled
    @jax.grad
    def gradient(x):
        fine = jaxnorm.moments(x, (4, 1, 6))
        return jnp.sum(jaxnorm.pool(fine, (1, 1, 6)).var ** 2)

    expected = 2 * var * 2 * (x - mean) / count
    assert relative_error(gradient(x), expected) < rounding(np.float32, 12)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_merging_two_samples_gives_the_moments_of_their_union(dtype):
    @compiled
    def merged(x):
        parts = [jaxnorm.moments(part, (1, 1, 6)) for part in (x[:1], x[1:])]
        return jaxnorm.merge(*parts)

    x = sample(dtype=dtype)
    assert_equal_moments(merged(x), reference_moments(x, (1, 1, 6)))


def test_merging_is_symmetric_and_an_empty_sample_changes_nothing():
    full = moments(sample(), (1, 1, 6))
    none = jax.tree.map(jnp.zeros_like, full)
    assert_equal_moments(merge(none, full), reference_moments(sample(), (1, 1, 6)))
    assert_equal_moments(merge(full, none), reference_moments(sample(), (1, 1, 6)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("first_dtype", [np.float32, np.float64])
def test_merging_moments_of_two_dtypes_gives_the_wider(first_dtype):
    x = sample(dtype=np.float64)
    first = moments(x[:2].astype(first_dtype), (1, 1, 6))
    merged = merge(first, moments(x[2:], (1, 1, 6)))
    assert merged.var.dtype == np.float64
    assert_equal_moments(merged, reference_moments(x, (1, 1, 6)), first_dtype)


def test_a_mixture_averages_means_and_variances_with_its_weights():
    x = sample()
    shapes = [(1, 1, 6), (4, 1, 6), (4, 1, 1)]
    weights, shares = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.1, 0.3])
    got = mix(weights, [moments(x, s) for s in shapes], shares)
    parts = [reference_moments(x, s) for s in shapes]
    assert relative_error(got.mean, sum(w * p.mean for w, p in zip(weights, parts))) < rounding(
        np.float32, 18
    )
    assert relative_error(got.var, sum(w * p.var for w, p in zip(shares, parts))) < rounding(
        np.float32, 18
    )


def test_the_weights_of_the_means_are_those_of_the_variances_by_default():
    x = sample()
    parts = [moments(x, (1, 1, 6)), moments(x, (4, 1, 6))]
    weights = np.array([0.25, 0.75], np.float32)
    np.testing.assert_array_equal(mix(weights, parts).var, mix(weights, parts, weights).var)


def test_mixture_weights_may_differ_per_channel():
    x = sample()
    weights = np.random.default_rng(3).random((2, 1, 1, 6)).astype(np.float32)
    got = mix(weights, [moments(x, (1, 1, 6)), moments(x, (4, 1, 6))])
    a, b = reference_moments(x, (1, 1, 6)), reference_moments(x, (4, 1, 6))
    assert relative_error(got.mean, weights[0] * a.mean + weights[1] * b.mean) < 1e-6


def test_the_count_of_a_mixture_is_that_of_its_smallest_sample():
    x = sample()
    assert float(mix(np.ones(2), [moments(x, (1, 1, 6)), moments(x, (4, 1, 6))]).count) == 3


@pytest.mark.parametrize("name", ["weights", "var_weights"])
def test_a_mixture_needs_one_weight_for_each_moments(name):
    parts = [moments(sample(), (1, 1, 6))] * 3
    given = {"weights": np.ones(3), name: np.ones(2)}
    with pytest.raises(ValueError, match=rf"{name} \[2\] must have one entry for each of the 3"):
        mix(given["weights"], parts, given.get("var_weights"))


def test_bessels_correction_gives_numpys_ddof_one():
    x = sample()
    expected = np.var(x.astype(np.float64), axis=(0, 1), ddof=1)
    assert relative_error(unbiased_var(moments(x, (1, 1, 6))).ravel(), expected) < 1e-6


def test_bessels_correction_leaves_samples_of_at_most_one_entry_alone():
    taken = Moments(jnp.zeros(3), jnp.array([0.0, 5.0, 5.0]), jnp.array([0.0, 1.0, 0.5]))
    assert unbiased_var(taken).tolist() == [0.0, 5.0, 5.0]


def test_moments_are_a_pytree():
    taken = moments(sample(), (1, 1, 6))
    assert isinstance(jax.tree.map(jnp.negative, taken), Moments)


@pytest.mark.usefixtures("x64")
def test_mixed_moments_keep_their_dtype_where_float64_is_enabled():
    taken = jaxnorm.moments(sample(), (4, 1, 1))
    mixed = jaxnorm.mix(jnp.array([0.25, 0.75], jnp.float32), [taken, taken])
    assert {v.dtype for v in (mixed.mean, mixed.var, mixed.tail)} == {np.dtype(np.float32)}
