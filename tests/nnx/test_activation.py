"""A norm with an activation is Flax's norm and then Flax's activation."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax import nnx

import jaxnorm.nnx
from tests.linen.test_activation import ACTIVATIONS, OPTIONS
from tests.stats.reference import relative_error, rounding


@pytest.mark.parametrize("name", OPTIONS)
def test_the_output_is_that_of_flax_behind_its_activation(name):
    activation, x = ACTIVATIONS.get(name, "silu"), np.random.default_rng(0).normal(2, 3, (4, 5, 6))
    x, fields = x.astype(np.float32), OPTIONS[name]
    ours = getattr(jaxnorm.nnx, name)(6, activation=activation, rngs=nnx.Rngs(0), **fields)
    call = {"use_running_average": False} if name == "BatchNorm" else {}
    plain = getattr(nn, name)(**fields, **call).init_with_output(jax.random.key(0), x)[0]
    expected = getattr(jax.nn, activation)(plain)
    assert relative_error(ours(x, **call), expected) < rounding(np.float32, x.size)
