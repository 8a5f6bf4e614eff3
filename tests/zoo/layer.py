"""Cases of the norms of each position over its features."""

import jax.numpy as jnp

from jaxnorm import (
    add_layer_norm,
    add_rms_norm,
    gated_rms_norm,
    p_rms_norm,
    pixel_norm,
    poly_norm,
    positional_norm,
    qk_norm,
    scale_norm,
)
from tests.zoo.cases import Case


def sums(values, mask):
    """Returns the sum over the last axis, and how many entries it has."""
    w = jnp.ones(values.shape) if mask is None else jnp.broadcast_to(mask, values.shape)
    w = w.astype(values.dtype)
    return (w * values).sum(-1, keepdims=True), w.sum(-1, keepdims=True)


def over_rms(x, epsilon, mask=None):
    total, count = sums(x**2, mask)
    root = jnp.sqrt(total / jnp.where(count > 0, count, 1) + epsilon)
    return x / jnp.where(count > 0, root, 1)


def p_rms_norm_oracle(x, scale, bias, mask=None):
    first = x[..., :2]  # a quarter of seven, rounded up
    total, count = sums(first**2, None if mask is None else mask[..., :2])
    root = jnp.sqrt(total / jnp.where(count > 0, count, 1) + 1e-6)
    return x / jnp.where(count > 0, root, 1) * scale + bias


def scale_norm_oracle(x, scale, mask=None):
    length = jnp.sqrt(sums(x**2, mask)[0])
    return scale * x / jnp.maximum(length, 1e-5)


def pixel_norm_oracle(x, mask=None):
    return over_rms(x, 1e-8, mask)


def centered(x, mask=None):
    total, count = sums(x, mask)
    return x - total / count


def over_std(x, epsilon, mask=None):
    return over_rms(centered(x, mask), epsilon, mask)


def positional_norm_oracle(x, mask=None):
    return over_std(x, 1e-5, mask)


def poly_norm_oracle(x, scale, bias, mask=None):
    third, second, first = (over_rms(x**p, 1e-6, mask) for p in (3, 2, 1))
    return scale[0] * third + scale[1] * second + scale[2] * first + bias


def cosine_oracle(x, k, temperature):
    # With `size * epsilon` added to the squares of the lengths.
    lengths = [jnp.sqrt((v**2).sum(-1, keepdims=True) + v.shape[-1] * 1e-6) for v in (x, k)]
    return temperature * x / lengths[0], k / lengths[1]


def per_head_oracle(x, k, q_scale, k_scale):
    return over_rms(x, 1e-6) * q_scale, over_rms(k, 1e-6) * k_scale


def layer_head_oracle(x, k, q_scale, k_scale):
    return over_std(x, 1e-6) * q_scale, over_std(k, 1e-6) * k_scale


def gated_rms_norm_oracle(x, z, scale, mask=None):
    return over_rms(x * z / (1 + jnp.exp(-z)), 1e-5, mask) * scale


def norm_before_gate_oracle(x, z, scale, mask=None):
    def half(values, part):
        return values if values is None else values[..., 4 * part : 4 * part + 4]

    parts = [over_rms(half(x, part), 1e-5, half(mask, part)) for part in (0, 1)]
    return jnp.concatenate(parts, -1) * scale * z / (1 + jnp.exp(-z))


def add_rms_norm_oracle(x, residual, scale, mask=None):
    total = x + residual
    return over_rms(total, 1e-6, mask) * scale, total


def add_layer_norm_oracle(x, residual, scale, bias, mask=None):
    total = x + residual
    return over_std(total, 1e-6, mask) * (1 + scale) + bias, total


def heads(rng):
    """Returns queries of three heads and keys of one."""
    return {"x": rng.normal(size=(2, 3, 6)), "k": rng.normal(size=(2, 1, 6))}


