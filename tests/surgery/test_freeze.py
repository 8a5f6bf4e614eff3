"""Frozen norms keep their statistics and their parameters while the rest trains."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnorm.linen import BatchNorm, GroupNorm, LayerNorm
from jaxnorm.models import MLP
from jaxnorm.surgery import freeze, freeze_statistics, norm_param_labels
from jaxnorm.training import create_train_state, cross_entropy, make_train_step

from .models import digits, mlp, trained

X = jnp.asarray(digits()[:16])
BATCH = {"inputs": X, "labels": jnp.arange(16) % 3}


def test_training_moves_everything_but_norms():
    model, tx = mlp(), optax.adamw(0.1, weight_decay=0.1)
    variables = trained(model)
    model, tx = freeze(model, tx, variables)
    state = create_train_state(model, jax.random.key(0), X, tx)
    state = state._replace(params=variables["params"], batch_stats=variables["batch_stats"])
    state = state._replace(opt_state=tx.init(state.params))
    step = make_train_step(model, tx, cross_entropy, donate=False)
    state, _ = step(state, BATCH)
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()),
        {"params": state.params, "batch_stats": state.batch_stats},
        {name: variables[name] for name in ("params", "batch_stats")},
    )
    assert not any(jax.tree.leaves(moved["batch_stats"]))
    assert not any(jax.tree.leaves([moved["params"][f"norm_{i}"] for i in range(2)]))
    assert all(jax.tree.leaves([moved["params"][f"hidden_{i}"] for i in range(2)]))


@pytest.mark.parametrize("norm", [BatchNorm, nn.BatchNorm])
def test_training_mode_normalizes_with_running_statistics(norm):
    model = mlp(norm)
    variables = trained(model)
    frozen = freeze_statistics(model)
    y, updated = frozen.apply(variables, X, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, model.apply(variables, X, train=False))
    assert jax.tree.map(np.array_equal, updated["batch_stats"], variables["batch_stats"])
    live, _ = model.apply(variables, X, train=True, mutable=["batch_stats"])
    assert np.abs(live - y).max() > 0.1


def test_a_norm_whose_mode_is_a_field_is_frozen_too():
    model = nn.Sequential([nn.Dense(3), BatchNorm(use_running_average=False)])
    x = X[..., 0]
    variables = model.init(jax.random.key(0), x)
    eval_model = nn.Sequential([nn.Dense(3), BatchNorm(use_running_average=True)])
    frozen = freeze_statistics(model).apply(variables, x)
    np.testing.assert_array_equal(frozen, eval_model.apply(variables, x))


def test_dropout_stays_in_train_mode():
    model = MLP((32,), 3, norm=functools.partial(BatchNorm), dropout_rate=0.5)
    frozen = freeze_statistics(model)
    variables = trained(model)
    apply = jax.jit(functools.partial(frozen.apply, train=True))
    first, second = (apply(variables, X, rngs={"dropout": jax.random.key(i)}) for i in (0, 1))
    assert np.abs(first - second).max() > 0.1


def test_a_frozen_model_has_the_same_variables():
    model = mlp()
    new = freeze_statistics(model).init(jax.random.key(0), X)
    old = model.init(jax.random.key(0), X)
    assert jax.tree.all(jax.tree.map(np.array_equal, new, old))


class Attention(nn.Module):
    """Norms and layers of several shapes."""

    @nn.compact
    def __call__(self, x):
        x = nn.Embed(5, 4, name="embed")(x)
        x = LayerNorm(name="layer")(x)
        x = nn.MultiHeadDotProductAttention(2, normalize_qk=True, name="attention")(x)
        x = GroupNorm(num_groups=2, use_scale=True, use_bias=False, name="group")(x)
        x = nn.WeightNorm(nn.Dense(4, name="weight_normed"), name="weight_norm")(x)
        x = BatchNorm(use_running_average=True, use_scale=False, name="batch")(x)
        return nn.DenseGeneral((2, 2), name="general")(x)


def test_labels_tell_norms_by_structure():
    variables = jax.eval_shape(Attention().init, jax.random.key(0), jnp.zeros((2, 3), jnp.int32))
    labels = norm_param_labels(variables["params"], variables["batch_stats"])
    assert labels["layer"] == {"scale": "norm", "bias": "norm"}
    assert labels["group"] == {"scale": "norm"}
    assert labels["batch"] == {"bias": "norm"}
    assert labels["embed"] == {"embedding": "weight"}
    assert labels["general"] == {"kernel": "weight", "bias": "bias"}
    assert labels["attention"]["query_ln"] == {"scale": "norm"}
    assert labels["attention"]["query"] == {"kernel": "weight", "bias": "bias"}
    assert labels["weight_norm"] == {"weight_normed/kernel/scale": "norm"}


def test_labels_drive_weight_decay():
    params = {"dense": {"kernel": jnp.ones(3)}, "norm": {"scale": jnp.ones((2, 2))}}
    decayed = jax.tree.map(lambda label: label == "weight", norm_param_labels(params))
    tx = optax.add_decayed_weights(0.5, decayed)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zero, tx.init(params), params)
    assert (updates["dense"]["kernel"][0], updates["norm"]["scale"][0, 0]) == (0.5, 0)


@pytest.mark.parametrize("where", ["norm_0", ["norm_0"], lambda path: path.endswith("0")])
def test_only_the_chosen_norms_are_frozen(where):
    variables = trained(mlp())
    model, tx = freeze(mlp(), optax.sgd(0.1), variables, where=where)
    _, updated = model.apply(variables, X, train=True, mutable=["batch_stats"])
    same = jax.tree.map(np.array_equal, updated["batch_stats"], dict(variables["batch_stats"]))
    assert all(jax.tree.leaves(same["norm_0"])) and not any(jax.tree.leaves(same["norm_1"]))
    params = variables["params"]
    updates, _ = tx.update(params, tx.init(params), params)
    moves = jax.tree.map(lambda v: bool(jnp.any(v != 0)), updates)
    assert not any(jax.tree.leaves(moves["norm_0"])) and all(jax.tree.leaves(moves["norm_1"]))


def test_a_model_frozen_in_part_can_be_frozen_further():
    part = freeze_statistics(mlp(), "norm_0")
    assert part == freeze_statistics(mlp(), "norm_0") != freeze_statistics(mlp())
    both = freeze_statistics(part, "norm_1")
    variables = trained(mlp())
    y, _ = both.apply(variables, X, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, mlp().apply(variables, X, train=False))


def test_a_path_that_means_no_norm_is_refused_with_those_there():
    message = "where='norm_7' means no norm with parameters; these are there: norm_0, norm_1"
    with pytest.raises(ValueError, match=message):
        freeze(mlp(), optax.sgd(0.1), trained(mlp()), where="norm_7")
