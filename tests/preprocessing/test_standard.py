"""Standard scaling against scikit-learn and float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.preprocessing
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from jaxnorm.preprocessing import StandardScaler, StandardState

TABLES = {"wine": load_wine, "breast_cancer": load_breast_cancer, "diabetes": load_diabetes}
EPS32 = np.finfo(np.float32).eps
EPS64 = np.finfo(np.float64).eps


def table(name: str) -> np.ndarray:
    return TABLES[name](return_X_y=True)[0]


fit = jax.jit(StandardScaler().fit)
transform = jax.jit(StandardScaler().transform)


def fit_and_transform(x: np.ndarray) -> jax.Array:
    return transform(fit(x), x)


def reference(x: np.ndarray, **kwargs) -> sklearn.preprocessing.StandardScaler:
    return sklearn.preprocessing.StandardScaler().fit(x.astype(np.float64), **kwargs)


def assert_scaled(y, x, sk, eps) -> None:
    """Compares with `(x - mean) / std`, each statistic being off by eps of the spread."""
    want = (x.astype(np.float64) - sk.mean_) / sk.scale_
    bound = 8 * eps * np.sqrt(len(x)) * (1 + np.abs(want))
    assert np.all(np.abs(np.asarray(y, np.float64) - want) <= bound)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.sampled(2)
def test_float32_table_is_scaled_as_by_scikit_learn(name):
    x = table(name).astype(np.float32)
    assert_scaled(fit_and_transform(x), x, reference(x), EPS32)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.sampled(2)
def test_float64_table_is_scaled_as_by_scikit_learn(name):
    x = table(name)
    with jax.enable_x64(True):
        y = fit_and_transform(x)
    assert_scaled(y, x, reference(x), EPS64)


def test_statistics_equal_those_of_scikit_learn():
    x = table("breast_cancer")
    sk, state = reference(x), fit(x)
    rtol = 8 * EPS32 * np.sqrt(len(x))
    # The mean of a feature is exact to an eps of its own size and of its spread.
    np.testing.assert_allclose(state.mean, sk.mean_, rtol=EPS32, atol=rtol * sk.scale_.max())
    np.testing.assert_allclose(state.var, sk.var_, rtol=rtol)
    np.testing.assert_array_equal(state.count, len(x))


def test_missing_values_are_ignored_in_fit_and_kept_in_transform():
    x = table("wine").astype(np.float32)
    missing = np.random.default_rng(0).random(x.shape) < 0.2
    x[missing] = np.nan
    state = fit(x)
    y = transform(state, x)
    sk = reference(x)
    np.testing.assert_array_equal(state.count, sk.n_samples_seen_)
    np.testing.assert_array_equal(np.isnan(y), missing)
    assert_scaled(jnp.nan_to_num(y), np.where(missing, sk.mean_, x), sk, EPS32)


def test_sample_weights_weigh_as_in_scikit_learn():
    x = table("wine").astype(np.float32)
    weights = np.random.default_rng(1).integers(0, 4, len(x)).astype(np.float32)
    y = transform(fit(x, weights=weights), x)
    assert_scaled(y, x, reference(x, sample_weight=weights), EPS32)


def test_masked_values_are_as_if_they_were_not_there():
    x = table("wine").astype(np.float32)
    mask = np.arange(len(x)) % 3 > 0
    garbage = np.where(mask[:, None], x, np.inf)
    masked, subset = fit(garbage, mask=mask[:, None]), fit(x[mask])
    rtol = 8 * EPS32 * np.sqrt(len(x))
    np.testing.assert_allclose(masked.mean, subset.mean, rtol=rtol)
    np.testing.assert_allclose(masked.var, subset.var, rtol=rtol)


def test_constant_feature_is_divided_by_one():
    x = np.full((7, 2), 0.1, np.float32)
    state = fit(x)
    np.testing.assert_array_equal(transform(state, x + 1), (x + 1) - x)


def test_offset_of_a_million_standard_deviations_loses_no_digits():
    noise = np.random.default_rng(2).standard_normal((512, 3))
    x = (1e6 + noise).astype(np.float32)
    assert_scaled(fit_and_transform(x), x, reference(x), EPS32)


def test_stream_of_batches_in_a_scan_equals_the_whole():
    x = 1e5 + table("diabetes")[:440].astype(np.float32)
    scaler = StandardScaler()
    batches = jnp.asarray(x).reshape(11, 40, -1)

    @jax.jit
    def stream(state: StandardState) -> StandardState:
        return jax.lax.scan(lambda s, b: (scaler.update(s, b), None), state, batches)[0]

    state = stream(scaler.init(x.shape[1:]))
    assert_scaled(transform(state, x), x, reference(x), EPS32)


@pytest.mark.nightly
def test_shards_of_different_sizes_and_places_pool_to_the_whole():
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((30, 2)) + np.repeat([0, 100, 1000], 10)[:, None]).astype(np.float32)
    scaler = StandardScaler()
    states = [fit(part) for part in np.split(x, [3, 22])]
    state = scaler.pool(jax.tree.map(lambda *parts: jnp.stack(parts), *states))
    assert_scaled(transform(state, x), x, reference(x), EPS32)


def test_gathered_states_of_a_mapped_axis_pool_to_the_whole():
    x = table("wine")[:176].astype(np.float32)
    scaler = StandardScaler()

    def shard(part: jax.Array) -> jax.Array:
        state = scaler.pool(jax.lax.all_gather(fit(part), "data"))
        return transform(state, part)

    y = jax.vmap(shard, axis_name="data")(jnp.asarray(x).reshape(8, 22, -1))
    assert_scaled(y.reshape(x.shape), x, reference(x), EPS32)


def test_state_without_samples_changes_nothing():
    scaler = StandardScaler()
    empty = scaler.init((2,))
    x = jnp.array([[3.0, -5.0]])
    np.testing.assert_array_equal(scaler.transform(empty, x), x)
    full = scaler.fit(jnp.array([[1.0, 2.0], [5.0, 8.0]]))
    for merged in (scaler.merge(empty, full), scaler.merge(full, empty)):
        jax.tree.map(np.testing.assert_array_equal, merged, full)


@pytest.mark.parametrize("with_mean", [True, False])
def test_inverse_transform_returns_the_data(with_mean):
    x = table("wine").astype(np.float32)
    scaler = StandardScaler(with_mean=with_mean)
    state = scaler.fit(x)
    back = scaler.inverse_transform(state, scaler.transform(state, x))
    bound = 4 * EPS32 * (np.abs(x) + np.abs(state.mean) + np.sqrt(state.var))
    assert np.all(np.abs(back - x) <= bound)


@pytest.mark.parametrize("flags", [(True, False), (False, True), (False, False)])
def test_switches_mean_what_they_mean_in_scikit_learn(flags):
    x = table("wine")
    want = sklearn.preprocessing.StandardScaler(with_mean=flags[0], with_std=flags[1])
    want = want.fit_transform(x)
    scaler = StandardScaler(*flags)
    got = scaler.transform(scaler.fit(x), x)
    np.testing.assert_allclose(got, want, rtol=8 * EPS32 * np.sqrt(len(x)), atol=EPS32 * x.max())


def test_pixels_share_statistics_where_the_features_are_the_channels():
    images = np.random.default_rng(4).integers(0, 256, (5, 4, 4, 3), np.uint8)
    scaler = StandardScaler()
    state = scaler.update(scaler.init((3,)), images)
    np.testing.assert_allclose(state.mean, images.mean((0, 1, 2)), rtol=16 * EPS32)
    np.testing.assert_allclose(state.var, images.var((0, 1, 2)), rtol=16 * EPS32)


def test_bfloat16_data_keep_their_dtype_and_float32_statistics():
    x = jnp.asarray(table("wine"), jnp.bfloat16)
    state = fit(x)
    y = transform(state, x)
    assert (y.dtype, state.pivot.dtype) == (jnp.bfloat16, jnp.float32)
    exact = np.asarray(x, np.float64)
    want = (exact - exact.mean(0)) / exact.std(0)
    np.testing.assert_allclose(np.asarray(y, np.float64), want, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.update(s.init((3,)), jnp.ones((4, 2))), ValueError, r"\[3\].*\[4, 2\]"),
        (lambda s: s.fit(jnp.ones((4, 2)), weights=jnp.ones(2)), ValueError, r"\[2\].*\[4, 2\]"),
        (lambda s: s.fit(jnp.ones((4, 2)), mask=jnp.ones((4, 2))), TypeError, "boolean"),
        (lambda s: s.fit(jnp.ones((4, 2), jnp.complex64)), TypeError, "complex64"),
        (lambda s: s.merge(s.init((3,)), s.init((2,))), ValueError, r"\[3\].*\[2\]"),
        (lambda s: s.transform(s.init((3,)), jnp.ones((4, 1))), ValueError, r"\[4, 1\]"),
    ],
)
def test_error_names_what_came(call, error, message):
    with pytest.raises(error, match=message):
        call(StandardScaler())
