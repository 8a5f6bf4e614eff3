"""The adapter between a factory and a layer."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import linen
from jaxnorm.models import apply_norm

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32) * 3 + 1


class Net(nn.Module):
    """One layer that a factory makes."""

    norm: object
    fields: tuple = ()

    @nn.compact
    def __call__(self, x, *, train):
        return apply_norm(self.norm, x, train=train, name="norm", **dict(self.fields))


def call(norm, *, train: bool, fields=()):
    model = Net(norm, tuple(fields))
    variables = model.init(jax.random.key(0), X, train=train)
    return model.apply(variables, X, train=train, mutable=["batch_stats"])


class Positional(nn.Module):
    """A layer that learns of its mode at construction only."""

    use_running_average: bool

    def __call__(self, x):
        return x * 0 + self.use_running_average


FACTORIES = {
    "class": linen.BatchNorm,
    "partial": functools.partial(linen.BatchNorm, momentum=0.9),
    "function_without_arguments": lambda: linen.BatchNorm(momentum=0.9),
    "function_of_keywords": lambda **fields: linen.BatchNorm(momentum=0.9, **fields),
    "function_of_the_name": lambda name: linen.BatchNorm(momentum=0.9, name=name),
}


@pytest.mark.parametrize("factory", FACTORIES)
def test_batch_norm_uses_the_batch_in_training_and_running_averages_in_eval(factory):
    trained, updated = call(FACTORIES[factory], train=True)
    want = (X - X.mean(0, dtype=np.float64)) / np.sqrt(X.var(0, dtype=np.float64) + 1e-5)
    np.testing.assert_allclose(trained, want, rtol=0, atol=4e-6)
    assert updated
    evaluated, _ = call(FACTORIES[factory], train=False)
    np.testing.assert_allclose(evaluated, X / np.sqrt(1 + 1e-5), rtol=1e-6)


def test_choice_that_the_factory_fixes_is_kept():
    frozen = functools.partial(linen.BatchNorm, use_running_average=True)
    y, _ = call(frozen, train=True)
    np.testing.assert_allclose(y, X / np.sqrt(1 + 1e-5), rtol=1e-6)


@pytest.mark.parametrize("train", [True, False])
def test_layer_that_takes_its_mode_at_construction_gets_it_there(train):
    y, _ = call(Positional, train=train)
    np.testing.assert_array_equal(y, np.full_like(X, not train))


def test_layer_norm_needs_no_mode():
    y, _ = call(linen.LayerNorm, train=True)
    wide = X.astype(np.float64)
    want = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(y, want, rtol=0, atol=4e-6)


def test_layer_has_the_name_it_was_given():
    variables = Net(linen.BatchNorm).init(jax.random.key(0), X, train=True)
    assert variables["params"].keys() == variables["batch_stats"].keys() == {"norm"}


def test_no_norm_returns_the_input_itself():
    x = jnp.ones((2, 3))
    assert apply_norm(None, x, train=True) is x


def test_fields_reach_the_factory():
    twos = nn.initializers.constant(2.0)
    y, _ = call(linen.LayerNorm, train=True, fields={"scale_init": twos}.items())
    plain, _ = call(linen.LayerNorm, train=True)
    np.testing.assert_array_equal(y, 2 * plain)


@pytest.mark.parametrize(
    ("norm", "name"), [(None, "norm=None"), (functools.partial(Positional), "norm=Positional")]
)
def test_field_that_the_factory_does_not_take_is_refused(norm, name):
    with pytest.raises(ValueError, match=f"{name} takes no scale_init"):
        call(norm, train=True, fields={"scale_init": nn.initializers.zeros}.items())