CASES = [
    Case(
        "p_rms_norm",
        call=lambda x, scale, bias, mask=None: p_rms_norm(x, scale, bias, share=0.25, mask=mask),
        oracle=p_rms_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(5, 3, 7)),
            "scale": rng.normal(size=7),
            "bias": rng.normal(size=7),
        },
        module={"share": 0.25},
        features=7,
    ),
    Case(
        "scale_norm",
        call=scale_norm,
        oracle=scale_norm_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(4, 7)), "scale": rng.uniform(2, 3)},
        module={},
        features=7,
    ),
    Case(
        "pixel_norm",
        call=pixel_norm,
        oracle=pixel_norm_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(5, 3, 7))},
        module={},
    ),
    Case(
        "positional_norm",
        call=lambda x, mask=None: positional_norm(x, mask=mask)[0],
        oracle=positional_norm_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(5, 3, 7))},
    ),
    Case(
        "poly_norm",
        call=poly_norm,
        oracle=poly_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 7)),
            "scale": rng.uniform(0.2, 0.5, size=3),
            "bias": rng.normal(),
        },
        module={},
    ),
    Case(
        "qk_norm",
        call=lambda x, k, temperature: qk_norm(x, k, temperature=temperature),
        oracle=cosine_oracle,
        arrays=lambda rng: {**heads(rng), "temperature": rng.uniform(5, 10)},
        moved=("x", "k"),
        module={},
        features=6,
        given=("k",),
    ),
    Case(
        "qk_norm",
        call=lambda x, k, q_scale, k_scale: qk_norm(
            x, k, q_scale, k_scale, kind="rms", feature_axes=(-2, -1)
        ),
        oracle=per_head_oracle,
        arrays=lambda rng: {
            **heads(rng),
            "q_scale": rng.normal(size=(3, 6)),
            "k_scale": rng.normal(size=(1, 6)),
        },
        variant="rms",
        moved=("x", "k"),
        module={"kind": "rms", "feature_axes": (-2, -1), "num_key_heads": 1},
        features=(3, 6),
        given=("k",),
    ),
    Case(
        "qk_norm",
        call=lambda x, k, q_scale, k_scale: qk_norm(x, k, q_scale, k_scale, kind="layer"),
        oracle=layer_head_oracle,
        arrays=lambda rng: {
            **heads(rng),
            "q_scale": rng.normal(size=6),
            "k_scale": rng.normal(size=6),
        },
        variant="layer",
        moved=("x", "k"),
        module={"kind": "layer"},
        features=6,
        given=("k",),
    ),
    Case(
        "gated_rms_norm",
        call=gated_rms_norm,
        oracle=gated_rms_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(5, 8)),
            "z": rng.normal(size=(5, 8)),
            "scale": rng.normal(size=8),
        },
        module={},
        features=8,
        given=("z",),
    ),
    Case(
        "gated_rms_norm",
        call=lambda x, z, scale, mask=None: gated_rms_norm(
            x, z, scale, norm_before_gate=True, num_groups=2, mask=mask
        ),
        oracle=norm_before_gate_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(5, 8)),
            "z": rng.normal(size=(5, 8)),
            "scale": rng.normal(size=8),
        },
        variant="norm_before_gate",
        module={"norm_before_gate": True, "num_groups": 2},
        features=8,
        given=("z",),
    ),
    Case(
        "add_rms_norm",
        call=add_rms_norm,
        oracle=add_rms_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(5, 7)),
            "residual": rng.normal(size=(5, 7)),
            "scale": rng.normal(size=7),
        },
        moved=("x", "residual"),
        module={},
        features=7,
        given=("residual",),
    ),
    Case(
        "add_layer_norm",
        call=lambda x, residual, scale, bias, mask=None: add_layer_norm(
            x, residual, scale, bias, zero_centered=True, mask=mask
        ),
        oracle=add_layer_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(5, 7)),
            "residual": rng.normal(size=(5, 7)),
            "scale": rng.normal(size=7),
            "bias": rng.normal(size=7),
        },
        moved=("x", "residual"),
        module={"zero_centered": True},
        features=7,
        given=("residual",),
    ),
]
