"""Small models and real data for the tests of surgery."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from sklearn.datasets import load_digits

import jaxnorm.models.nnx
import jaxnorm.nnx
from jaxnorm.linen import BatchNorm
from jaxnorm.models import CNN, MLP
from jaxnorm.surgery import with_variables

EPSILON = 1e-5


@functools.cache
def digits() -> np.ndarray:
    """Returns the digits of scikit-learn as images [1797, 8, 8, 1] in 0..1."""
    images = load_digits().images
    return images[..., np.newaxis].astype(np.float32) / 16


def mlp(norm=BatchNorm) -> MLP:
    """Returns a perceptron with two hidden layers of 6."""
    return MLP(features=(6, 6), num_outputs=3, norm=norm, activation=nn.tanh)


def cnn(norm=BatchNorm) -> CNN:
    """Returns a network of two convolutions and a dense layer, each with a norm."""
    return CNN(num_outputs=3, stages=((4,), (5,)), features=(6,), norm=norm)


@functools.cache
def trained(model: nn.Module, seed: int = 0):
    """Returns variables whose every number is drawn at random, variances positive."""
    shapes = jax.eval_shape(model.init, jax.random.key(seed), jnp.zeros((2, 8, 8, 1)))
    rng = np.random.default_rng(seed)

    def drawn(path, leaf):
        name = path[-1].key
        positive = name in ("var", "scale")
        noise = rng.uniform(0.5, 2, leaf.shape) if positive else rng.normal(0, 0.5, leaf.shape)
        return jnp.asarray(noise, leaf.dtype)

    return jax.tree_util.tree_map_with_path(drawn, shapes)


def in_nnx(variables, norm=jaxnorm.nnx.BatchNorm, features=(6, 6), **fields) -> nnx.Module:
    """Returns the perceptron in nnx with the variables of the linen one."""
    model = jaxnorm.models.nnx.MLP(
        64, features, 3, norm=norm, activation=nn.tanh, rngs=nnx.Rngs(0), **fields
    )
    return with_variables(model, variables)
