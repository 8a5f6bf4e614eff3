"""The adapter between a factory and a layer."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import linen
from jaxnorm.models import (
    CNN,
    MLP,
    DCGANDiscriminator,
    DCGANGenerator,
    InceptionBranches,
    InceptionModule,
    ResNet,
    StyleNet,
    apply_norm,
)
from tests.models.reference import float64, random_variables

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


class OwnBias(nn.Module):
    """A layer whose parameters are made in its setup, before which nothing may be asked of it."""

    use_bias: bool = True

    def setup(self):
        self.shift = self.param("bias", nn.initializers.zeros, (1,)) if self.use_bias else 0.0

    def __call__(self, x):
        return x + self.shift


class NoBias(nn.Module):
    """A layer without the field that tells of a bias."""

    def setup(self):
        self.factor = self.param("scale", nn.initializers.ones, (1,))

    def __call__(self, x):
        return x * self.factor


def without_bias(norm, **fields):
    return functools.partial(norm, use_bias=False, **fields)


# name -> the factory, and whether the layer that it makes has a bias.
NORMS = {
    "none": (None, False),
    "batch": (linen.BatchNorm, True),
    "layer": (linen.LayerNorm, True),
    "rms": (linen.RMSNorm, False),
    "group": (functools.partial(linen.GroupNorm, num_groups=1), True),
    "instance": (functools.partial(linen.InstanceNorm, feature_axes=-1), True),
    "flax batch": (nn.BatchNorm, True),
    "flax layer": (nn.LayerNorm, True),
    "flax rms": (nn.RMSNorm, False),
    "flax group": (functools.partial(nn.GroupNorm, num_groups=1), True),
    "batch without": (without_bias(linen.BatchNorm), False),
    "layer without": (without_bias(linen.LayerNorm), False),
    "group without": (without_bias(linen.GroupNorm, num_groups=1), False),
    "instance without": (without_bias(linen.InstanceNorm), False),
    "function with": (lambda: linen.LayerNorm(), True),
    "function without": (lambda: linen.RMSNorm(), False),
    "function of the name": (lambda name: linen.RMSNorm(name=name), False),
    "function of keywords": (lambda **fields: linen.BatchNorm(**fields), True),
    "own": (OwnBias, True),
    "own without": (functools.partial(OwnBias, use_bias=False), False),
    "own without the field": (NoBias, False),
    "mode at construction": (Positional, False),
}
every_norm = pytest.mark.parametrize("norm", NORMS)

IMAGES = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
NOISE = jax.ShapeDtypeStruct((2, 5), jnp.float32)
BRANCHES = InceptionBranches("a", 2, 2, 2, 2, 2, "average", 2)
# name -> the model with a norm, its input, the layers before a norm and their number.
MODELS = {
    "MLP": (lambda norm: MLP((4, 4), 3, norm=norm), NOISE, "hidden", 2),
    "CNN": (lambda norm: CNN(3, ((4,),), (5,), norm=norm), IMAGES, "hidden", 2),
    "ResNet": (lambda norm: ResNet((1, 1), (4, 8), 3, norm, shortcut="projection"), IMAGES,
               "conv", 6),
    "InceptionModule": (lambda norm: InceptionModule(BRANCHES, norm), IMAGES, "conv", 7),
    "DCGANGenerator": (lambda norm: DCGANGenerator((4, 4), norm=norm), NOISE, "project|up_0", 2),
    "DCGANDiscriminator": (lambda norm: DCGANDiscriminator((4, 4, 4), norm=norm), IMAGES,
                           "down_[12]", 2),
    "StyleNet": (lambda norm: StyleNet((4, 4, 4), 1, norm), IMAGES, "conv", 7),
}  # fmt: skip


@every_norm
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.sampled(24)
def test_a_layer_has_a_bias_just_where_its_norm_has_none(model, norm):
    make, x, layers, number = MODELS[model]
    factory, norm_has_bias = NORMS[norm]
    params = jax.eval_shape(make(factory).init, jax.random.key(0), x)["params"]
    found = [
        set(part) for path, part in parts(params) if "kernel" in part and re.match(layers, path[-1])
    ]
    assert len(found) == number
    expected = {"kernel"} if norm_has_bias else {"kernel", "bias"}
    assert found == [expected] * number


def parts(params, path=()):
    """Yields the parameters of each layer with its path."""
    yield path, params
    for name, below in params.items():
        if isinstance(below, dict):
            yield from parts(below, (*path, name))


@every_norm
def test_asking_for_the_bias_leaves_the_names_of_the_layers_alone(norm):
    factory, _ = NORMS[norm]
    params = jax.eval_shape(MLP((4,), 3, norm=factory).init, jax.random.key(0), NOISE)["params"]
    with_bias = MLP((4,), 3, norm=factory, use_bias=True)
    asked = jax.eval_shape(with_bias.init, jax.random.key(0), NOISE)["params"]
    assert params.keys() == asked.keys()


def test_a_perceptron_with_rms_norm_is_the_one_of_numpy_with_both_biases():
    x = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    model = MLP((4,), 3, norm=linen.RMSNorm, activation=nn.tanh)
    variables = random_variables(model, x, affine=0.5)
    params = float64(variables["params"])
    hidden = x @ params["hidden_0"]["kernel"] + params["hidden_0"]["bias"]
    hidden = hidden / np.sqrt((hidden**2).mean(1, keepdims=True) + 1e-6)
    hidden = np.tanh(hidden * params["norm_0"]["scale"])
    want = hidden @ params["output"]["kernel"] + params["output"]["bias"]
    np.testing.assert_allclose(model.apply(variables, x), want, rtol=0, atol=4e-6)
