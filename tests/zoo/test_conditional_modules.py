"""The modules that follow a condition: their layers, computed in float64, lead to the oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm
import jaxnorm.linen
import jaxnorm.nnx
from jaxnorm.functional import SPECS
from tests.stats.reference import relative_error, rounding
from tests.zoo import conditional

X = np.random.default_rng(0).normal(1, 2, (4, 3, 6)).astype(np.float32)
VECTORS = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
LABELS = np.array([2, 0, 1, 2])
MAP = np.random.default_rng(2).uniform(size=(4, 6, 2)).astype(np.float32)
BOUND = rounding(np.float32, X.size)

AFFINE = ("scale", "bias")
# member -> what its layers give, and what they come after
LEARNED = {
    "conditional_batch_norm": (AFFINE, None),
    "film": (AFFINE, None),
    "adaptive_instance_norm": (AFFINE, None),
    "ada_layer_norm": (AFFINE, "silu"),
    "ada_layer_norm_zero": ((*AFFINE, "gate"), "silu"),
    "modulated_rms_norm": (AFFINE, "silu"),
}
every_member = pytest.mark.parametrize("member", LEARNED)
every_condition = pytest.mark.parametrize("condition", [VECTORS, LABELS], ids=["vector", "class"])


def layers(member, condition):
    """Returns the parameters of each layer, by name."""
    rng = np.random.default_rng(3)

    def layer():
        if condition is LABELS:
            return {"embedding": rng.normal(size=(3, 6)).astype(np.float32)}
        shapes = {"kernel": (5, 6), "bias": (6,)}
        return {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}

    return {f"to_{name}": layer() for name in LEARNED[member][0]}


def expected(member, condition):
    """Returns the output in float64."""
    given = np.asarray(condition, np.float64)
    if LEARNED[member][1] == "silu":
        given = given / (1 + np.exp(-given))
    arrays = {}
    for name, layer in layers(member, condition).items():
        of_layer = {n: np.float64(v) for n, v in layer.items()}
        arrays[name.removeprefix("to_")] = (
            of_layer["embedding"][condition]
            if condition is LABELS
            else given @ of_layer["kernel"] + of_layer["bias"]
        )
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, oracle(member)(jnp.asarray(np.float64(X)), **arrays))


def oracle(member):
    """Returns the definition by scale and bias, the scale stored around zero."""
    if member == "film":
        return lambda x, scale, bias: conditional.film_oracle(x, 1 + scale, bias)
    if member == "adaptive_instance_norm":
        return instance_oracle
    return getattr(conditional, f"{member}_oracle")


def instance_oracle(x, scale, bias):
    m, v = conditional.sampled(x, None, 1)
    rows = conditional.rows
    return (x - m) / jnp.sqrt(v + 1e-5) * (1 + rows(scale, x)) + rows(bias, x)


def fields(condition):
    return {"num_classes": 3} if condition is LABELS else {}


def assert_equal(got, want):
    got, want = ((v if isinstance(v, tuple) else (v,)) for v in (got, want))
    for have, wanted in zip(got, want, strict=True):
        assert relative_error(np.asarray(have), wanted) < BOUND


def linen_module(member, **given):
    training = {"use_running_average": False} if SPECS[member].decay else {}
    return getattr(jaxnorm.linen, SPECS[member].module)(**training, **given)


@every_condition
@every_member
@pytest.mark.sampled(6)
def test_the_linen_module_computes_the_definition(member, condition):
    norm = linen_module(member, **fields(condition))
    params = layers(member, condition)

    @jax.jit
    def run(params):
        variables = norm.init(jax.random.key(0), X, condition)
        assert jax.tree.map(jnp.shape, variables["params"]) == jax.tree.map(np.shape, params)
        variables = {**variables, "params": params}
        return norm.apply(variables, X, condition, mutable=["batch_stats"])

    y, updated = run(params)
    assert_equal(y, expected(member, condition))
    if SPECS[member].decay:
        assert_moved(updated["batch_stats"])


def assert_moved(stats):
    x = np.float64(X)
    assert relative_error(stats["mean"], 0.01 * x.mean((0, 1))) < BOUND
    assert relative_error(stats["var"], 0.99 + 0.01 * x.var((0, 1))) < BOUND


@every_condition
@every_member
@pytest.mark.sampled(8)
def test_the_nnx_module_computes_the_definition(member, condition):
    size = {} if condition is LABELS else {"condition_features": 5}
    cls = getattr(jaxnorm.nnx, SPECS[member].module)
    norm = cls(6, **size, **fields(condition), rngs=nnx.Rngs(0))
    for name, layer in layers(member, condition).items():
        for parameter, value in layer.items():
            variable = getattr(getattr(norm, name), parameter)
            assert variable.shape == value.shape
            variable[...] = value
    assert_equal(nnx.jit(lambda norm: norm(X, condition))(norm), expected(member, condition))
    if SPECS[member].decay:
        assert_moved({"mean": norm.mean[...], "var": norm.var[...]})


@pytest.mark.parametrize("member", ["conditional_batch_norm", "ada_layer_norm_zero"])
def test_layers_that_start_at_zero_leave_the_norm_without_a_condition(member):
    y, _ = linen_module(member).init_with_output(jax.random.key(0), X, VECTORS)
    zeros = {name: np.zeros((4, 6)) for name in LEARNED[member][0]}
    assert_equal(y, jax.tree.map(np.asarray, oracle(member)(jnp.asarray(X), **zeros)))


def convolved(x, kernel, bias):
    """Returns a convolution [N, L, C] with zeros at the borders, in float64."""
    x = np.pad(np.float64(x), ((0, 0), (1, 1), (0, 0)))
    windows = np.stack([x[:, i : x.shape[1] - 2 + i] for i in range(3)], axis=1)
    return np.einsum("nklc,kcd->nld", windows, np.float64(kernel)) + np.float64(bias)


def spade_parameters():
    rng = np.random.default_rng(4)
    shapes = {"shared": (3, 2, 7), "to_scale": (3, 7, 6), "to_bias": (3, 7, 6)}
    return {
        name: {
            "kernel": rng.normal(0, 0.3, shape).astype(np.float32),
            "bias": rng.normal(size=shape[-1]).astype(np.float32),
        }
        for name, shape in shapes.items()
    }


def spade_expected():
    params = spade_parameters()
    hidden = np.maximum(convolved(MAP[:, ::2], **params["shared"]), 0)
    affine = [convolved(hidden, **params[f"to_{name}"]) for name in AFFINE]
    x = np.float64(X)
    y = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)
    return y * (1 + affine[0]) + affine[1]


SIZES = {"hidden_features": 7, "kernel_size": (3,)}


def test_spade_of_linen_resizes_the_segmentation_and_convolves_it():
    norm, params = linen_module("spade", **SIZES), spade_parameters()

    @jax.jit
    def run(params):
        variables = norm.init(jax.random.key(0), X, MAP)
        assert jax.tree.map(jnp.shape, variables["params"]) == jax.tree.map(np.shape, params)
        return norm.apply({**variables, "params": params}, X, MAP, mutable=["batch_stats"])

    y, updated = run(params)
    assert_equal(y, spade_expected())
    assert_moved(updated["batch_stats"])


def test_spade_of_nnx_resizes_the_segmentation_and_convolves_it():
    norm = jaxnorm.nnx.SPADE(6, segmentation_features=2, **SIZES, rngs=nnx.Rngs(0))
    for name, layer in spade_parameters().items():
        for parameter, value in layer.items():
            getattr(getattr(norm, name), parameter)[...] = value
    assert_equal(nnx.jit(lambda norm: norm(X, MAP))(norm), spade_expected())
    assert_moved({"mean": norm.mean[...], "var": norm.var[...]})


def test_an_nnx_module_asks_for_one_kind_of_condition():
    with pytest.raises(ValueError, match="condition_features=None and num_classes=None; give one"):
        jaxnorm.nnx.FiLM(6, rngs=nnx.Rngs(0))
