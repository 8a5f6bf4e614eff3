"""Min-max scaling against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.preprocessing
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from jaxnorm.preprocessing import MinMaxScaler

TABLES = {"wine": load_wine, "breast_cancer": load_breast_cancer, "diabetes": load_diabetes}
EPS32 = np.finfo(np.float32).eps
EPS64 = np.finfo(np.float64).eps


def table(name: str) -> np.ndarray:
    return TABLES[name](return_X_y=True)[0]


fit = jax.jit(MinMaxScaler().fit)


def reference(x: np.ndarray, **kwargs) -> sklearn.preprocessing.MinMaxScaler:
    return sklearn.preprocessing.MinMaxScaler(**kwargs).fit(x.astype(np.float64))


@pytest.mark.parametrize("feature_range", [(0.0, 1.0), (-2.0, 3.0)])
@pytest.mark.parametrize("name", TABLES)
def test_float32_table_is_scaled_as_by_scikit_learn(name, feature_range):
    x = table(name).astype(np.float32)
    scaler = MinMaxScaler(feature_range)
    got = scaler.transform(fit(x), x)
    want = reference(x, feature_range=feature_range).transform(x.astype(np.float64))
    np.testing.assert_allclose(got, want, rtol=0, atol=8 * EPS32 * np.ptp(feature_range))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.sampled(2)
def test_float64_table_is_scaled_as_by_scikit_learn(name):
    x, scaler = table(name), MinMaxScaler()
    with jax.enable_x64(True):
        got = scaler.transform(fit(x), x)
    sk = reference(x)
    # scikit-learn computes x * scale + shift, which is rounded to an eps of |shift|.
    np.testing.assert_allclose(
        got, sk.transform(x), rtol=0, atol=4 * EPS64 * (1 + np.abs(sk.min_).max())
    )


def test_missing_values_are_ignored_in_fit_and_kept_in_transform():
    x = table("wine").astype(np.float32)
    missing = np.random.default_rng(0).random(x.shape) < 0.2
    x[missing] = np.nan
    scaler = MinMaxScaler()
    got = scaler.transform(fit(x), x)
    np.testing.assert_array_equal(np.isnan(got), missing)
    np.testing.assert_allclose(
        got, reference(x).transform(x.astype(np.float64)), rtol=0, atol=8 * EPS32
    )


def test_masked_values_are_as_if_they_were_not_there():
    x = table("wine").astype(np.float32)
    mask = np.arange(len(x)) % 3 > 0
    masked = fit(np.where(mask[:, None], x, np.inf), mask=mask[:, None])
    np.testing.assert_array_equal(masked.minimum, x[mask].min(0))
    np.testing.assert_array_equal(masked.maximum, x[mask].max(0))


def test_clip_is_that_of_scikit_learn():
    x = table("diabetes").astype(np.float32)
    scaler = MinMaxScaler(clip=True)
    got = scaler.transform(fit(x[:50]), x)
    want = reference(x[:50], clip=True).transform(x.astype(np.float64))
    np.testing.assert_allclose(got, want, rtol=0, atol=8 * EPS32)
    assert (got.min(), got.max()) == (0, 1)


def test_constant_feature_becomes_the_low_end():
    x = np.full((4, 1), 1e6, np.float32)
    scaler = MinMaxScaler((-1.0, 1.0))
    np.testing.assert_array_equal(scaler.transform(fit(x), x), np.full((4, 1), -1))


def test_stream_of_batches_and_shards_give_the_state_of_the_whole_bit_for_bit():
    x = jnp.asarray(table("diabetes")[:440], jnp.float32)
    scaler = MinMaxScaler()
    whole, batches = fit(x), x.reshape(11, 40, -1)
    start = scaler.init(x.shape[1:])
    streamed, _ = jax.lax.scan(lambda s, b: (scaler.update(s, b), None), start, batches)
    pooled = scaler.pool(jax.vmap(fit)(batches))
    jax.tree.map(np.testing.assert_array_equal, streamed, whole)
    jax.tree.map(np.testing.assert_array_equal, pooled, whole)


def test_state_without_samples_changes_nothing():
    scaler = MinMaxScaler()
    x = jnp.array([[3.0, -5.0]])
    np.testing.assert_array_equal(scaler.transform(scaler.init((2,)), x), x)


def test_inverse_transform_returns_the_data():
    x = table("wine").astype(np.float32)
    scaler = MinMaxScaler((-1.0, 4.0))
    state = fit(x)
    back = scaler.inverse_transform(state, scaler.transform(state, x))
    bound = 4 * EPS32 * (np.abs(x) + np.abs(state.minimum) + np.abs(state.maximum))
    assert np.all(np.abs(back - x) <= bound)


def test_range_that_does_not_increase_is_refused():
    with pytest.raises(ValueError, match=r"\(1.0, 1.0\)"):
        MinMaxScaler((1.0, 1.0))


def test_features_that_differ_are_refused():
    scaler = MinMaxScaler()
    with pytest.raises(ValueError, match=r"\[3\].*\[4, 2\]"):
        scaler.update(scaler.init((3,)), jnp.ones((4, 2)))
