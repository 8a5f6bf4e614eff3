"""Frozen norms of nnx models, and their labels for optimizers of nnx."""

import copy
import inspect
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from numpy.testing import assert_array_equal

import jaxnorm.linen
import jaxnorm.nnx
from jaxnorm.surgery import freeze, freeze_statistics, get_variables, norm_param_labels
from jaxnorm.surgery._batch_norms import keeps_statistics

from .models import digits, in_nnx, mlp, trained

X = jnp.asarray(digits()[:16])
VARIABLES = trained(mlp())


@pytest.mark.parametrize("norm", [jaxnorm.nnx.BatchNorm, nnx.BatchNorm])
def test_training_mode_normalizes_with_running_statistics(norm):
    model = in_nnx(VARIABLES, norm)
    frozen = freeze_statistics(model)
    model.eval()
    frozen.train()
    assert_array_equal(frozen(X), model(X))
    after = get_variables(frozen)["batch_stats"]
    jax.tree.map(assert_array_equal, after, VARIABLES["batch_stats"])
    # A call may say otherwise, and is not heard.
    x = model.hidden_0(X.reshape(16, -1))
    assert_array_equal(frozen.norm_0(x, use_running_average=False), model.norm_0(x))
    assert type(model.norm_0) is norm and isinstance(frozen.norm_0, norm)


def test_a_frozen_model_is_copied_pickled_and_cloned_as_it_is():
    frozen = freeze_statistics(in_nnx(VARIABLES))
    frozen.norm_0.update_stats = True
    y = np.asarray(frozen(X))
    assert freeze_statistics(frozen).norm_0.__class__ is frozen.norm_0.__class__
    for other in (copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen.norm_0))):
        norm = getattr(other, "norm_0", other)
        norm.use_running_average = False
        x = 3 * frozen.hidden_0(X.reshape(16, -1))
        assert_array_equal(norm(x), frozen.norm_0(x))
        assert_array_equal(norm.mean[...], frozen.norm_0.mean[...])
    compiled = nnx.jit(lambda model: model(X))(nnx.clone(frozen))
    np.testing.assert_allclose(compiled, y, rtol=1e-5, atol=1e-6)


def test_an_optimizer_of_nnx_moves_everything_but_norms():
    model, tx = freeze(in_nnx(VARIABLES), optax.adamw(0.1, weight_decay=0.1))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        gradient = nnx.grad(lambda model: jnp.mean(model(X) ** 2))(model)
        optimizer.update(model, gradient)

    step(model, optimizer)
    after = get_variables(model)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), after, VARIABLES)
    assert all(jax.tree.leaves([same["batch_stats"], same["params"]["norm_0"]]))
    assert not any(jax.tree.leaves([same["params"]["hidden_0"], same["params"]["output"]]))


def test_labels_have_the_structure_of_the_parameters():
    model = in_nnx(VARIABLES)
    labels, params = norm_param_labels(model), nnx.state(model, nnx.Param)
    assert jax.tree.structure(labels) == jax.tree.structure(params)
    assert jax.tree.leaves(labels["norm_1"]) == ["norm", "norm"]
    assert jax.tree.leaves(labels["output"]) == ["bias", "weight"]
    decay = jax.tree.map(lambda label: label == "weight", labels)
    tx = optax.add_decayed_weights(0.5, decay)
    zero = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zero, tx.init(params), params)
    assert_array_equal(updates["output"]["kernel"][...], params["output"]["kernel"][...] / 2)
    assert not updates["norm_0"]["scale"][...].any()


def test_labels_see_lists_and_weight_norms():
    rngs = nnx.Rngs(0)
    dense = nnx.Linear(2, 2, rngs=rngs)
    model = nnx.List([jaxnorm.nnx.WeightNorm(dense, rngs=rngs), nnx.Embed(3, 2, rngs=rngs)])
    labels = norm_param_labels(model)
    assert jax.tree.leaves(labels) == ["bias", "weight", "norm", "weight"]


NORMS = {
    room: [one for one in vars(room).values() if inspect.isclass(one) and keeps_statistics(one)]
    for room in (jaxnorm.linen, jaxnorm.nnx)
}


def test_all_norms_that_keep_statistics_are_known_in_both_rooms():
    first, second = ({kind.__name__ for kind in kinds} for kinds in NORMS.values())
    assert first == second and {"BatchNorm", "IterativeNorm", "BatchRenorm", "PowerNorm"} <= first
    assert "LayerNorm" not in first and "SpectralNorm" not in first


@pytest.mark.parametrize("name", ["BatchRenorm", "EMABatchNorm", "EvoNormB0", "IterativeNorm"])
@pytest.mark.sampled(2)
def test_every_norm_with_statistics_is_frozen_in_both_rooms(name):
    x = jnp.asarray(np.random.default_rng(0).normal(1, 2, (16, 3)), jnp.float32)
    norm = getattr(jaxnorm.nnx, name)(3, use_running_average=False, rngs=nnx.Rngs(0))
    variables = get_variables(norm)
    norm.use_running_average = True
    expected = norm(x)
    norm.use_running_average = False
    frozen = freeze_statistics(norm)
    np.testing.assert_allclose(frozen(x), expected, rtol=1e-6, atol=1e-6)
    assert get_variables(frozen).keys() == variables.keys()
    jax.tree.map(assert_array_equal, get_variables(frozen), variables)
    still = freeze_statistics(getattr(jaxnorm.linen, name)(use_running_average=False))
    y, updated = still.apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
    jax.tree.map(assert_array_equal, updated["batch_stats"], variables["batch_stats"])


def test_only_the_chosen_norms_are_frozen():
    model, tx = freeze(in_nnx(VARIABLES), optax.sgd(0.1), where="norm_0")
    model.train()
    model(X)
    after, before = get_variables(model)["batch_stats"], VARIABLES["batch_stats"]
    assert_array_equal(after["norm_0"]["mean"], before["norm_0"]["mean"])
    assert np.any(after["norm_1"]["mean"] != before["norm_1"]["mean"])
    params = nnx.state(model, nnx.Param)
    updates, _ = tx.update(params, tx.init(params), params)
    assert not np.any(updates["norm_0"]["scale"][...]) and np.any(updates["norm_1"]["scale"][...])


def test_a_path_that_means_no_norm_with_statistics_is_refused_with_those_there():
    message = "where='norm_7' means no norm with running statistics; these are there: norm_0, "
    with pytest.raises(ValueError, match=message):
        freeze_statistics(in_nnx(VARIABLES), "norm_7")
    again = freeze_statistics(freeze_statistics(in_nnx(VARIABLES), "norm_0"), "norm_0")
    assert again.norm_0.__class__.__name__ == "BatchNorm"


def test_a_norm_without_statistics_is_frozen_by_the_optimizer_alone():
    norm = jaxnorm.nnx.LayerNorm(2, rngs=nnx.Rngs(0))
    model = nnx.List([norm, jaxnorm.nnx.BatchNorm(2, rngs=nnx.Rngs(0))])
    assert type(freeze(model, optax.sgd(0.1), where="0").model[1]) is jaxnorm.nnx.BatchNorm
