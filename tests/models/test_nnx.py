"""The models of nnx have the variables of the linen models and compute the same numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnorm.linen
import jaxnorm.nnx
from jaxnorm import models
from jaxnorm._views import NnxApply
from jaxnorm.surgery import get_variables, with_variables
from tests.models import reference

IMAGES = np.random.default_rng(0).standard_normal((4, 7, 6, 3)).astype(np.float32)
TOKENS = np.random.default_rng(1).integers(0, 11, (2, 6))
TOLERANCE = 1e-5


def mlp(room, **fields):
    return room.MLP(*([126] if room is models.nnx else []), (5, 4), 3, **fields)


def resnet(room, **fields):
    return room.ResNet(*([3] if room is models.nnx else []), (1, 1), (4, 8), 5, **fields)


def transformer(room, **fields):
    return room.Transformer(11, 8, 2, 2, 6, **fields)


CASES = {
    "mlp": (mlp, IMAGES, {"norm": "batch_norm"}),
    "mlp without norm": (mlp, IMAGES, {}),
    "mlp with biases": (mlp, IMAGES, {"norm": "rms_norm", "use_bias": True}),
    "resnet": (resnet, IMAGES, {"zero_init_residual": True}),
    "resnet with projections": (resnet, IMAGES, {"shortcut": "projection", "norm": "group_norm2"}),
    "transformer": (transformer, TOKENS, {"qk_norm": True}),
    "transformer, sub": (transformer, TOKENS, {"placement": "sub", "norm": "dynamic_tanh"}),
    "transformer, peri": (transformer, TOKENS, {"placement": "peri"}),
    "transformer, deep": (transformer, TOKENS, {"placement": "deep", "norm": "rms_norm"}),
    "transformer, post": (transformer, TOKENS, {"placement": "post", "norm": None}),
}


def fields_of(fields, room):
    """Returns the fields with a factory of the room for group norm, which no name stands for."""
    if fields.get("norm") == "group_norm2":
        return {**fields, "norm": functools.partial(room.GroupNorm, num_groups=2)}
    return fields


def linen_and_nnx(name):
    """Returns the linen model, its variables at random, the nnx model with them, and an input."""
    make, x, fields = CASES[name]
    linen = make(models, **fields_of(fields, jaxnorm.linen))
    variables = reference.random_variables(linen, x)
    given = fields_of(fields, jaxnorm.nnx)
    made = nnx.eval_shape(lambda: make(models.nnx, **given, rngs=nnx.Rngs(0)))
    shapes = jax.tree.map(jnp.shape, get_variables(made))
    assert shapes == jax.tree.map(jnp.shape, variables)
    return linen, variables, with_variables(made, variables), x


@pytest.mark.parametrize("name", CASES)
@pytest.mark.sampled(4)
def test_output_and_statistics_are_those_of_linen(name):
    linen, variables, model, x = linen_and_nnx(name)

    def train_and_evaluate(apply, variables, x):
        y, updated = apply(variables, x, train=True, mutable=["batch_stats"])
        return y, updated, apply({**variables, **updated}, x, train=False)

    run = jax.jit(train_and_evaluate, static_argnums=0)
    apply, own = NnxApply.of(model)
    (y, updated, after), (z, moved, later) = run(linen.apply, variables, x), run(apply, own, x)
    for got, want in ((z, y), (later, after)):
        np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * np.abs(want).max())
    close = functools.partial(np.testing.assert_allclose, rtol=TOLERANCE, atol=TOLERANCE)
    jax.tree.map(close, moved, dict(updated))


def filled(make):
    """Returns the model that `make` makes of keys, its parameters at random, nothing compiled."""
    model = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    own = get_variables(model)
    params = jax.tree.map(lambda v: jnp.asarray(rng.normal(size=v.shape), v.dtype), own["params"])
    streams = {"rngs": jax.tree.map(zeros_or_key, own["rngs"])} if "rngs" in own else {}
    return with_variables(model, {"params": params, **streams})


def zeros_or_key(form):
    is_key = jnp.issubdtype(form.dtype, jax.dtypes.prng_key)
    return jax.random.key(3) if is_key else jnp.zeros(form.shape, form.dtype)


def test_dropout_acts_in_training_only():
    model = filled(lambda rngs: mlp(models.nnx, dropout_rate=0.5, rngs=rngs))
    plain = filled(lambda rngs: mlp(models.nnx, rngs=rngs))
    assert (np.asarray(model(IMAGES)) != plain(IMAGES)).any()
    model.eval()
    np.testing.assert_array_equal(model(IMAGES), plain(IMAGES))


def test_kernels_are_normalized_by_what_is_asked_for():
    fields = {"norm": "layer_norm", "kernel_norm": "weight_standardization"}
    model = filled(lambda rngs: resnet(models.nnx, **fields, rngs=rngs))
    plain = filled(lambda rngs: resnet(models.nnx, norm="layer_norm", rngs=rngs))
    params = get_variables(model)["params"]

    def unwrapped(tree):
        if not isinstance(tree, dict):
            return tree
        inner = tree.get("layer_instance", tree)
        return {name: unwrapped(below) for name, below in inner.items()}

    def standardized(path, leaf):
        conv = path[-1].key == "kernel" and leaf.ndim == 4
        return jaxnorm.weight_standardization(leaf) if conv else leaf

    given = jax.tree_util.tree_map_with_path(standardized, unwrapped(params))
    run = jax.jit(lambda model, x: model(x))
    want = run(with_variables(plain, {"params": given}), IMAGES)
    scale = np.abs(want).max()
    np.testing.assert_allclose(run(model, IMAGES), want, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda r: resnet(models.nnx, shortcut="skip", rngs=r), "shortcut='skip' is unknown"),
        (lambda r: models.nnx.BasicBlock(8, 4, rngs=r), "cannot narrow 8 of them to width=4"),
        (lambda r: models.nnx.ResNet(3, (1,), (4, 8), 5, rngs=r), "has 1 stages, but"),
        (lambda r: models.nnx.TransformerBlock(5, 2, 8, rngs=r), "num_heads=2 do not divide the 5"),
        (lambda r: transformer(models.nnx, placement="mid", rngs=r), "placement='mid' is unknown"),
        (lambda r: transformer(models.nnx, rngs=r)(jnp.zeros((1, 7), int)), "max_length=6"),
        (lambda r: resnet(models.nnx, rngs=r)(jnp.zeros((1, 7))), r"got x \[1, 7\]"),
        (
            lambda r: models.nnx.make_norm("pixel_norm", 3, rngs=r, scale_init=None),
            "norm=PixelNorm takes no scale_init",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_numbers(make, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: make(nnx.Rngs(0)))
