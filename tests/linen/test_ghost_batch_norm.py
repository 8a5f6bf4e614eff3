"""Ghost batch norm as a module of both rooms, against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal

import jaxnorm.linen
import jaxnorm.nnx
from tests.linen.reference import relative_error, sample

EPS = float(jnp.finfo(jnp.float32).eps)
X = sample(3.0, (8, 3, 5)) * np.float32([1, 1, 2, 2, 3, 3, 4, 4])[:, None, None]
WIDE = np.float64(X)
BOUND = 4e-6


def in_linen(x, mask=None, average=False, **fields):
    """Returns the output of one step, and the running statistics after it."""
    norm = jaxnorm.linen.GhostBatchNorm(2, use_running_average=average, decay=0.9, **fields)
    variables = norm.init(jax.random.key(0), X)
    y, updated = norm.apply(variables, x, mask=mask, mutable=["batch_stats"])
    stats = {**variables, **updated}["batch_stats"]
    return y, stats["mean"], stats["var"]


def in_nnx(x, mask=None, average=False, **fields):
    """Returns the output of one step, and the running statistics after it."""
    norm = jaxnorm.nnx.GhostBatchNorm(
        x.shape[-1],
        ghost_batch_size=2,
        use_running_average=average,
        decay=0.9,
        rngs=nnx.Rngs(0),
        **fields,
    )
    return norm(x, mask=mask), norm.mean[...], norm.var[...]


both_rooms = pytest.mark.parametrize("step", [in_linen, in_nnx])


def by_ghosts(x, weights):
    """Returns each part of two examples normalized by its weighted moments, in float64."""
    parts = []
    for part, w in zip(np.split(x, len(x) // 2), np.split(weights, len(x) // 2), strict=True):
        axes = tuple(range(x.ndim - 1))
        total = w.sum(axes)
        mean = (w * part).sum(axes) / total
        var = (w * (part - mean) ** 2).sum(axes) / total
        parts.append((part - mean) / np.sqrt(var + 1e-5))
    return np.concatenate(parts)


@both_rooms
def test_each_ghost_batch_is_normalized_and_the_whole_batch_is_taken_in(step):
    y, mean, var = step(X)
    assert relative_error(y, by_ghosts(WIDE, np.ones(WIDE.shape))) < BOUND
    assert_allclose(mean, 0.1 * WIDE.mean((0, 1)), rtol=8 * EPS)
    assert_allclose(var, 0.9 + 0.1 * WIDE.var((0, 1)), rtol=16 * EPS)


@both_rooms
def test_a_mask_selects_the_sample(step):
    mask = np.random.default_rng(0).random(X.shape) < 0.7
    mask[:, 0] = True
    y, mean, _ = step(X, mask)
    expected = by_ghosts(WIDE, np.float64(mask))
    assert relative_error(np.where(mask, y, 0), np.where(mask, expected, 0)) < BOUND
    masked = (mask * WIDE).sum((0, 1)) / mask.sum((0, 1))
    assert_allclose(mean, 0.1 * masked, rtol=8 * EPS)


@both_rooms
def test_evaluation_takes_a_batch_of_any_size_and_leaves_the_statistics(step):
    y, mean, var = step(X[:5], average=True)
    assert_allclose(y, X[:5] / np.sqrt(1 + 1e-5), rtol=4 * EPS)
    assert_array_equal(mean, np.zeros(5))
    assert_array_equal(var, np.ones(5))


@both_rooms
def test_a_batch_of_fewer_examples_is_one_ghost_batch(step):
    y, _, _ = step(X[:1])
    mean, var = WIDE[0].mean(0), WIDE[0].var(0)
    assert relative_error(y[0], (WIDE[0] - mean) / np.sqrt(var + 1e-5)) < BOUND


@both_rooms
def test_one_value_per_feature_uses_the_running_statistics_and_says_so(step):
    with pytest.warns(UserWarning, match="one value per feature and ghost batch, x .*use larger"):
        y, mean, _ = step(X[:1, :1])
    assert_allclose(y, X[:1, :1] / np.sqrt(1 + 1e-5), rtol=4 * EPS)
    assert_array_equal(mean, np.zeros(5))


@both_rooms
def test_a_size_that_does_not_divide_the_batch_is_refused_by_name(step):
    with pytest.raises(ValueError, match=r"GhostBatchNorm.*: ghost_batch_size=2 does not divide"):
        step(X[:5])


def test_init_needs_no_more_than_one_example():
    norm = jaxnorm.linen.GhostBatchNorm(2, use_running_average=False)
    variables = norm.init(jax.random.key(0), X[:1, :1])
    assert jax.tree.map(jnp.shape, variables["batch_stats"]) == {"mean": (5,), "var": (5,)}


def test_gradients_are_those_of_float64():
    cotangent = sample(shape=X.shape, seed=2)
    norm = jaxnorm.linen.GhostBatchNorm(2, use_running_average=False)
    variables = norm.init(jax.random.key(0), X)

    def loss(params, x):
        return jnp.vdot(norm.apply({**variables, "params": params}, x), cotangent)

    gradients, dx = jax.grad(loss, (0, 1))(variables["params"], X)
    xhat = by_ghosts(WIDE, np.ones(WIDE.shape))
    assert relative_error(gradients["scale"], (cotangent * xhat).sum((0, 1))) < BOUND
    assert relative_error(gradients["bias"], np.float64(cotangent).sum((0, 1))) < BOUND
    parts = WIDE.reshape(4, 6, 5), xhat.reshape(4, 6, 5), np.float64(cotangent).reshape(4, 6, 5)
    x, h, g = parts
    pull = h * (g * h).mean(1, keepdims=True)
    expected = (g - g.mean(1, keepdims=True) - pull) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    assert relative_error(dx, expected.reshape(X.shape)) < BOUND
