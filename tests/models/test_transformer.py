"""The language model: causality, the places of the norms against float64 NumPy, DeepNorm."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import linen
from jaxnorm.models import Transformer, TransformerBlock, residual_constants
from tests.models.reference import float64, random_variables

X = np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)
TOKENS = np.random.default_rng(1).integers(0, 11, (2, 6))
PLACEMENTS = ("pre", "post", "peri", "sub", "deep")
every_placement = pytest.mark.parametrize("placement", PLACEMENTS)


def model(**fields) -> Transformer:
    return Transformer(11, width=8, num_layers=2, num_heads=2, max_length=6, **fields)


def normed(x, layer):
    centred = x - x.mean(-1, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return y * layer["scale"] + layer["bias"]


def root_mean_square(x, layer):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * layer["scale"]


def dense(x, layer):
    return x @ layer["kernel"] + layer["bias"]


def attention(x, p, inner, qk_norm):
    out = np.zeros_like(x)
    for n in range(len(x)):
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            q, k, v = (dense(x[n], p[name])[:, part] for name in ("query", "key", "value"))
            if qk_norm:
                q, k = root_mean_square(q, p["norm_query"]), root_mean_square(k, p["norm_key"])
            for t in range(x.shape[1]):
                weights = np.exp(k[: t + 1] @ q[t] / 2)
                out[n, t, part] = weights @ v[: t + 1] / weights.sum()
    return dense(normed(out, p[inner]) if inner else out, p["attention_out"])


def feed_forward(x, p, inner):
    hidden = np.tanh(dense(x, p["mlp_in"]))
    return dense(normed(hidden, p[inner]) if inner else hidden, p["mlp_out"])


def reference_block(x, p, placement, alpha, qk_norm):
    sub = placement == "sub"
    layers = {
        "attention": lambda y: attention(y, p, "norm_attention_inner" if sub else None, qk_norm),
        "mlp": lambda y: feed_forward(y, p, "norm_mlp_inner" if sub else None),
    }
    for name, f in layers.items():
        if placement in ("post", "deep"):
            x = normed((alpha if placement == "deep" else 1) * x + f(x), p[f"norm_{name}"])
        else:
            y = f(normed(x, p[f"norm_{name}"]))
            x = x + (normed(y, p[f"norm_{name}_out"]) if placement == "peri" else y)
    return x


@every_placement
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.sampled(6)
def test_a_block_is_the_one_by_hand(placement, qk_norm):
    block = TransformerBlock(
        2, 16, linen.LayerNorm, placement, qk_norm, activation=nn.tanh, alpha=1.5
    )
    variables = random_variables(block, X, affine=0.5)
    want = reference_block(
        X.astype(np.float64), float64(variables["params"]), placement, 1.5, qk_norm
    )
    np.testing.assert_allclose(block.apply(variables, X), want, rtol=0, atol=2e-5)


@every_placement
@pytest.mark.sampled(2)
def test_a_position_depends_on_earlier_tokens_only(placement):
    net = model(placement=placement, qk_norm=True)
    variables = net.init(jax.random.key(0), TOKENS)
    changed = TOKENS.copy()
    changed[:, 4:] = (changed[:, 4:] + 3) % 11
    a, b = net.apply(variables, TOKENS), net.apply(variables, changed)
    np.testing.assert_allclose(a[:, :4], b[:, :4], rtol=0, atol=1e-6)
    assert (np.abs(a - b)[:, 4:].max(-1) > 1e-3).all()


@every_placement
def test_norms_stand_where_the_placement_says(placement):
    params = jax.eval_shape(model(placement=placement).init, jax.random.key(0), TOKENS)["params"]
    block = {"norm_attention", "norm_mlp"}
    further = {
        "peri": {"norm_attention_out", "norm_mlp_out"},
        "sub": {"norm_attention_inner", "norm_mlp_inner"},
    }
    found = {name for name in params["block_1"] if name.startswith("norm")}
    assert found == block | further.get(placement, set())
    assert ("norm_out" in params) == (placement in ("pre", "peri", "sub"))


def test_deep_norm_has_the_constants_of_a_decoder():
    # Wang et al. 2022, figure 2: for a decoder alone (2 M)^(1/4) and (8 M)^(-1/4).
    alpha, beta = residual_constants("deep", 6)
    assert alpha == pytest.approx(12**0.25)
    assert beta == pytest.approx(48**-0.25)
    assert residual_constants("sub", 6) == (1.0, pytest.approx(math.sqrt(math.log(12))))


@pytest.mark.parametrize("placement", ["pre", "deep"])
def test_kernels_start_with_the_gain_except_those_of_query_and_key(placement):
    net = Transformer(3, 64, num_layers=2, num_heads=2, max_length=2, placement=placement)
    params = net.init(jax.random.key(0), jnp.zeros((1, 2), int))["params"]["block_0"]
    beta = 16**-0.25 if placement == "deep" else 1.0
    for name in ("query", "key", "value", "attention_out", "mlp_in", "mlp_out"):
        kernel = np.asarray(params[name]["kernel"])
        xavier = math.sqrt(2 / sum(kernel.shape))
        gain = 1.0 if name in ("query", "key") else beta
        # The standard deviation of n draws is within 5 / sqrt(2 n) of the true one, five sigma.
        np.testing.assert_allclose(kernel.std(), gain * xavier, rtol=5 / math.sqrt(2 * kernel.size))


def test_the_network_under_deep_weighs_its_residual_stream():
    net = model(placement="deep", activation=nn.tanh)
    variables = net.init(jax.random.key(0), TOKENS)
    p = float64(variables["params"])
    x = p["embedding"]["embedding"][TOKENS] + p["positions"]["embedding"][:6]
    for i in range(2):
        x = reference_block(x, p[f"block_{i}"], "deep", 4**0.25, False)
    want = dense(x, p["output"])
    np.testing.assert_allclose(net.apply(variables, TOKENS), want, rtol=0, atol=2e-5)


def test_softmax_and_logits_are_float32_where_the_blocks_are_bfloat16():
    net = model(dtype="bfloat16")
    variables = net.init(jax.random.key(0), TOKENS)
    program = str(jax.make_jaxpr(net.apply)(variables, TOKENS))
    assert "exp" in program
    assert all(":f32" in line for line in program.splitlines() if " = exp " in line)
    assert net.apply(variables, TOKENS).dtype == jnp.float32


@pytest.mark.parametrize("name", ["batch_norm", "rms_norm", "dynamic_tanh"])
def test_a_norm_is_given_by_its_name(name):
    net = model(norm=name)
    variables = net.init(jax.random.key(0), TOKENS, train=True)
    y, _ = net.apply(variables, TOKENS, train=True, mutable=["batch_stats"])
    assert y.shape == (2, 6, 11)


def test_a_norm_of_kernels_wraps_the_dense_layers():
    params = model(norm=None, kernel_norm="weight_norm").init(jax.random.key(0), TOKENS)["params"]
    assert {"query_normed", "mlp_out_normed"} <= set(params["block_0"])


@pytest.mark.parametrize(
    ("fields", "tokens", "message"),
    [
        ({"placement": "before"}, TOKENS, "placement='before' is unknown; use one of pre, post"),
        ({}, TOKENS[0], r"tokens \[N, T\] with T at most max_length=6, got \[6\]"),
        ({}, np.zeros((1, 7), int), r"max_length=6, got \[1, 7\]"),
    ],
)
def test_what_does_not_fit_is_refused(fields, tokens, message):
    with pytest.raises(ValueError, match=message):
        model(**fields).init(jax.random.key(0), tokens)


def test_heads_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match="num_heads=3 do not divide the 8 channels"):
        TransformerBlock(3, 4).init(jax.random.key(0), X)
