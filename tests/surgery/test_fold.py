"""A folded network is the same function, and what cannot be proven is not folded."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.linen import BatchNorm
from jaxnorm.models import ResNet
from jaxnorm.surgery import FoldedPair, fold_batch_norm

from .models import cnn, digits, mlp, trained

X = jnp.asarray(digits()[:16])
# At most 64 products per sum and layer, in float32, over the largest output.
BOUND = 64 * np.finfo(np.float32).eps


def assert_same_function(model, variables, other, folded, x=X):
    before = np.asarray(jax.jit(model.apply)(variables, x), np.float64)
    after = np.asarray(jax.jit(other.apply)(folded, x), np.float64)
    scale = np.abs(before).max()
    np.testing.assert_allclose(after, before, rtol=0, atol=8 * BOUND * scale)
    assert scale > 0.1


@pytest.mark.parametrize("norm", [BatchNorm, nn.BatchNorm])
@pytest.mark.parametrize("network", [mlp, cnn])
def test_the_model_without_norms_is_the_same_function(network, norm):
    model = network(norm)
    variables = trained(model)
    folding = fold_batch_norm(model, variables, X, remove=True)
    assert folding.kept == {}
    assert_same_function(model, variables, network(None), folding.variables)


def test_every_pair_of_a_model_is_found():
    folding = fold_batch_norm(cnn(), trained(cnn()), X)
    assert folding.folded == tuple(FoldedPair(f"hidden_{i}", f"norm_{i}") for i in range(3))


def test_the_same_model_with_passing_norms_is_the_same_function():
    variables = trained(cnn())
    folding = fold_batch_norm(cnn(), variables, X)
    assert_same_function(cnn(), variables, cnn(), folding.variables)
    assert jax.tree.structure(folding.variables) == jax.tree.structure(variables)


def test_a_residual_network_folds_into_the_one_without_norms():
    model = ResNet((0, 1), (4, 8), 3, norm=BatchNorm, shortcut="projection")
    variables = trained(model)
    folding = fold_batch_norm(model, variables, X, remove=True)
    assert len(folding.folded) == 4
    assert_same_function(model, variables, model.clone(norm=None), folding.variables)


def test_the_folded_kernel_is_the_one_that_numpy_folds():
    model = mlp()
    variables = jax.tree.map(lambda a: np.asarray(a, np.float64), trained(model))
    folded = fold_batch_norm(model, trained(model), X, remove=True).variables["params"]["hidden_0"]
    norm, stats = variables["params"]["norm_0"], variables["batch_stats"]["norm_0"]
    factor = norm["scale"] / np.sqrt(stats["var"] + 1e-5)
    kernel = variables["params"]["hidden_0"]["kernel"] * factor
    np.testing.assert_allclose(folded["kernel"], kernel, rtol=1e-6)
    shift = norm["bias"] - stats["mean"] * factor
    np.testing.assert_allclose(folded["bias"], shift, rtol=1e-5, atol=1e-6)


def test_the_norm_left_in_place_passes_its_input_bit_for_bit():
    layer = BatchNorm(use_running_average=True, use_bias=False)
    model = nn.Sequential((nn.Dense(6), layer))
    variables = fold_batch_norm(model, trained(model), X).variables
    own = {name: variables[name]["layers_1"] for name in ("params", "batch_stats")}
    x = jax.random.normal(jax.random.key(0), (5, 6))
    np.testing.assert_array_equal(layer.apply(own, x), x)


class Chain(nn.Module):
    """A linear layer, what comes between, and a batch norm."""

    linear: type[nn.Module] = nn.Dense
    use_bias: bool = True
    transpose_kernel: bool = False
    norm_fields: tuple = ()
    between: str = "nothing"

    @nn.compact
    def __call__(self, x, *, train=False):
        norm = functools.partial(
            BatchNorm, use_running_average=not train, name="norm", **dict(self.norm_fields)
        )
        fields = {"use_bias": self.use_bias, "name": "linear"}
        if self.linear is not nn.Dense:
            fields["kernel_size"] = (2, 2)
        if self.linear is nn.ConvTranspose:
            fields["transpose_kernel"] = self.transpose_kernel
        linear = nn.remat(self.linear) if self.between == "rematerialization" else self.linear
        layer = linear(4, **fields)
        if self.between == "weight norm":
            layer = nn.WeightNorm(layer)
        y = layer(x)
        if self.between == "called twice":
            y = layer(y)
        if self.between == "activation":
            return norm()(nn.relu(y))
        if self.between == "skip":
            return norm()(y) + y
        if self.between == "norm twice":
            norm = norm()
            return norm(norm(y))
        if self.between == "tied":
            return norm()(y) @ layer.variables["params"]["kernel"].T
        return norm()(y)


LINEAR_LAYERS = [
    {"linear": nn.Dense},
    {"linear": nn.Conv},
    {"linear": nn.ConvTranspose},
    {"linear": nn.ConvTranspose, "transpose_kernel": True},
    {"norm_fields": (("use_scale", False),)},
    {"norm_fields": (("use_bias", False),), "use_bias": False},
    {"norm_fields": (("epsilon", 0.1),), "use_bias": False},
]


@pytest.mark.parametrize("fields", LINEAR_LAYERS, ids=str)
def test_every_kind_of_linear_layer_folds(fields):
    model = Chain(**fields)
    folding = fold_batch_norm(model, trained(model), X)
    assert folding.folded == (FoldedPair("linear", "norm"),)
    assert_same_function(model, trained(model), model, folding.variables)


NOT_FOLDED = {
    "activation": "not the output of a Dense",
    "skip": "the output of linear is also used elsewhere",
    "called twice": "linear is called 2 times",
    "norm twice": "it is called 2 times",
    "weight norm": "reaches it changed",
    "rematerialization": "not the output of a Dense|lifted transformation",
    "tied": "the parameters of linear are also used elsewhere",
}


@pytest.mark.parametrize("between", NOT_FOLDED)
def test_what_is_not_a_pair_stays_and_is_reported(between):
    model = Chain(between=between)
    x = X[..., :4] if between != "called twice" else jnp.ones((2, 4))
    variables = model.init(jax.random.key(0), x)
    folding = fold_batch_norm(model, variables, x)
    assert folding.folded == ()
    np.testing.assert_array_equal(
        jax.tree.leaves(folding.variables)[-1], jax.tree.leaves(variables)[-1]
    )
    assert jnp.array_equal(model.apply(folding.variables, x), model.apply(variables, x))
    [reason] = folding.kept.values()
    assert any(part in reason for part in NOT_FOLDED[between].split("|"))


def test_a_call_in_train_mode_folds_nothing_and_says_so():
    model = Chain()
    folding = fold_batch_norm(model, trained(model), X, train=True)
    assert folding.folded == ()
    assert "call the model in eval mode" in folding.kept["norm"]


def test_features_along_another_axis_stay():
    model = Chain(norm_fields=(("axis", 1),))
    assert "axis=1" in fold_batch_norm(model, trained(model), X).kept["norm"]


class Lifted(nn.Module):
    """A stack of pairs whose parameters have an axis for depth."""

    @nn.compact
    def __call__(self, x):
        def body(_, x):
            x = nn.Dense(8, name="linear")(x)
            return BatchNorm(use_running_average=True, name="norm")(x), None

        axes = {"params": 0, "batch_stats": 0}
        scan = nn.scan(body, variable_axes=axes, split_rngs={"params": True}, length=2)
        return scan(self, x)[0]


def test_layers_under_scan_stay():
    x = jnp.ones((2, 8))
    variables = Lifted().init(jax.random.key(0), x)
    folding = fold_batch_norm(Lifted(), variables, x)
    assert folding.folded == ()
    assert list(folding.kept) == ["norm"]


def test_folding_needs_no_data():
    model = mlp()
    shape = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    assert len(fold_batch_norm(model, trained(model), shape).folded) == 2


def test_folding_works_under_jit_and_for_stacked_seeds():
    model = mlp()
    stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), trained(model), trained(model, 1))
    fold = jax.jit(jax.vmap(lambda v: fold_batch_norm(model, v, X, remove=True).variables))
    alone = fold_batch_norm(model, trained(model, 1), X, remove=True).variables
    np.testing.assert_allclose(
        fold(stacked)["params"]["hidden_1"]["bias"][1],
        alone["params"]["hidden_1"]["bias"],
        rtol=1e-5,
        atol=1e-6,
    )
