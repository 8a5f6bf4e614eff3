"""The state of a run."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnorm.training import create_train_state, cross_entropy, make_train_step
from tests.training.digits import BATCH, MODEL, TX, bits, small_model, start


class Counting(nn.Module):
    """A module with a collection that no train state carries."""

    @nn.compact
    def __call__(self, x):
        self.variable("counts", "calls", jnp.zeros, ())
        return nn.Dense(2)(x)


def test_model_without_running_statistics_has_empty_batch_stats():
    state = create_train_state(
        small_model(norm=None), jax.random.key(0), jnp.ones((1, 64)), optax.sgd(1)
    )
    assert state.batch_stats == {}
    assert state.variables.keys() == {"params"}


def test_running_statistics_start_at_the_identity():
    stats = start().batch_stats["norm_0"]
    np.testing.assert_array_equal(stats["mean"], np.zeros(12))
    np.testing.assert_array_equal(stats["var"], np.ones(12))


def test_old_style_key_gives_the_run_of_the_new_one():
    old = create_train_state(MODEL, jax.random.PRNGKey(0), BATCH["inputs"], TX)
    assert bits(old) == bits(start())


def test_stacked_states_of_vmap_are_those_of_single_seeds():
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    stacked = jax.vmap(lambda key: create_train_state(MODEL, key, BATCH["inputs"], TX))(keys)
    assert bits(jax.tree.map(lambda leaf: leaf[1], stacked)) == bits(start(seed=1))


def test_optimizer_that_keeps_the_parameters_can_be_donated():
    tx = optax.contrib.schedule_free_sgd(0.1)
    state = create_train_state(MODEL, jax.random.key(0), BATCH["inputs"], tx)
    state, metrics = make_train_step(MODEL, tx, cross_entropy)(state, BATCH)
    assert np.isfinite(metrics["loss"])


def test_other_collections_are_refused_by_name():
    with pytest.raises(ValueError, match=r"Counting has variables in \['counts'\]"):
        create_train_state(Counting(), jax.random.key(0), jnp.ones((1, 3)), optax.sgd(1))
