"""Domain-specific batch normalization: which example enters which statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from jaxnorm import BatchStats, cumulative
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

domain_batch_norm = compiled(jaxnorm.domain_batch_norm)

X = np.random.default_rng(0).normal(3, 2, (6, 4, 5)).astype(np.float32)
STATS = BatchStats(
    jnp.asarray(np.random.default_rng(1).normal(2, 1, (3, 5)), jnp.float32),
    jnp.asarray(np.random.default_rng(2).gamma(2, 1, (3, 5)), jnp.float32),
)


def assert_right(y, want):
    assert relative_error(y, want) < rounding(np.float32, X.size)


def train(x, domain):
    return domain_batch_norm(x, STATS, domain, num_domains=3, use_running_average=False)


def test_each_domain_is_normalized_as_if_it_were_the_batch():
    ids = np.array([2, 0, 2, 0, 0, 2])
    y, stats = train(X, ids)
    for d in (0, 2):
        running = BatchStats(STATS.mean[d], STATS.var[d])
        alone, moved = jaxnorm.batch_norm(X[ids == d], running, use_running_average=False)
        assert_right(y[ids == d], alone)
        assert_right(stats.mean[d], moved.mean)
        assert_right(stats.var[d], moved.var)


def test_a_domain_that_is_absent_keeps_its_statistics():
    _, stats = train(X, np.array([2, 0, 2, 0, 0, 2]))
    np.testing.assert_array_equal(stats.mean[1], STATS.mean[1])
    np.testing.assert_array_equal(stats.var[1], STATS.var[1])


def test_padding_changes_no_example_no_statistic_and_no_gradient():
    ids = np.array([2, 0, 2, 0, -1, 7])
    padded = np.where((ids >= 0)[:, None, None] & (ids < 3)[:, None, None], X, 1e30)

    def loss(x, ids):
        y, stats = jaxnorm.domain_batch_norm(
            x, STATS, ids, num_domains=3, use_running_average=False
        )
        return jnp.sum(jnp.cos(y[:4])), (y[:4], stats)

    of_loss = jax.jit(jax.grad(loss, has_aux=True))
    gradient, got = of_loss(padded.astype(np.float32), ids)
    wanted, want = of_loss(X[:4], ids[:4])
    jax.tree.map(assert_right, got, want)
    assert_right(gradient[:4], wanted)
    np.testing.assert_array_equal(gradient[4:], 0)


def test_evaluation_reads_the_statistics_of_each_examples_domain():
    ids = np.array([0, 1, 2, 2, 1, 0])
    y, _ = domain_batch_norm(X, STATS, domain=ids, num_domains=3, use_running_average=True)
    mean, var = (np.float64(v)[ids][:, None] for v in STATS)
    assert_right(y, (X - mean) / np.sqrt(var + 1e-5))


def test_one_number_serves_all_examples():
    y, _ = domain_batch_norm(X, STATS, domain=1, num_domains=3, use_running_average=True)
    mean, var = (np.float64(v)[1] for v in STATS)
    assert_right(y, (X - mean) / np.sqrt(var + 1e-5))


def test_any_estimator_takes_in_the_domains_one_by_one():
    population = cumulative()
    state = population.init((3, 5))
    for ids in ([0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]):
        _, state = domain_batch_norm(
            X,
            state,
            domain=np.array(ids),
            num_domains=3,
            use_running_average=False,
            estimator=population,
        )
    np.testing.assert_array_equal(state.count[:, 0], [36, 12, 0])
    assert_right(state.mean[1], X[2:5].astype(np.float64).mean((0, 1)))


@pytest.mark.parametrize("domain", [np.arange(5), np.zeros((6, 1), int)])
def test_domains_that_are_not_one_for_each_example_are_refused(domain):
    with pytest.raises(ValueError, match=r"one number for each of the 6 examples of x \[6, 4, 5\]"):
        domain_batch_norm(X, STATS, domain=domain, num_domains=3, use_running_average=True)


def test_domains_that_are_no_integers_are_refused():
    with pytest.raises(TypeError, match=r"domain must be integers, got float32 \[6\]"):
        domain_batch_norm(
            X, STATS, domain=np.zeros(6, np.float32), num_domains=3, use_running_average=True
        )
