"""Law 21: one value is no sample, whichever norm takes it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm
from jaxnorm import group_norm, layer_norm, linen

BIAS = np.float32([0.5, -1, 2])
CASES = {
    "layer": (layer_norm, (4, 1), {}, r"layer_norm got one value per statistic, x \[4, 1\] with"),
    "group": (
        group_norm,
        (4, 3),
        {"num_groups": 3},
        "group_norm got one value per group, x",
    ),
    "axes": (group_norm, (2, 4, 3), {"group_size": 1, "reduction_axes": -1}, "use fewer groups"),
}


@pytest.mark.parametrize("case", CASES)
def test_law_21_one_value_per_statistic_is_refused_with_the_remedy(case):
    norm, shape, options, message = CASES[case]
    with pytest.raises(ValueError, match=message + ".*"):
        norm(np.ones(shape, np.float32), **options)


@pytest.mark.parametrize("case", CASES)
def test_law_21_one_value_per_statistic_gives_the_bias_where_it_is_allowed(case):
    norm, shape, options, _ = CASES[case]
    x, bias = np.full(shape, 7, np.float32), BIAS[: shape[-1]]
    y = norm(x, None, bias, single_value="allow", **options)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, shape))


def test_law_21_shards_of_one_value_make_a_sample_together():
    x = jnp.float32([[[1.0]], [[3.0]]])
    y = jax.vmap(lambda x: layer_norm(x, axis_name="features"), axis_name="features")(x)
    np.testing.assert_allclose(y.ravel(), [-1, 1], atol=1e-5)


def test_drop_in_modules_give_the_bias_as_those_of_flax_do():
    x = np.ones((4, 3), np.float32)
    y, _ = linen.GroupNorm(num_groups=3).init_with_output(jax.random.key(0), x)
    np.testing.assert_array_equal(y, np.zeros((4, 3)))
    norm = jaxnorm.nnx.LayerNorm(1, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(norm(x[:, :1]), np.zeros((4, 1)))
