"""One view of linen and nnx models: the same variables, calls, moments and captured values."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_array_equal

import jaxnorm
import jaxnorm.linen
import jaxnorm.nnx
from jaxnorm._views import NnxApply, intercept, opened, train_apply

X = jax.random.normal(jax.random.key(0), (8, 3))


class Linen(nn.Module):
    """A layer and two norms, the second with an estimator of its own."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(4, name="dense")(x)
        x = jaxnorm.linen.BatchNorm(not train, name="norm")(x)
        average = jaxnorm.cumulative()
        return jaxnorm.linen.BatchNorm(not train, estimator=average, name="last")(x)


class Nnx(nnx.Module):
    """The same in nnx."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(3, 4, rngs=rngs)
        self.norm = jaxnorm.nnx.BatchNorm(4, rngs=rngs)
        self.last = jaxnorm.nnx.BatchNorm(4, estimator=jaxnorm.cumulative(), rngs=rngs)

    def __call__(self, x):
        x = nnx.remat(lambda norm, x: norm(x))(self.norm, self.dense(x))
        return nnx.jit(lambda norm, x: norm(x))(self.last, x)


def linen_and_nnx():
    """Returns the calls of both models and the variables, which serve both."""
    apply, variables = NnxApply.of(Nnx(nnx.Rngs(1)))
    rngs = variables.pop("rngs", None)
    assert rngs is None
    return train_apply(Linen()), apply, variables


def assert_equal(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), one, other)


def test_both_have_the_same_variables():
    _, _, variables = linen_and_nnx()
    made = Linen().init(jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, dict(made)) == jax.tree.map(jnp.shape, variables)


@pytest.mark.parametrize("collection", ["batch_stats", "batch_moments"])
def test_both_return_the_same_collections(collection):
    first, second, variables = linen_and_nnx()
    found = [
        jax.jit(functools.partial(apply, mutable=[collection], train=True))(variables, X)
        for apply in (first, second)
    ]
    assert_equal(dict(found[0][1]), found[1][1])
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)


def test_moments_that_are_handed_on_are_pooled():
    _, apply, variables = linen_and_nnx()
    kernel = np.asarray(variables["params"]["dense"]["kernel"], np.float64)
    moments = {}
    for part in np.split(np.asarray(X), [3]):
        _, moments = apply({**variables, **moments}, part, mutable=["batch_moments"], train=True)
    found = moments["batch_moments"]["norm"]["moments"]
    hidden = np.asarray(X, np.float64) @ kernel
    np.testing.assert_allclose(found.mean, hidden.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.var, hidden.var(0), rtol=1e-5)


def test_calls_are_seen_through_the_transformations_of_nnx():
    first, second, variables = linen_and_nnx()

    def twice(next_fun, args, kwargs, call):
        y = next_fun(*args, **kwargs)
        if call.owns_variables():
            call.keep("seen", "output", y)
            assert call.variable("params", "bias") is not None
        return 2 * y

    run = [functools.partial(apply, mutable=["seen"], train=False) for apply in (first, second)]
    with intercept(twice):
        found = [jax.jit(call)(variables, X) for call in run]
    assert set(found[0][1]["seen"]) == {"dense", "norm", "last"}
    assert_equal(dict(found[0][1]), found[1][1])
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
    assert run[1](variables, X)[1] == {}


def test_the_given_model_stays_as_it_was():
    model = Nnx(nnx.Rngs(1))
    model.eval()
    apply, variables = NnxApply.of(model)
    apply(variables, X, mutable=["batch_stats"], train=True)
    assert_array_equal(model.norm.mean[...], np.zeros(4))
    assert model.norm.use_running_average and type(model.norm) is jaxnorm.nnx.BatchNorm


def test_equal_models_have_equal_calls():
    one, other = (NnxApply.of(Nnx(nnx.Rngs(seed)))[0] for seed in (0, 1))
    assert one == other and hash(one) == hash(other)
    trained = Nnx(nnx.Rngs(0))
    trained.eval()
    assert NnxApply.of(trained)[0] != one


def test_random_streams_start_at_the_given_key_and_differ():
    model = nnx.Sequential(*(nnx.Dropout(0.5, rngs=nnx.Rngs(0)) for _ in range(2)))
    apply, variables = NnxApply.of(model)

    def dropped(seed):
        _, updated = apply({}, X, rngs={"dropout": jax.random.key(seed)}, mutable=["rngs"])
        return jax.random.key_data(jnp.stack(jax.tree.leaves(keys_of(updated))))

    first = dropped(0)
    assert_array_equal(first, dropped(0))
    assert (first != dropped(1)).any() and (first[0] != first[1]).any()
    assert set(variables) == {"rngs"}


class Told(nnx.Module):
    """A model whose call says which statistics normalize, and a dropout whose mode it has."""

    def __init__(self):
        self.norm = jaxnorm.nnx.BatchNorm(3, momentum=0.9, rngs=nnx.Rngs(0))
        self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=nnx.Rngs(0))

    def __call__(self, x, train=False):
        return self.dropout(self.norm(x, use_running_average=not train))


def test_a_call_that_takes_train_is_told_the_mode():
    apply, variables = NnxApply.of(Told())
    mean = np.asarray(X, np.float64).mean(0)
    for call, moved in ((apply, 0), (functools.partial(apply, train=True), 0.1)):
        _, updated = call(variables, X, mutable=["batch_stats"])
        want = moved * mean
        np.testing.assert_allclose(updated["batch_stats"]["norm"]["mean"], want, atol=1e-6)
    # Norms normalize by their batch, and dropout stays in the mode that the model has.
    y, updated = apply.in_batch_mode()(variables, X, mutable=["batch_stats"])
    np.testing.assert_allclose(updated["batch_stats"]["norm"]["mean"], 0.1 * mean, atol=1e-6)
    np.testing.assert_allclose(np.asarray(y).mean(0), 0, atol=1e-6)


def keys_of(variables):
    leaves = jax.tree.leaves(variables["rngs"])
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]


def measure(apply, variables=None, batches=None):
    return opened(measure, apply, variables, batches)


def test_both_forms_of_arguments_are_told_apart():
    apply, variables, batches = measure(Nnx(nnx.Rngs(1)), [X])
    assert isinstance(apply, NnxApply) and batches == [X] and set(variables["params"]["norm"])
    assert measure(print, {}, [X]) == (print, {}, [X])
    with pytest.raises(TypeError, match="takes the model and batches, got 2 arguments"):
        measure(Nnx(nnx.Rngs(1)), {}, [X])
    with pytest.raises(TypeError, match="got no batches"):
        measure(print, {})
    with pytest.raises(TypeError, match="such as `model.apply`.* got Linen"):
        measure(Linen(), {}, [X])


def test_missing_variables_are_named():
    apply, variables = NnxApply.of(Nnx(nnx.Rngs(1)))
    with pytest.raises(ValueError, match="the variables lack 8 .*batch_stats/last/estimator_state"):
        apply({"params": variables["params"]}, X)
