"""A folded network is the same function, and what cannot be proven is not folded."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm
from jaxnorm.linen import BatchNorm
from jaxnorm.models import ResNet
from jaxnorm.surgery import (
    FoldedPair,
    find_norms,
    fold_batch_norm,
    freeze_statistics,
    replace_norms,
)

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
@pytest.mark.sampled(2)
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
    groups: int = 1
    between: str = "nothing"

    @nn.compact
    def __call__(self, x, *, train=False):
        norm = functools.partial(
            BatchNorm, use_running_average=not train, name="norm", **dict(self.norm_fields)
        )
        fields = {"use_bias": self.use_bias, "name": "linear"}
        if self.linear is not nn.Dense:
            fields["kernel_size"] = (2, 2)
        if self.groups > 1:
            fields["feature_group_count"] = self.groups
            x = jnp.concatenate([x, -x, x[:, ::-1], x[:, :, ::-1]], axis=-1)
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
    {"linear": nn.Conv, "groups": 4},
    {"norm_fields": (("use_scale", False),)},
    {"norm_fields": (("use_bias", False),), "use_bias": False},
    {"norm_fields": (("epsilon", 0.1),), "use_bias": False},
]


@pytest.mark.parametrize("fields", LINEAR_LAYERS, ids=str)
@pytest.mark.sampled(6)
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
@pytest.mark.sampled(4)
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


class Before(nn.Module):
    """Norms before a layer, behind an activation, one after the other."""

    layer: nn.Module
    norms: int = 1

    @nn.compact
    def __call__(self, x):
        x = jnp.concatenate([jnp.tanh(x), jnp.sin(3 * x), jnp.cos(2 * x), x**2], axis=-1)
        for i in range(self.norms):
            x = BatchNorm(use_running_average=True, name=f"norm_{i}")(x)
        return self.layer(x)


BEFORE = {
    "dense": (nn.Dense(3), 1),
    "two norms": (nn.Dense(3), 2),
    "valid": (nn.Conv(6, (3, 2), padding="VALID", strides=2), 1),
    "circular": (nn.Conv(6, (3, 2), padding="CIRCULAR"), 2),
    "one pixel": (nn.Conv(6, (1, 1)), 1),
    "grouped": (nn.Conv(6, (2, 2), padding=0, feature_group_count=2), 1),
    "depthwise": (nn.Conv(8, (2, 2), padding="VALID", feature_group_count=4), 1),
}


@pytest.mark.parametrize("name", BEFORE)
@pytest.mark.sampled(2)
def test_a_norm_before_a_layer_folds_into_it(name):
    layer, norms = BEFORE[name]
    model = Before(layer, norms)
    variables = trained(model)
    folding = fold_batch_norm(model, variables, X, remove=True)
    assert folding.folded == tuple(FoldedPair("layer", f"norm_{i}", "before") for i in range(norms))
    assert_same_function(model, variables, Before(layer, 0), folding.variables)
    passing = fold_batch_norm(model, variables, X).variables
    assert_same_function(model, variables, model, passing)


BEFORE_NOT = {
    "layer adds zeros to the normalized input": nn.Conv(3, (2, 2)),
    "layer is transposed": nn.ConvTranspose(3, (2, 2), padding="VALID"),
    "layer has no bias for its shift, which remove=True": nn.Dense(3, use_bias=False),
}


@pytest.mark.parametrize("reason", BEFORE_NOT)
def test_a_norm_before_a_layer_that_cannot_take_its_shift_stays(reason):
    model = Before(BEFORE_NOT[reason])
    variables = trained(model)
    folding = fold_batch_norm(model, variables, X)
    assert folding.folded == ()
    assert f"ConvTranspose layer, and {reason}" in folding.kept["norm_0"]
    assert jax.tree.all(jax.tree.map(np.array_equal, folding.variables, variables))


def test_norms_in_a_row_fold_into_the_layer_before_them_also_without_a_bias():
    norm = functools.partial(BatchNorm, use_running_average=True)
    model = nn.Sequential((nn.Dense(5, use_bias=False), norm(), norm(), nn.Dense(4), norm()))
    variables = trained(model)
    folding = fold_batch_norm(model, variables, X)
    assert [pair.norm for pair in folding.folded] == ["layers_1", "layers_2", "layers_4"]
    assert_same_function(model, variables, model, folding.variables)
    bare = nn.Sequential((nn.Dense(5), jnp.asarray, jnp.asarray, nn.Dense(4)))
    removed = fold_batch_norm(model, variables, X, remove=True).variables
    assert_same_function(model, variables, bare, removed)


def test_a_model_with_exchanged_or_frozen_norms_folds_by_the_norms_that_run():
    model = mlp(nn.BatchNorm)
    variables = trained(model)
    rule = {"batch_norm": functools.partial(BatchNorm, epsilon=0.5)}
    for changed, options in (
        (replace_norms(model, rule).model, {}),
        (freeze_statistics(model), {"train": True}),
    ):
        folding = fold_batch_norm(changed, variables, X, **options)
        assert [pair.norm for pair in folding.folded] == ["norm_0", "norm_1"]
        assert_same_function(changed, variables, changed, folding.variables)
    grouped = replace_norms(model, {"batch_norm": "layer_norm"}, variables, X)
    folding = fold_batch_norm(grouped.model, grouped.variables, X)
    assert (folding.folded, folding.kept) == ((), {})


class Network(nnx.Module):
    """An nnx network with a norm in every place, two of them not to be folded."""

    def __init__(self, rngs, norm=jaxnorm.nnx.BatchNorm):
        self.conv = nnx.Conv(1, 4, (3, 3), use_bias=False, rngs=rngs)
        self.norms = nnx.List([norm(4, rngs=rngs) for _ in range(4)])
        self.depthwise = nnx.Conv(4, 4, (2, 2), feature_group_count=4, padding="VALID", rngs=rngs)
        self.up = nnx.ConvTranspose(4, 4, (2, 2), rngs=rngs)
        self.first = norm(4, rngs=rngs)
        self.out = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norms[0](self.conv(x)))
        x = nnx.tanh(self.norms[1](self.depthwise(x)))
        x = self.norms[2](self.up(x)) + x.mean()
        x = self.out(self.first(nnx.relu(x)))
        return x


@pytest.mark.parametrize("norm", [jaxnorm.nnx.BatchNorm, nnx.BatchNorm])
def test_an_nnx_network_folds_into_the_one_without_norms(norm):
    rng = np.random.default_rng(0)
    model = Network(nnx.Rngs(0), norm)
    for path, variable in nnx.to_flat_state(nnx.state(model)):
        sign = 1 if path[-1] == "var" else rng.choice([-1, 1], variable.shape)
        variable[...] = jnp.asarray(sign * rng.uniform(0.5, 2, variable.shape), variable.dtype)
    model.eval()
    before = np.asarray(model(X), np.float64)
    for remove in (False, True):
        folding = fold_batch_norm(model, X, remove=remove)
        assert [tuple(pair) for pair in folding.folded] == [
            ("conv", "norms/0", "after"),
            ("depthwise", "norms/1", "after"),
            ("up", "norms/2", "after"),
            ("out", "first", "before"),
        ]
        assert folding.kept == {}
        after = np.asarray(folding.model(X), np.float64)
        np.testing.assert_allclose(after, before, rtol=0, atol=8 * BOUND * np.abs(before).max())
        left = [row.path for row in find_norms(folding.model).rows]
        assert left == (["norms/3"] if remove else [row.path for row in find_norms(model).rows])


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


def test_a_norm_with_an_activation_is_not_folded():
    model = nn.Sequential([nn.Dense(3), BatchNorm(use_running_average=True, activation="relu")])
    x = jnp.array([[1.0, -2.0]])
    variables = model.init(jax.random.key(0), x)
    folding = fold_batch_norm(model, variables, x, remove=True)
    assert folding.folded == ()
    assert folding.kept == {"layers_1": "it applies relu, which no kernel can hold"}
