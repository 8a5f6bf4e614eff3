"""Cases of the pointwise functions."""

import jax.numpy as jnp
from jax.scipy.special import erf

import jaxnorm
from tests.zoo.cases import Case


def affine(y, scale, bias):
    return scale * y + bias


def arrays(*numbers, vectors=("scale", "bias")):
    def draw(rng):
        x = {"x": rng.normal(size=(4, 3, 6))}
        drawn = {name: rng.normal(size=6) for name in vectors}
        return {**x, **{name: rng.uniform(0.3, 0.7) for name in numbers}, **drawn}

    return draw


def with_branch(rng):
    return {
        "x": rng.normal(size=(4, 6)),
        "branch": rng.normal(size=(4, 6)),
        "alpha": rng.uniform(0.3, 0.7),
    }


CASES = [
    Case(
        "dynamic_tanh",
        call=jaxnorm.dynamic_tanh,
        oracle=lambda x, alpha, scale, bias: affine(jnp.tanh(alpha * x), scale, bias),
        arrays=arrays("alpha"),
        module={},
        features=6,
    ),
    Case(
        "dynamic_erf",
        call=jaxnorm.dynamic_erf,
        oracle=lambda x, alpha, shift, scale, bias: affine(erf(alpha * x + shift), scale, bias),
        arrays=arrays("alpha", "shift"),
        module={},
        features=6,
    ),
    Case(
        "thresholded_linear_unit",
        call=jaxnorm.thresholded_linear_unit,
        oracle=lambda x, threshold: jnp.where(x > threshold, x, threshold),
        arrays=arrays(vectors=("threshold",)),
        module={},
        features=6,
    ),
    Case(
        "layer_scale",
        call=jaxnorm.layer_scale,
        oracle=lambda x, scale: x * scale,
        arrays=arrays(vectors=("scale",)),
        module={},
        features=6,
    ),
    Case(
        "re_zero",
        call=jaxnorm.re_zero,
        oracle=lambda x, branch, alpha: x + alpha * branch,
        arrays=with_branch,
        module={},
        given=("branch",),
    ),
    Case(
        "skip_init",
        call=jaxnorm.skip_init,
        oracle=lambda x, alpha: alpha * x,
        arrays=arrays("alpha", vectors=()),
        module={},
    ),
]
