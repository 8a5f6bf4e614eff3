"""The state of a run."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnorm.linen import BatchNorm
from jaxnorm.training import create_train_state, cross_entropy, make_train_step
from tests.training.digits import bits


class Counting(nn.Module):
    """A module with a collection that no train state carries."""

    @nn.compact
    def __call__(self, x):
        self.variable("counts", "calls", jnp.zeros, ())
        return nn.Dense(2)(x)


class Normed(nn.Module):
    """A batch norm before one dense layer."""

    @nn.compact
    def __call__(self, x):
        x = BatchNorm(use_running_average=True, name="norm")(x)
        return nn.Dense(2, kernel_init=nn.initializers.normal())(x)


X = jnp.ones((4, 3))
DENSE = nn.Dense(2, kernel_init=nn.initializers.normal())
TX = optax.sgd(0.1, momentum=0.9)


@functools.cache
def made(seed: int):
    return create_train_state(DENSE, jax.random.key(seed), X, TX)


def test_model_without_running_statistics_has_empty_batch_stats():
    assert made(0).batch_stats == {}
    assert made(0).variables.keys() == {"params"}


def test_running_statistics_start_at_the_identity():
    state = create_train_state(Normed(), jax.random.key(0), X, TX)
    assert state.variables.keys() == {"params", "batch_stats"}
    np.testing.assert_array_equal(state.batch_stats["norm"]["mean"], np.zeros(3))
    np.testing.assert_array_equal(state.batch_stats["norm"]["var"], np.ones(3))


def test_seeds_differ_in_parameters_and_in_the_key_of_the_run():
    for part in ("params", "rng"):
        assert bits(getattr(made(0), part)) != bits(getattr(made(1), part))


def test_old_style_key_gives_the_run_of_the_new_one():
    assert bits(create_train_state(DENSE, jax.random.PRNGKey(0), X, TX)) == bits(made(0))


def test_stacked_states_of_vmap_are_those_of_single_seeds():
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    stacked = jax.vmap(lambda key: create_train_state(DENSE, key, X, TX))(keys)
    assert bits(jax.tree.map(lambda leaf: leaf[1], stacked)) == bits(made(1))


def test_optimizer_that_keeps_the_parameters_can_be_donated():
    tx = optax.contrib.schedule_free_sgd(0.1)
    state = create_train_state(DENSE, jax.random.key(0), X, tx)
    batch = {"inputs": X, "labels": jnp.zeros(4, jnp.int32)}
    state, metrics = make_train_step(DENSE, tx, cross_entropy)(state, batch)
    assert np.isfinite(metrics["loss"])


def test_other_collections_are_refused_by_name():
    with pytest.raises(ValueError, match=r"Counting has variables in \['counts'\]"):
        create_train_state(Counting(), jax.random.key(0), X, TX)
