"""A norm with an activation is Flax's norm and then Flax's activation."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import jaxnorm.linen
from tests.stats.reference import relative_error, rounding

OPTIONS = {"BatchNorm": {}, "LayerNorm": {}, "RMSNorm": {}, "GroupNorm": {"num_groups": 2}}
OPTIONS |= {"InstanceNorm": {}}
ACTIVATIONS = {"BatchNorm": "relu", "LayerNorm": "gelu", "RMSNorm": "gelu"}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_output_is_that_of_flax_behind_its_activation(name):
    activation, x = ACTIVATIONS.get(name, "silu"), np.random.default_rng(0).normal(2, 3, (4, 5, 6))
    x, fields = x.astype(np.float32), OPTIONS[name]
    for average in (False, True) if name == "BatchNorm" else (None,):
        call = {} if average is None else {"use_running_average": average}
        ours = getattr(jaxnorm.linen, name)(activation=activation, **fields, **call)
        theirs = getattr(nn, name)(**fields, **call)
        variables = theirs.init(jax.random.key(0), x)
        y, _ = ours.apply(variables, x, mutable=["batch_stats"])
        plain, _ = theirs.apply(variables, x, mutable=["batch_stats"])
        assert relative_error(y, getattr(jax.nn, activation)(plain)) < rounding(np.float32, x.size)


def test_an_unknown_activation_is_refused_with_the_name_of_the_module():
    layer, x = jaxnorm.linen.LayerNorm(activation="tanh"), np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="LayerNorm: activation='tanh' is unknown; use 'relu'"):
        layer.init(jax.random.key(0), x)
