"""Cases of the norms that see their samples one after another."""

import functools

import jax.numpy as jnp

import jaxnorm
from tests.zoo.cases import Case


def affine(rng, *shape):
    return {"scale": rng.normal(size=shape), "bias": rng.normal(size=shape)}


def cumulative_oracle(x, scale, bias, *, mask=None, groups=1, epsilon=1e-6):
    w = jnp.ones(x.shape) if mask is None else mask.astype(x.dtype)
    parts = (*x.shape[:-1], groups, -1)
    x, w = x.reshape(parts), w.reshape(parts)
    axes, steps = (*range(1, x.ndim - 2), x.ndim - 1), []
    for t in range(x.shape[1]):
        past, share = x[:, : t + 1], w[:, : t + 1]
        count = share.sum(axes, keepdims=True)
        count = jnp.where(count > 0, count, 1)
        mean = (share * past).sum(axes, keepdims=True) / count
        var = (share * (past - mean) ** 2).sum(axes, keepdims=True) / count
        steps.append((x[:, t : t + 1] - mean) / jnp.sqrt(var + epsilon))
    y = jnp.concatenate(steps, 1)
    return y.reshape(*y.shape[:-2], -1) * scale + bias


CASES = [
    Case(
        "cumulative_layer_norm",
        call=jaxnorm.cumulative_layer_norm,
        oracle=cumulative_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(2, 5, 6)), **affine(rng, 6)},
        module={},
        features=6,
    ),
    Case(
        "cumulative_group_norm",
        call=functools.partial(jaxnorm.cumulative_group_norm, num_groups=2),
        oracle=functools.partial(cumulative_oracle, groups=2),
        arrays=lambda rng: {"x": rng.normal(size=(2, 5, 3, 4)), **affine(rng, 4)},
        module={"num_groups": 2},
        features=4,
    ),
]
