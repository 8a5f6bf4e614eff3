"""Norms of graphs: padding, graphs alone and in a batch, and gradients where lengths vanish."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

IDS = np.array([1, 0, 1, 0, 0, 1, 1], np.int32)
X = np.random.default_rng(0).normal(3, 2, (len(IDS), 4)).astype(np.float32)
ALPHA, SCALE, BIAS = np.random.default_rng(1).uniform(0.5, 1.5, (3, 4)).astype(np.float32)
BOUND = rounding(np.float32, X.size)

# name -> a norm of nodes, with the parameters that its gradient is taken of
NORMS = {
    "graph_norm": (jaxnorm.graph_norm, {"alpha": ALPHA, "scale": SCALE, "bias": BIAS}),
    "pair_norm": (jaxnorm.pair_norm, {}),
    "pair_norm_si": (functools.partial(jaxnorm.pair_norm, scale_individually=True), {}),
}
graph_norm, pair_norm = compiled(jaxnorm.graph_norm), compiled(jaxnorm.pair_norm)
every_norm = pytest.mark.parametrize("name", NORMS)


def output_and_gradients(name, number):
    """Returns a program from nodes and ids to the output and to the gradients of a sum of it."""
    norm, parameters = NORMS[name]

    @compiled
    def run(x, ids=None, mask=None):
        def loss(x, parameters):
            options = {} if ids is None else {"num_segments": number}
            y = norm(x, ids, mask=mask, **options, **parameters)
            # Rows behind the first few, which all programs have, are padding.
            weights = jnp.cos(1.7 * jnp.arange(X.size)).reshape(X.shape)[: len(x)]
            return jnp.sum(y[: len(X)] * weights), y

        (_, y), gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)(x, parameters)
        return y, *gradients

    return run


def assert_equal(got, want):
    for have, wanted in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert relative_error(have, wanted) < BOUND


@every_norm
@pytest.mark.sampled(2)
def test_padded_nodes_change_nothing_whatever_they_hold(name):
    want = output_and_gradients(name, 2)(X, ids=IDS)
    padding = np.full((3, 4), np.nan, np.float32)
    padding[1] = np.inf
    ids = np.concatenate([IDS, [-1, 5, 9]]).astype(np.int32)
    y, dx, *others = output_and_gradients(name, 5)(np.concatenate([X, padding]), ids=ids)
    assert_equal((y[: len(X)], dx[: len(X)], *others), want)
    assert not np.asarray(y[len(X) :]).any() and not np.asarray(dx[len(X) :]).any()


@every_norm
@pytest.mark.sampled(2)
def test_each_graph_of_a_batch_is_normalized_as_if_alone(name):
    y, *_ = output_and_gradients(name, 2)(X, ids=IDS)
    for graph in (0, 1):
        alone, *_ = output_and_gradients(name, None)(X[graph == IDS])
        assert_equal(alone, y[graph == IDS])


@every_norm
@pytest.mark.sampled(2)
def test_nodes_without_ids_are_one_graph(name):
    mask = np.array([1, 1, 0, 1, 1, 1, 0], bool)[:, None]
    hidden = np.where(mask, X, np.nan)
    run = output_and_gradients(name, 1)
    got, want = run(hidden, mask=mask), run(hidden, ids=np.zeros(len(X), np.int32), mask=mask)
    assert_equal(got, want)


def test_a_share_of_one_is_the_norm_without_a_share_and_has_a_gradient():
    one = np.ones(4, np.float32)
    assert_equal(graph_norm(X, IDS, one, num_segments=2), graph_norm(X, IDS, num_segments=2))

    def definition(x, alpha):
        member = (np.arange(2)[:, None] == IDS).astype(x.dtype)
        share = member / member.sum(1, keepdims=True)
        rest = x - alpha * (member.T @ (share @ x))
        return rest / jnp.sqrt(member.T @ (share @ rest**2) + 1e-5)

    def ours(x, alpha):
        return jaxnorm.graph_norm(x, IDS, alpha, num_segments=2)

    def gradient(norm):
        return jax.jit(jax.grad(lambda alpha, x: jnp.sum(norm(x, alpha) * x**3)))

    with jax.enable_x64(True):
        want = np.asarray(gradient(definition)(np.float64(one), np.float64(X)))
    assert relative_error(gradient(ours)(one, X), want) < BOUND


@every_norm
@pytest.mark.parametrize("value", [0.0, 3.0, 1e20])
@pytest.mark.sampled(2)
def test_nodes_that_are_all_equal_have_finite_outputs_and_gradients(name, value):
    x = np.full_like(X, value)
    for leaf in jax.tree.leaves(output_and_gradients(name, 2)(x, ids=IDS)):
        assert np.isfinite(leaf).all()


def test_pair_norm_keeps_the_mean_squared_length_and_its_variant_each_length():
    y = np.float64(pair_norm(X, scale=3.0, epsilon=0.0))
    assert relative_error((y**2).sum(1).mean(), 9.0) < BOUND
    y = np.float64(pair_norm(X, scale=3.0, scale_individually=True, epsilon=0.0))
    assert relative_error((y**2).sum(1), np.full(len(X), 9.0)) < BOUND


def test_a_message_gets_the_length_of_its_node():
    y = np.float64(jaxnorm.message_norm(X, X[::-1], 2.0))
    lengths = np.linalg.norm(np.float64(X), axis=1)
    assert relative_error(np.linalg.norm(y, axis=1), 2 * lengths) < BOUND


def test_a_message_or_a_node_of_length_zero_has_a_finite_gradient():
    x, message = jnp.asarray(X).at[0].set(0), jnp.asarray(X).at[1].set(0)

    @compiled
    def run(x, message):
        y, pullback = jax.vjp(jaxnorm.message_norm, x, message)
        return y, *pullback(jnp.ones_like(y))

    y, dx, dm = run(x, message)
    assert not np.asarray(y[:2]).any()
    assert np.isfinite(dx).all() and np.isfinite(dm).all()
    assert not np.asarray(dx[0]).any()


def test_ids_need_a_number_of_graphs():
    with pytest.raises(ValueError, match=r"segment_ids \[7\] came without num_segments; pass how"):
        jaxnorm.graph_norm(X, IDS)


def test_a_message_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"message \[3, 4\] must have the shape of x \[7, 4\]"):
        jaxnorm.message_norm(X, X[:3])


def test_complex_nodes_have_no_share():
    x = X.astype(np.complex64) * (1 + 2j)
    want = (x - x.mean(0)) / np.sqrt((np.abs(x - x.mean(0)) ** 2).mean(0) + 1e-5)
    assert relative_error(graph_norm(x), want) < BOUND
    with pytest.raises(TypeError, match=r"alpha needs a real x, got complex64 \[7, 4\]"):
        jaxnorm.graph_norm(x, alpha=ALPHA)
