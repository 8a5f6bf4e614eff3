"""Running statistics: right at every step, whatever the batches hold."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.stats import (
    BatchStats,
    Moments,
    cumulative,
    debiased,
    ema,
    frozen,
    guarded,
    moments,
    unbiased_var,
    whole_mean,
    window,
)
from tests.stats.programs import compiled
from tests.stats.reference import reference_moments, relative_error, rounding

STEPS = 1000
SAMPLES = 8  # in each batch
FEATURES = 3
DECAY = 0.9
# Steps at which law 7 asks for a right answer.
CHECKED = [1, 2, 10, 1000]


def made_batches():
    """Returns batches whose mean and variance differ, so that pooling and averaging differ."""
    rng = np.random.default_rng(0)
    centres = rng.normal(10, 3, (STEPS, 1, FEATURES))
    return (centres + 2 * rng.normal(size=(STEPS, SAMPLES, FEATURES))).astype(np.float32)


BATCHES = made_batches()


def run(estimator, batches, dtype=jnp.float32, masks=None):
    """Returns the reading and the state after every step, [steps, ...] each."""

    @compiled
    def scan(state, batches, masks):
        def step(state, inputs):
            x, mask = inputs
            batch = moments(x, (1, x.shape[-1]), mask=mask)
            state = estimator.update(state, jax.tree.map(lambda v: v[0], batch))
            return state, (estimator.read(state), state)

        return jax.lax.scan(step, state, (batches, masks))[1]

    if masks is None:
        masks = np.ones((*batches.shape[:2], *(1,) * (batches.ndim - 2)), bool)
    return scan(estimator.init(batches.shape[2:], dtype), batches, masks)


@functools.cache
def history(estimator):
    """Returns the readings and states over the batches above."""
    return run(estimator, BATCHES)


def state_after(estimator, steps):
    return jax.tree.map(lambda v: v[steps - 1], history(estimator)[1])


def batch_moments(ddof=0):
    wide = BATCHES.astype(np.float64)
    return wide.mean(axis=1), wide.var(axis=1, ddof=ddof)


def assert_reading(readings, step, mean, var):
    # An average over a thousand steps rounds at each of them.
    bound = rounding(np.float32, step)
    assert relative_error(readings.mean[step - 1], mean) < bound
    assert relative_error(readings.var[step - 1], var) < bound


@pytest.mark.parametrize("unbiased", [False, True])
def test_ema_is_the_closed_form_that_starts_at_zero_and_one(unbiased):
    readings, _ = history(ema(DECAY, unbiased=unbiased))
    means, variances = batch_moments(ddof=int(unbiased))
    for step in CHECKED:
        shares = (1 - DECAY) * DECAY ** np.arange(step - 1, -1, -1)
        mean = np.einsum("t,tc->c", shares, means[:step])
        var = DECAY**step + np.einsum("t,tc->c", shares, variances[:step])
        assert_reading(readings, step, mean, var)


@pytest.mark.parametrize("unbiased", [False, True])
def test_the_debiased_average_weighs_the_batches_only(unbiased):
    readings, _ = history(debiased(DECAY, unbiased=unbiased))
    means, variances = batch_moments(ddof=int(unbiased))
    for step in CHECKED:
        shares = DECAY ** np.arange(step - 1, -1, -1)
        shares = shares / shares.sum()
        mean = np.einsum("t,tc->c", shares, means[:step])
        assert_reading(readings, step, mean, np.einsum("t,tc->c", shares, variances[:step]))


@pytest.mark.parametrize("unbiased", [False, True])
def test_cumulative_statistics_are_those_of_all_samples_seen(unbiased):
    readings, _ = history(cumulative(unbiased=unbiased))
    for step in CHECKED:
        seen = BATCHES[:step].reshape(-1, FEATURES).astype(np.float64)
        assert_reading(readings, step, seen.mean(axis=0), seen.var(axis=0, ddof=int(unbiased)))


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("n", [1, 4])
@pytest.mark.sampled(2)
def test_a_window_holds_the_samples_of_its_last_batches(n, unbiased):
    readings, _ = history(window(n, unbiased=unbiased))
    for step in CHECKED:
        seen = BATCHES[max(0, step - n) : step].reshape(-1, FEATURES).astype(np.float64)
        assert_reading(readings, step, seen.mean(axis=0), seen.var(axis=0, ddof=int(unbiased)))


def test_the_variance_of_batches_of_variance_four_is_four_from_the_first_step_on():
    # Equinox's default reads 102.9 after one step of these (law 7).
    batches = np.tile(np.array([-2.0, 2.0], np.float32)[None, :, None], (10, 1, 1))
    for estimator in (debiased(0.99), cumulative(), window(3)):
        readings, _ = run(estimator, batches)
        np.testing.assert_allclose(readings.var.ravel(), 4.0, rtol=rounding(np.float32, 10))


ESTIMATORS = {
    "ema": ema(DECAY),
    "ema_unbiased": ema(DECAY, unbiased=True),
    "debiased": debiased(DECAY),
    "cumulative": cumulative(),
    "window": window(3),
    "guarded": guarded(ema(DECAY)),
    "frozen": frozen(ema(DECAY)),
}
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)


@every_estimator
def test_before_any_batch_the_reading_is_the_identity(estimator):
    reading = compiled(estimator.read)(estimator.init((2,)))
    assert (whole_mean(reading).tolist(), reading.var.tolist()) == ([0, 0], [1, 1])


@every_estimator
@pytest.mark.sampled(6)
def test_a_batch_without_samples_changes_nothing(estimator):
    state = state_after(estimator, 3)
    empty = Moments(jnp.zeros(FEATURES), jnp.zeros(FEATURES), jnp.zeros(()))
    chex.assert_trees_all_equal(compiled(estimator.update)(state, empty), state)


@pytest.mark.parametrize("name", ["ema", "debiased", "cumulative", "window"])
def test_a_feature_without_samples_keeps_its_statistics_while_others_move(name):
    estimator = ESTIMATORS[name]
    state = state_after(estimator, 1)
    count = jnp.array([0.0, 8.0, 8.0])
    batch = Moments(jnp.where(count > 0, 50.0, 0.0), jnp.where(count > 0, 2.0, 0.0), count)
    read, update = compiled(estimator.read), compiled(estimator.update)
    before, after = read(state), read(update(state, batch))
    np.testing.assert_allclose(after.mean[0], before.mean[0], rtol=1e-6)
    np.testing.assert_allclose(after.var[0], before.var[0], rtol=1e-6)
    assert np.all(np.abs(after.mean[1:] - before.mean[1:]) > 1)


@every_estimator
def test_no_update_changes_the_structure_or_a_dtype(estimator):
    state = estimator.init((FEATURES,))
    for dtype in (jnp.bfloat16, jnp.float32):
        mean, var = (jnp.ones(FEATURES, dtype) for _ in range(2))
        new = compiled(estimator.update)(state, Moments(mean, var, jnp.ones((), dtype)))
        chex.assert_trees_all_equal_shapes_and_dtypes(new, state)


@every_estimator
def test_a_state_is_never_below_float32(estimator):
    state = estimator.init((2,), jnp.bfloat16)
    assert {v.dtype for v in jax.tree.leaves(state)} <= {np.dtype(np.float32), np.dtype(np.int32)}


@every_estimator
@pytest.mark.sampled(2)
def test_complex_means_are_kept_complex_and_their_variances_real(estimator):
    x = (np.random.default_rng(0).normal(size=(5, 4, 2, 2)) @ np.array([1.0, 1j])).astype("c8")
    readings, states = run(estimator, x, jnp.complex64)
    first = jax.eval_shape(lambda: estimator.init((2,), jnp.complex64))
    last = jax.eval_shape(lambda: jax.tree.map(lambda v: v[-1], states))
    chex.assert_trees_all_equal_shapes_and_dtypes(last, first)
    assert (readings.mean.dtype, readings.var.dtype) == (np.complex64, np.float32)


def test_cumulative_complex_statistics_are_those_of_all_samples():
    x = (np.random.default_rng(0).normal(size=(5, 4, 2, 2)) @ np.array([1.0, 1j])).astype("c8")
    readings, _ = run(cumulative(), x, jnp.complex64)
    expected = reference_moments(x.reshape(20, 2), (1, 2))
    assert relative_error(readings.mean[-1], expected.mean[0]) < rounding(np.float32, 20)
    assert relative_error(readings.var[-1], expected.var[0]) < rounding(np.float32, 20)


@pytest.mark.parametrize("name", ["ema", "debiased", "cumulative", "window"])
def test_a_complex_batch_for_a_real_state_is_refused_with_a_remedy(name):
    estimator = ESTIMATORS[name]
    batch = Moments(jnp.ones(2, jnp.complex64), jnp.ones(2), jnp.ones(()))
    with pytest.raises(TypeError, match=r"complex64 means, but the running mean is float32; .*in"):
        estimator.update(estimator.init((2,)), batch)


@pytest.mark.parametrize("name", ["ema", "debiased", "cumulative", "window"])
@pytest.mark.sampled(2)
def test_a_guarded_estimator_leaves_out_batches_that_are_not_finite_and_counts_them(name):
    dirty = np.insert(BATCHES[:-3], [4, 7, 7], BATCHES[:3], axis=0)
    dirty[[4, 8, 9], 2, 1] = np.inf, -np.inf, np.nan
    _, states = run(guarded(ESTIMATORS[name]), dirty)
    assert np.asarray(states.skipped)[[3, 4, 7, 8, 9, 999]].tolist() == [0, 1, 1, 2, 3, 3]
    last = jax.tree.map(lambda v: v[-1], states.inner)
    clean = state_after(ESTIMATORS[name], STEPS - 3)
    # A tail is a rounding of its mean, of about 10 here, and may differ by that much.
    chex.assert_trees_all_close(last, clean, rtol=rounding(np.float32, STEPS), atol=1e-5)


def test_one_inf_ruins_an_unguarded_average_for_good():
    dirty = BATCHES.copy()
    dirty[1, 0, 0] = np.inf
    readings, _ = run(ESTIMATORS["ema"], dirty)
    assert not np.any(np.isfinite(readings.var[1:, 0]))


def test_frozen_statistics_stay_as_they_are():
    state = state_after(ESTIMATORS["ema"], 3)
    after = frozen(ema(DECAY)).update(state, Moments(jnp.ones(3) * 9, jnp.ones(3), jnp.ones(())))
    chex.assert_trees_all_equal(after, state)


@pytest.mark.parametrize("name", ["cumulative", "window"])
@pytest.mark.parametrize(("mean", "std"), [(1e4, 1.0), (1e6, 1.0), (-1e9, 1e3)])
@pytest.mark.sampled(2)
def test_the_mean_of_the_population_keeps_its_digits_far_from_zero(name, mean, std):
    batches = far_batches(mean, std)
    readings, _ = run(ESTIMATORS[name], batches)
    for step in CHECKED:
        first = max(0, step - 3) if name == "window" else 0
        seen = batches[first:step].reshape(-1, FEATURES).astype(np.float64)
        reading = jax.tree.map(lambda v, step=step: np.float64(v[step - 1]), readings)
        off = np.abs(reading.mean + reading.tail - seen.mean(axis=0)).max()
        assert off < 4e-7 * std
        assert relative_error(reading.var, seen.var(axis=0)) < rounding(np.float32, step)
    # Without its tail the mean is off by up to half a unit in its last place.
    assert np.abs(reading.mean - seen.mean(axis=0)).max() > 1e-5 * std


def far_batches(mean, std):
    rng = np.random.default_rng(3)
    noise = std * rng.normal(size=(STEPS, SAMPLES, FEATURES))
    return (mean + noise).astype(np.float32)


@pytest.mark.parametrize("make", [ema, debiased])
def test_an_average_takes_in_the_tail_of_the_batch_mean(make):
    # The tail of one batch is large enough to be seen in a float32 average.
    estimator = make(0.5)
    batch = Moments(jnp.array([3.0]), jnp.array([1.0]), jnp.array(8.0), jnp.array([0.25]))
    reading = estimator.read(estimator.update(estimator.init((1,)), batch))
    assert reading.mean.tolist() == [1.625 if make is ema else 3.25]


@every_estimator
def test_batches_with_and_without_a_tail_are_the_same_batch(estimator):
    bare = Moments(jnp.array([3.0]), jnp.array([2.0]), jnp.array(8.0))
    state = estimator.init((1,))
    update = compiled(estimator.update)
    tailed = update(state, bare._replace(tail=jnp.zeros(1)))
    chex.assert_trees_all_equal(update(state, bare), tailed)


EXACT = 2**24  # the largest count below which every integer is a float32


@pytest.mark.parametrize("n", [1, 8, 4096])
@pytest.mark.parametrize("start", [EXACT // 2, EXACT, 64 * EXACT])
def test_equal_batches_leave_mean_and_variance_right_beyond_exact_counts(start, n):
    batch = Moments(jnp.array([1e3]), jnp.array([4.0]), jnp.array([float(n)]), jnp.zeros(1))
    state = many_updates(batch._replace(count=jnp.array([float(start)])), batch)
    np.testing.assert_allclose(whole_mean(state), 1e3, rtol=np.finfo(np.float32).eps)
    np.testing.assert_allclose(state.var, 4.0, rtol=rounding(np.float32, 4096))


@pytest.mark.parametrize("start", [EXACT // 2, EXACT, 64 * EXACT])
def test_other_batches_still_move_the_population_beyond_exact_counts(start):
    old = Moments(jnp.array([0.0]), jnp.array([1.0]), jnp.array([float(start)]), jnp.zeros(1))
    new = Moments(jnp.array([5.0]), jnp.array([2.0]), jnp.array([4096.0]))
    state = many_updates(old, new)
    added = 4096 * 4096
    share = added / (start + added)
    bound = rounding(np.float32, 4096)
    assert float(state.count[0]) == pytest.approx(start + added, rel=bound)
    np.testing.assert_allclose(whole_mean(state), 5 * share, rtol=bound)
    var = (1 - share) * 1 + share * 2 + share * (1 - share) * 25
    np.testing.assert_allclose(state.var, var, rtol=bound)


def test_a_count_is_exact_up_to_its_limit_and_then_loses_single_entries():
    single = Moments(jnp.array([2.0]), jnp.array([0.0]), jnp.array([1.0]), jnp.zeros(1))
    full = many_updates(single._replace(count=jnp.array([float(EXACT - 4096)])), single)
    assert int(full.count[0]) == EXACT
    assert int(many_updates(full, single).count[0]) == EXACT


def test_a_float64_state_counts_on(x64):
    single = Moments(jnp.array([2.0]), jnp.array([0.0]), jnp.array([1.0]))
    state = cumulative().init((1,), jnp.float64)._replace(count=jnp.array([float(EXACT)]))
    assert int(many_updates(state, single).count[0]) == EXACT + 4096


def many_updates(state, batch, steps=4096):
    """Returns the state after the same batch has come many times."""

    @compiled
    def scan(state, batch):
        def step(state, _):
            return cumulative().update(state, batch), None

        return jax.lax.scan(step, state, length=steps)[0]

    return scan(state, batch)


def test_masked_batches_are_pooled_by_their_valid_samples():
    masks = np.random.default_rng(1).random((STEPS, SAMPLES, 1)) < 0.3
    readings, _ = run(cumulative(), BATCHES, masks=masks)
    seen = BATCHES[:50][masks[:50, :, 0]].astype(np.float64)
    assert_reading(readings, 50, seen.mean(axis=0), seen.var(axis=0))


def test_an_average_in_bfloat16_would_have_stalled_where_this_one_arrives():
    # Law 9: Haiku keeps the average in the dtype of the input, where it sticks at 3.0.
    batches = np.full((STEPS, 2, 1), 3.03, np.float32)
    readings, _ = run(ema(DECAY), jnp.asarray(batches, jnp.bfloat16))
    assert float(readings.mean[-1, 0]) == pytest.approx(float(jnp.bfloat16(3.03)), rel=1e-6)
    stalled = jnp.zeros((), jnp.bfloat16)
    for _ in range(STEPS):
        stalled = (
            np.asarray(DECAY, jnp.bfloat16) * stalled + np.asarray(1 - DECAY, jnp.bfloat16) * 3
        )
    assert abs(float(stalled) - 3.03) > 0.01


def test_statistics_may_have_any_shape():
    x = np.stack([BATCHES[:5], 2 * BATCHES[:5]], axis=2)

    @compiled
    def collected(x):
        state = cumulative().init((2, FEATURES))
        for batch in x:
            batch = moments(batch, (1, 2, FEATURES))
            batch = batch._replace(count=jnp.broadcast_to(batch.count, batch.mean.shape))
            state = cumulative().update(state, jax.tree.map(lambda v: v[0], batch))
        return state

    expected = reference_moments(x.reshape(40, 2, FEATURES), (1, 2, FEATURES))
    assert relative_error(collected(x).var, expected.var[0]) < rounding("f4", 40)


def test_bessels_correction_of_the_reading_is_that_of_the_whole_population():
    state = state_after(ESTIMATORS["cumulative"], 7)
    reading = compiled(cumulative(unbiased=True).read)(state)
    np.testing.assert_allclose(reading.var, unbiased_var(state), rtol=1e-6)


def test_the_state_of_ema_is_what_flax_keeps():
    assert ema().init((2,))._fields == BatchStats._fields == ("mean", "var")


@pytest.mark.parametrize("make", [ema, debiased])
@pytest.mark.parametrize("decay", [-0.1, 1.01, 2.0])
def test_a_decay_outside_zero_to_one_is_refused_with_pytorchs_meaning(make, decay):
    with pytest.raises(ValueError, match=rf"decay={decay} must be from 0 to 1.*momentum=0.1 is"):
        make(decay)


def test_a_window_of_no_batches_is_refused():
    with pytest.raises(ValueError, match=r"window\(0\) must keep at least one batch; use n >= 1"):
        window(0)
