"""Norms of the catalogue in models by their names, and norms of the kernels of a network."""

import functools

import jax
import numpy as np
import pytest

from jaxnorm import linen
from jaxnorm.functional import CATALOGUE, SPECS
from jaxnorm.models import CNN, LSTM, MLP, BasicBlock, ResNet, norm_factory, vgg_small
from tests.models import reference

X = np.random.default_rng(0).standard_normal((4, 6, 6, 3)).astype(np.float32)
SEQUENCES = np.random.default_rng(1).standard_normal((4, 3, 5)).astype(np.float32)
EPS = np.finfo(np.float32).eps


def refused(name, of="activations"):
    try:
        norm_factory(name, of)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize("member", CATALOGUE, ids=lambda m: m.name)
def test_a_member_is_its_class_by_name_or_says_what_it_needs(member):
    if not refused(member.name, member.of):
        expected = getattr(linen, SPECS[member.name].module)
        assert norm_factory(member.name, member.of) is expected
    else:
        message = (
            f"norm '{member.name}' (needs .*; use a function or a partial of|returns 2 values)"
        )
        with pytest.raises(ValueError, match=message):
            norm_factory(member.name, member.of)


@pytest.mark.parametrize(
    ("name", "of", "message"),
    [
        ("no_norm", "activations", "norm 'no_norm' is not in the catalogue; .*batch_norm.*layer_"),
        ("weight_norm", "activations", "norm 'weight_norm' normalizes kernels; .*batch_norm"),
        ("layer_norm", "kernel", "normalizes activations; .*weight_norm"),
        ("ghost_batch_norm", "activations", "needs ghost_batch_size; .*linen.GhostBatchNorm"),
        ("re_zero", "activations", "needs branch; .*linen.ReZero"),
        ("positional_norm", "activations", r"returns 2 values, .*PositionalNorm\(\)\(x\)\[0\]"),
    ],
)
def test_a_name_that_does_not_fit_is_refused(name, of, message):
    with pytest.raises(ValueError, match=message):
        norm_factory(name, of)


def test_a_layer_that_returns_a_tuple_is_refused_and_what_the_error_names_works():
    mlp, key = MLP((4,), 3, norm=linen.PositionalNorm), jax.random.key(0)
    with pytest.raises(ValueError, match="norm=PositionalNorm returns 2 values"):
        jax.eval_shape(mlp.init, key, X)
    bare = functools.partial(linen.LayerNorm, use_scale=False, use_bias=False, epsilon=1e-5)
    first = MLP((4,), 3, norm=lambda: lambda x: linen.PositionalNorm()(x)[0])
    variables = first.init(key, X)
    want = MLP((4,), 3, norm=bare).apply(variables, X)
    np.testing.assert_allclose(first.apply(variables, X), want, rtol=0, atol=64 * EPS)


MODELS = {
    "MLP": (lambda norm: MLP((4,), 3, norm=norm), X),
    "CNN": (lambda norm: CNN(3, ((4,),), (5,), norm=norm), X),
    "VGG": (lambda norm: vgg_small(3, stages=((4,), (4,)), norm=norm), X),
    "ResNet": (lambda norm: ResNet((1,), (4,), 3, norm), X),
    "LSTM": (lambda norm: LSTM(4, norm), SEQUENCES),
}


@pytest.mark.parametrize("name", ["batch_norm", "dynamic_tanh"])
@pytest.mark.parametrize("model", MODELS)
def test_a_model_with_a_name_is_the_one_with_its_class(model, name):
    make, x = MODELS[model]
    by_name, by_class = make(name), make(getattr(linen, SPECS[name].module))
    key = jax.random.key(0)
    shapes = jax.tree.map(np.shape, jax.eval_shape(by_name.init, key, x))
    assert shapes == jax.tree.map(np.shape, jax.eval_shape(by_class.init, key, x))


def test_numbers_of_a_perceptron_with_a_name_are_those_with_its_class():
    by_name, by_class = (MLP((4,), 3, norm=norm) for norm in ("layer_norm", linen.LayerNorm))
    variables = by_class.init(jax.random.key(0), X)
    np.testing.assert_array_equal(by_name.apply(variables, X), by_class.apply(variables, X))


def test_a_layer_before_a_pointwise_function_keeps_its_bias():
    params = jax.eval_shape(MLP((4,), 3, norm="dynamic_tanh").init, jax.random.key(0), X)["params"]
    assert {*params["hidden_0"]} == {"kernel", "bias"}


def standardized(path, leaf):
    if path[-1].key != "kernel" or leaf.ndim != 4:
        return leaf
    wide = np.float64(leaf)
    wide = (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + 1e-6)
    return wide.astype(np.float32)


def test_weight_standardization_with_group_norm_is_group_norm_after_standardized_kernels():
    group = functools.partial(linen.GroupNorm, num_groups=2)
    make = functools.partial(ResNet, (1, 1), (4, 8), 3, group, shortcut="projection")
    plain, wrapped = make(), make(kernel_norm="weight_standardization")
    state = reference.random_variables(plain, X)
    same = jax.tree_util.tree_map_with_path(standardized, state)
    want, y = jax.jit(plain.apply)(same, X), jax.jit(wrapped.apply)(state, X)
    # Seven layers, each with sums of at most 72 products.
    np.testing.assert_allclose(y, want, rtol=0, atol=7 * 8 * EPS * 72**0.5 * np.abs(want).max())


def test_a_gain_of_the_kernels_stands_beside_the_convolution_and_is_learned():
    block = BasicBlock(3, kernel_norm="scaled_weight_standardization")
    variables = block.init(jax.random.key(0), X)
    shapes = jax.tree.map(np.shape, variables["params"])
    assert shapes["conv_0"] == {"kernel": (3, 3, 3, 3), "bias": (3,)}
    assert shapes["conv_0_normed"] == {"conv_0/kernel/scale": (3,)}
    gradients = jax.jit(jax.grad(lambda v: (block.apply(v, X) ** 2).sum()))(variables)["params"]
    assert np.all(np.asarray(gradients["conv_0_normed"]["conv_0/kernel/scale"]) != 0)


def test_spectral_norm_of_the_kernels_iterates_in_training_only():
    block = BasicBlock(3, kernel_norm=linen.SpectralNorm)
    variables = block.init(jax.random.key(0), X)
    _, trained = block.apply(variables, X, train=True, mutable=["batch_stats"])
    _, evaluated = block.apply(variables, X, train=False, mutable=["batch_stats"])
    first = variables["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, evaluated["batch_stats"], first)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), trained["batch_stats"], first)
    assert all(jax.tree.leaves(moved))
