"""States that Flax's nnx classes made serve ours: the same paths, outputs and updates."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from numpy.testing import assert_allclose, assert_array_equal

import jaxnorm.nnx
from tests.linen.reference import NORMS, sample

EPS = float(jnp.finfo(jnp.float32).eps)
X = sample(0.5)
RANDOM = {"scale_init": nnx.initializers.normal(1.0), "bias_init": nnx.initializers.normal(1.0)}
ROOMS = (jaxnorm.nnx, nnx)


def norms(name, **fields):
    """Returns our layer and Flax's, from the same seed, and the next key after each."""
    random = dict(list(RANDOM.items())[: 1 if name == "RMSNorm" else 2])
    made = []
    for room in ROOMS:
        rngs = nnx.Rngs(3)
        layer = getattr(room, name)(6, **NORMS[name].fields, **random, **fields, rngs=rngs)
        made.append((layer, jax.random.key_data(rngs.params())))
    return zip(*made, strict=True)


def leaves(layer):
    return {path: leaf[...] for path, leaf in nnx.to_flat_state(nnx.state(layer))}


def assert_close(ours, theirs, units=32):
    assert_allclose(ours, theirs, rtol=units * EPS, atol=units * EPS)


def assert_states_close(ours, theirs):
    ours, theirs = leaves(ours), leaves(theirs)
    assert {*ours} == {*theirs}
    for path, leaf in theirs.items():
        assert (ours[path].shape, ours[path].dtype) == (leaf.shape, leaf.dtype)
        assert_close(ours[path], leaf)


@pytest.mark.parametrize("param_dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", NORMS)
def test_the_same_seed_makes_the_same_state_and_leaves_the_same_keys(name, param_dtype):
    (ours, theirs), keys = norms(name, param_dtype=param_dtype)
    assert_states_close(ours, theirs)
    assert_array_equal(*keys)


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.sampled(4)
def test_a_state_of_flax_gives_the_same_output_and_update(name):
    (ours, theirs), _ = norms(name)
    nnx.update(ours, jax.tree.map(lambda v: v + 0.5, nnx.state(theirs)))
    nnx.update(theirs, jax.tree.map(lambda v: v + 0.5, nnx.state(theirs)))
    for _ in range(2):
        assert_close(ours(X), theirs(X))
    assert_states_close(ours, theirs)


def test_trained_statistics_of_flax_give_the_same_evaluation():
    (ours, theirs), _ = norms("BatchNorm")
    theirs(X)
    nnx.update(ours, nnx.state(theirs))
    assert_close(ours(X, use_running_average=True), theirs(X, use_running_average=True))


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("x_dtype", [jnp.bfloat16, jnp.float32, jnp.int32])
@pytest.mark.parametrize("name", NORMS)
def test_law_18_outputs_have_flaxs_dtypes(name, x_dtype, dtype):
    layers, _ = norms(name, dtype=dtype)
    shape = jax.ShapeDtypeStruct(X.shape, x_dtype)
    ours, theirs = (nnx.eval_shape(lambda m, x: m(x), layer, shape).dtype for layer in layers)
    assert ours == theirs


def wrapped(name, make, **fields):
    for room in ROOMS:
        rngs = nnx.Rngs(3)
        yield getattr(room, name)(make(rngs), **fields, rngs=rngs)


def dense(rngs):
    return nnx.Linear(6, 5, rngs=rngs)


def conv(rngs):
    return nnx.Conv(6, 4, (3, 3), rngs=rngs)


@pytest.mark.parametrize("make", [dense, conv])
@pytest.mark.parametrize("fields", [{}, {"feature_axes": None}, {"use_scale": False}])
@pytest.mark.sampled(4)
def test_weight_norm_serves_the_state_of_flax(make, fields):
    ours, theirs = wrapped("WeightNorm", make, **fields)
    assert_states_close(ours, theirs)
    nnx.update(theirs, jax.tree.map(lambda v: v + 0.5, nnx.state(theirs)))
    nnx.update(ours, nnx.state(theirs))
    assert_close(ours(X), theirs(X))


@pytest.mark.parametrize("make", [dense, conv])
def test_spectral_norm_serves_the_state_of_flax(make):
    ours, theirs = wrapped("SpectralNorm", make, n_steps=3)
    assert_states_close(ours, theirs)
    assert_close(ours(X, update_stats=True), theirs(X, update_stats=True))


def test_metadata_reaches_the_parameters():
    layer = jaxnorm.nnx.LayerNorm(
        6, scale_metadata={"tag": "scale"}, bias_metadata={"tag": "bias"}, rngs=nnx.Rngs(0)
    )
    assert (layer.scale.tag, layer.bias.tag) == ("scale", "bias")


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_without_parameters_has_none(name):
    unused = {"use_scale": False} if name == "RMSNorm" else {"use_scale": False, "use_bias": False}
    (ours, theirs), keys = norms(name, **unused)
    assert not nnx.state(ours, nnx.Param)
    assert_close(ours(X), theirs(X))
    assert_array_equal(*keys)
