"""Recalibrated statistics are those of the population, taken by float64 NumPy."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import jaxnorm
from jaxnorm.linen import BatchNorm
from jaxnorm.models import MLP
from jaxnorm.surgery import (
    average_of_batches,
    collect_moments,
    freeze_statistics,
    get_variables,
    recalibrate,
)

from .models import digits, in_nnx, mlp, trained

# One hidden layer: what its norm sees does not depend on how the images are batched.
MODEL = MLP(features=(6,), num_outputs=3, norm=BatchNorm)
APPLY = functools.partial(MODEL.apply, train=True)
VARIABLES = trained(MODEL)
BATCHES = [digits()[start : start + 100] for start in range(0, 500, 100)]
# 16 pixels of at most 1 with weights of about 0.5 are summed in float32, then the images.
TIGHT = {"rtol": 64 * np.finfo(np.float32).eps * 500**0.5, "atol": 1e-6}


def hidden(images: np.ndarray) -> np.ndarray:
    """Returns the input of the norm in float64."""
    kernel = np.asarray(VARIABLES["params"]["hidden_0"]["kernel"], np.float64)
    return images.reshape(len(images), -1).astype(np.float64) @ kernel


def stats(variables):
    return variables["batch_stats"]["norm_0"]


def measured(kind, batches, **options):
    """Returns the new statistics of the model in linen or in nnx."""
    if kind == "linen":
        return stats(recalibrate(APPLY, VARIABLES, batches, **options))
    model = in_nnx(VARIABLES, features=(6,))
    model.eval()
    return stats(get_variables(recalibrate(model, batches, **options)))


BOTH = pytest.mark.parametrize("kind", ["linen", "nnx"])


@BOTH
def test_pooled_statistics_are_those_of_all_images_at_once(kind):
    found = measured(kind, BATCHES)
    seen = hidden(digits()[:500])
    np.testing.assert_allclose(found["mean"], seen.mean(0), **TIGHT)
    np.testing.assert_allclose(found["var"], seen.var(0), **TIGHT)


@BOTH
def test_pooling_weighs_unequal_batches_by_their_size(kind):
    found = measured(kind, [digits()[:100], digits()[100:130]])
    np.testing.assert_allclose(found["var"], hidden(digits()[:130]).var(0), **TIGHT)


def test_the_population_may_have_bessels_correction():
    found = stats(
        recalibrate(APPLY, VARIABLES, BATCHES, estimator=jaxnorm.cumulative(unbiased=True))
    )
    np.testing.assert_allclose(found["var"], hidden(digits()[:500]).var(0, ddof=1), **TIGHT)


@pytest.mark.parametrize(("kind", "unbiased"), [("linen", True), ("linen", False), ("nnx", True)])
def test_algorithm_2_averages_the_batch_variances(kind, unbiased):
    found = measured(kind, BATCHES, estimator=average_of_batches(unbiased=unbiased))
    expected = np.mean([hidden(batch).var(0, ddof=int(unbiased)) for batch in BATCHES], axis=0)
    np.testing.assert_allclose(found["mean"], hidden(digits()[:500]).mean(0), **TIGHT)
    np.testing.assert_allclose(found["var"], expected, **TIGHT)


def test_algorithm_2_loses_what_lies_between_sorted_batches_and_pooling_does_not():
    order = np.argsort(hidden(digits()[:500])[:, 0])
    batches = digits()[:500][order].reshape(5, 100, 8, 8, 1)
    average = recalibrate(APPLY, VARIABLES, batches, estimator=average_of_batches())
    pooled = recalibrate(APPLY, VARIABLES, batches)
    true = hidden(digits()[:500]).var(0)[0]
    assert stats(average)["var"][0] < 0.3 * true
    np.testing.assert_allclose(stats(pooled)["var"][0], true, **TIGHT)


@pytest.mark.nightly
def test_a_window_pools_the_last_batches():
    found = stats(recalibrate(APPLY, VARIABLES, BATCHES, estimator=jaxnorm.window(2)))
    np.testing.assert_allclose(found["var"], hidden(digits()[300:500]).var(0), **TIGHT)


def test_a_moving_average_starts_anew():
    found = stats(recalibrate(APPLY, VARIABLES, BATCHES, estimator=jaxnorm.ema(0.5)))
    expected = np.zeros(6)
    for batch in BATCHES:
        expected = 0.5 * expected + 0.5 * hidden(batch).mean(0)
    np.testing.assert_allclose(found["mean"], expected, **TIGHT)


def test_batches_may_be_a_stream():
    streamed = recalibrate(APPLY, VARIABLES, (batch for batch in BATCHES))
    np.testing.assert_array_equal(
        stats(streamed)["var"], stats(recalibrate(APPLY, VARIABLES, BATCHES))["var"]
    )


def test_parameters_and_other_variables_stay_as_they_are():
    new = recalibrate(APPLY, VARIABLES, BATCHES[:1])
    assert new["params"] is VARIABLES["params"]
    assert jax.tree.structure(new) == jax.tree.structure(VARIABLES)


def test_every_layer_sees_what_the_layers_before_make_of_the_batch():
    model = mlp()
    variables = trained(model)
    new = recalibrate(functools.partial(model.apply, train=True), variables, BATCHES[:1])
    x = np.asarray(digits()[:100].reshape(100, -1), np.float64)
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), variables["params"])
    z = x @ params["hidden_0"]["kernel"]
    z = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) * params["norm_0"]["scale"]
    z = np.tanh(z + params["norm_0"]["bias"]) @ params["hidden_1"]["kernel"]
    np.testing.assert_allclose(new["batch_stats"]["norm_1"]["var"], z.var(0), **TIGHT)


@BOTH
def test_shards_of_a_batch_pool_to_the_whole(kind):
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
    batch = jnp.asarray(digits()[:400])

    def measure(batch):
        return measured(kind, [batch], axis_name="data")

    found = jax.jit(jax.shard_map(measure, mesh=mesh, in_specs=P("data"), out_specs=P()))(batch)
    np.testing.assert_allclose(found["var"], hidden(digits()[:400]).var(0), **TIGHT)


def test_stacked_seeds_are_measured_under_vmap():
    stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), VARIABLES, trained(MODEL, 1))
    found = jax.vmap(lambda v: recalibrate(APPLY, v, BATCHES[:2]))(stacked)
    alone = recalibrate(APPLY, VARIABLES, BATCHES[:2])
    np.testing.assert_allclose(stats(found)["var"][0], stats(alone)["var"], **TIGHT)


def test_a_model_with_the_batch_norm_of_flax_is_measured_too():
    model = MODEL.clone(norm=nn.BatchNorm)
    found = stats(recalibrate(functools.partial(model.apply, train=True), VARIABLES, BATCHES))
    np.testing.assert_allclose(found["var"], hidden(digits()[:500]).var(0), **TIGHT)


def test_an_nnx_model_with_the_batch_norm_of_flax_is_measured_too():
    model = in_nnx(VARIABLES, norm=nnx.BatchNorm, features=(6,))
    new = recalibrate(model, BATCHES)
    np.testing.assert_allclose(new.norm_0.var[...], hidden(digits()[:500]).var(0), **TIGHT)
    np.testing.assert_array_equal(model.norm_0.var[...], stats(VARIABLES)["var"])


def test_an_nnx_model_keeps_its_modes_and_its_dropout_stays_off():
    model = in_nnx(VARIABLES, features=(6,), dropout_rate=0.5)
    model.eval()
    new = recalibrate(model, BATCHES[:1])
    assert new.norm_0.use_running_average and new.dropout.deterministic
    assert nnx.graphdef(new) == nnx.graphdef(model)


def test_a_norm_of_nnx_that_is_frozen_keeps_its_statistics_if_that_is_meant():
    model = in_nnx(VARIABLES, features=(6,))
    model.norm_0 = freeze_statistics(model.norm_0)
    with pytest.raises(ValueError, match="1 of 1 layers .* not reached: norm_0"):
        recalibrate(model, BATCHES[:1])


def test_masked_images_of_a_flax_batch_norm_do_not_count():
    model = nn.BatchNorm(use_running_average=False)
    x = jnp.asarray([[1.0], [3.0], [50.0]])
    variables = model.init(jax.random.key(0), x)
    mask = jnp.asarray([[True], [True], [False]])
    taken = collect_moments(functools.partial(model.apply, mask=mask), variables, x)
    assert (taken.mean[0], taken.var[0], taken.count[0]) == (2, 1, 2)


@BOTH
def test_batches_are_asked_for(kind):
    with pytest.raises(ValueError, match="got no batches"):
        measured(kind, [])


def test_running_statistics_are_asked_for():
    with pytest.raises(ValueError, match="no running statistics"):
        recalibrate(APPLY, {"params": VARIABLES["params"]}, BATCHES)


def test_a_call_in_eval_mode_is_noticed():
    with pytest.raises(ValueError, match="norm_0; let apply call the model in train mode"):
        recalibrate(MODEL.apply, VARIABLES, BATCHES)


class HalfFrozen(nn.Module):
    """A frozen batch norm before one that trains."""

    @nn.compact
    def __call__(self, x):
        x = BatchNorm(use_running_average=True, name="frozen")(x)
        return BatchNorm(use_running_average=False, name="live")(x)


def test_a_frozen_layer_keeps_its_statistics_if_that_is_meant():
    x = jnp.asarray([[1.0], [3.0]])
    variables = HalfFrozen().init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="1 of 2 layers .* not reached: frozen"):
        recalibrate(HalfFrozen().apply, variables, [x])
    new = recalibrate(HalfFrozen().apply, variables, [x, x], require_all=False)["batch_stats"]
    assert (new["frozen"]["mean"][0], new["live"]["var"].round(3)[0]) == (0, 1)
