"""What whitening makes of a batch: no correlations, on one shard and on several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from jaxnorm import WhiteningState
from jaxnorm.stats import covariance
from tests.stats.reference import relative_error, rounding

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(6, 20, 4)) @ (np.eye(4) + 0.2 * RNG.normal(size=(4, 4)))).astype(np.float32)
ITERATIVE = {"num_groups": 2, "iterations": 7, "epsilon": 0.0}


def start(groups, channels):
    side = channels // groups
    return WhiteningState(jnp.zeros(channels), jnp.tile(jnp.eye(side), (groups, 1, 1)))


def whitened(function, x, **how):
    state = start(how["num_groups"], x.shape[-1])
    return function(x, state, use_running_average=False, **how)


DECORRELATED = {"num_groups": 2, "epsilon": 0.0}
MEMBERS = [
    (jaxnorm.iterative_norm, ITERATIVE),
    (jaxnorm.decorrelated_batch_norm, DECORRELATED),
]
over = pytest.mark.parametrize(("function", "how"), MEMBERS)


@over
@pytest.mark.sampled(1)
def test_the_covariance_of_the_output_is_the_identity(function, how):
    for offset in (0.0, 1e4):
        y, _ = whitened(function, X + np.float32(offset), **how)
        cov = covariance(y, 2).cov
        assert np.abs(cov - jnp.eye(2)).max() < rounding(np.float32, 120)


@over
def test_running_statistics_of_the_same_batch_give_the_same(function, how):
    want, state = whitened(function, X, **how, decay=0.0)
    got, same = function(X, state, use_running_average=True, **how)
    assert relative_error(got, want) < rounding(np.float32, 120)
    assert same is state


@pytest.mark.nightly
@over
def test_shards_share_the_statistics_whatever_their_sizes(function, how):
    x = X * np.array([1.0, 30.0, 1.0, 0.02, 1.0, 5.0], np.float32)[:, None, None]
    direction = jnp.cos(1.7 * jnp.arange(x.size)).reshape(x.shape)

    def mapped(x):
        run = jax.vmap(lambda x: whitened(function, x, **how, axis_name="batch"), axis_name="batch")
        y, state = run(x)
        return (y * direction).sum(), (y, jax.tree.map(lambda v: v[0], state))

    def whole(x):
        y, state = whitened(function, x, **how)
        return (y * direction).sum(), (y, state)

    got, want = (jax.value_and_grad(f, has_aux=True)(jnp.asarray(x)) for f in (mapped, whole))
    for have, expected in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert relative_error(have, expected) < rounding(np.float32, x.size)


@over
def test_a_state_of_other_groups_is_refused(function, how):
    with pytest.raises(ValueError, match="the state has a mean"):
        function(X, start(1, 4), use_running_average=False, **how)
    with pytest.raises(ValueError, match="the state has a mean"):
        function(X, start(1, 4), use_running_average=True, **how)


@over
@pytest.mark.sampled(1)
def test_gradients_of_a_constant_batch_are_finite(function, how):
    def loss(x):
        return jnp.square(whitened(function, x, **how)[0] - 1).sum()

    assert np.isfinite(jax.grad(loss)(jnp.ones((3, 4)))).all()


@pytest.mark.nightly
def test_gradients_of_a_white_batch_are_those_of_newtons_method():
    # Every eigenvalue of this batch is one.
    x = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    direction = np.cos(1.7 * np.arange(8)).reshape(4, 2)

    def loss(x):
        y, _ = whitened(jaxnorm.decorrelated_batch_norm, x, num_groups=1, epsilon=0.0)
        return (y * direction).sum()

    def oracle(x):
        d = x - x.mean(0)
        cov = d.T @ d / 4
        y, z = cov, jnp.eye(2)
        for _ in range(8):
            y, z = (y + jnp.linalg.inv(z)) / 2, (z + jnp.linalg.inv(y)) / 2
        return (d @ z * direction).sum()

    got = jax.grad(loss)(jnp.asarray(x))
    with jax.enable_x64(True):
        want = np.asarray(jax.grad(oracle)(jnp.asarray(x, jnp.float64)))
    assert relative_error(got, want) < rounding(np.float32, 8)


def complex_whitened(x):
    state = WhiteningState(jnp.zeros((4, 2)), jnp.tile(jnp.eye(2), (4, 1, 1)))
    return jaxnorm.complex_batch_norm(x, state, use_running_average=False, epsilon=0.0)


@pytest.mark.nightly
def test_the_parts_of_complex_output_are_white():
    x = jnp.asarray(X + 1j * (0.5 * X[::-1] + X), jnp.complex64)
    y, state = complex_whitened(x)
    parts = jnp.stack([y.real, y.imag], -1).reshape(-1, 8)
    cov = covariance(parts, 4).cov
    assert np.abs(cov - jnp.eye(2)).max() < rounding(np.float32, 120)
    assert state.mean.shape == (4, 2)


@pytest.mark.nightly
def test_gradients_of_constant_complex_batches_are_finite():
    def loss(x):
        return jnp.square(jnp.abs(complex_whitened(x)[0] - 1)).sum()

    assert np.isfinite(jax.grad(loss)(jnp.ones((3, 4), jnp.complex64))).all()


def test_the_complex_norm_refuses_real_input():
    with pytest.raises(TypeError, match="needs a complex x"):
        complex_whitened(jnp.ones((3, 4)))
