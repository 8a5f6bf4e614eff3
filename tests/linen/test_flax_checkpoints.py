"""Variables that Flax's linen classes made serve ours: the same trees, outputs and updates."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import jaxnorm.linen
from tests.linen.reference import NORMS, sample

KEY = jax.random.key(0)
EPS = float(jnp.finfo(jnp.float32).eps)
X = sample(0.5)
RANDOM = {"scale_init": nn.initializers.normal(1.0), "bias_init": nn.initializers.normal(1.0)}
ONLY_SCALE = {"scale_init": nn.initializers.normal(1.0)}


def pair(name, **fields):
    """Returns our layer and Flax's."""
    return [getattr(room, name)(**fields) for room in (jaxnorm.linen, nn)]


def forms(tree):
    return jax.tree.map(lambda v: (v.shape, v.dtype), tree)


def close(ours, theirs, units=32):
    """Asserts that two trees agree to rounding of float32."""
    jax.tree.map(
        lambda a, b: assert_allclose(a, b, rtol=units * EPS, atol=units * EPS), ours, theirs
    )


def fields_of(name):
    random = ONLY_SCALE if name == "RMSNorm" else RANDOM
    training = {"use_running_average": False, "momentum": 0.9} if name == "BatchNorm" else {}
    return {**NORMS[name].fields, **random, **training}


@pytest.mark.parametrize("param_dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", NORMS)
@pytest.mark.sampled(4)
def test_init_makes_the_variables_that_flax_makes(name, param_dtype):
    ours, theirs = (
        layer.init(KEY, X) for layer in pair(name, param_dtype=param_dtype, **fields_of(name))
    )
    assert forms(ours) == forms(theirs)
    jax.tree.map(assert_array_equal, ours, theirs)


@pytest.mark.parametrize("name", NORMS)
def test_variables_of_flax_give_the_same_output_and_update(name):
    ours, theirs = pair(name, **fields_of(name))
    variables = theirs.init(KEY, X)
    results = [layer.apply(variables, X, mutable=["batch_stats"]) for layer in (ours, theirs)]
    assert forms(results[0]) == forms(results[1])
    close(*results)


def test_trained_statistics_of_flax_give_the_same_evaluation():
    ours, theirs = pair("BatchNorm", **{**fields_of("BatchNorm"), "use_running_average": None})
    variables = theirs.init(KEY, X, use_running_average=False)
    for _ in range(3):
        _, updated = theirs.apply(variables, X, use_running_average=False, mutable=["batch_stats"])
        variables = {**variables, **updated}
    close(*(layer.apply(variables, X, use_running_average=True) for layer in (ours, theirs)))


@pytest.mark.parametrize("name", ["LayerNorm", "InstanceNorm", "BatchNorm"])
def test_parameters_of_several_axes_have_flaxs_order(name):
    axes = {"axis": (3, 1)} if name == "BatchNorm" else {"feature_axes": (3, 1)}
    reduced = {"reduction_axes": (1, 3)} if name == "LayerNorm" else {}
    ours, theirs = pair(name, **fields_of(name), **axes, **reduced)
    variables = theirs.init(KEY, X)
    results = [layer.apply(variables, X, mutable=["batch_stats"]) for layer in (ours, theirs)]
    assert forms(ours.init(KEY, X)) == forms(variables)
    close(*results)


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("x_dtype", [jnp.bfloat16, jnp.float32, jnp.int32])
@pytest.mark.parametrize("name", NORMS)
def test_law_18_outputs_have_flaxs_dtypes(name, x_dtype, dtype):
    shape = jax.ShapeDtypeStruct(X.shape, x_dtype)
    ours, theirs = (
        jax.eval_shape(layer.init_with_output, KEY, shape)[0].dtype
        for layer in pair(name, dtype=dtype, **fields_of(name))
    )
    assert ours == theirs


def test_integers_are_normalized_as_in_flax():
    ours, theirs = pair("LayerNorm")
    x = np.arange(24).reshape(4, 6) ** 2
    variables = theirs.init(KEY, x)
    close(ours.apply(variables, x), theirs.apply(variables, x))


def test_a_dtype_that_holds_no_fractions_is_refused():
    with pytest.raises(TypeError, match="LayerNorm: dtype=int32 must be floating or complex"):
        jaxnorm.linen.LayerNorm(dtype=jnp.int32).init(KEY, X)


@pytest.mark.nightly
@pytest.mark.parametrize("layer", [nn.Dense(5), nn.Conv(4, (3, 3))], ids=["dense", "conv"])
@pytest.mark.parametrize(
    "fields", [{}, {"feature_axes": None}, {"variable_filter": None}, {"use_scale": False}]
)
def test_weight_norm_serves_the_variables_of_flax(layer, fields):
    ours, theirs = pair("WeightNorm", layer_instance=layer, **fields)
    variables = theirs.init(KEY, X)
    assert forms(ours.init(KEY, X)) == forms(variables)
    variables = jax.tree.map(lambda v: v + 0.5, variables)
    close(ours.apply(variables, X), theirs.apply(variables, X))


@pytest.mark.parametrize("layer", [nn.Dense(5), nn.Conv(4, (3, 3))], ids=["dense", "conv"])
def test_spectral_norm_serves_the_variables_of_flax(layer):
    ours, theirs = pair("SpectralNorm", layer_instance=layer, n_steps=3)
    variables = theirs.init(KEY, X, update_stats=False)
    made = ours.init(KEY, X, update_stats=False)
    assert forms(made) == forms(variables)
    jax.tree.map(assert_array_equal, made["batch_stats"], variables["batch_stats"])
    options = {"update_stats": True, "mutable": ["batch_stats"]}
    close(*(layer.apply(variables, X, **options) for layer in (ours, theirs)))


class Net(nn.Module):
    """A model whose layers are named by their classes."""

    room: object

    @nn.compact
    def __call__(self, x):
        x = self.room.BatchNorm(use_running_average=False)(nn.Dense(6)(x))
        x = self.room.WeightNorm(nn.Dense(6))(self.room.GroupNorm(num_groups=3)(x))
        x = self.room.SpectralNorm(nn.Dense(4))(self.room.RMSNorm()(x), update_stats=True)
        return self.room.LayerNorm()(self.room.LayerNorm()(x))


def test_a_model_keeps_its_paths_when_the_import_changes():
    ours, theirs = (Net(room).init(KEY, X) for room in (jaxnorm.linen, nn))
    assert forms(ours) == forms(theirs)


def test_a_model_is_tabulated():
    table = Net(jaxnorm.linen).tabulate(KEY, X, compute_flops=True, console_kwargs={"width": 200})
    assert "BatchNorm_0" in table and "SpectralNorm_0" in table
