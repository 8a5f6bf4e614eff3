"""Cases of the norms over the batch that have more to them than batch normalization."""

import functools

import jax.numpy as jnp
from jax.lax import stop_gradient

import jaxnorm
from jaxnorm import BatchStats, ema
from tests.zoo.cases import Case

DECAY, EPSILON = 0.7, 1e-5


def sample(x, mask=None, axes=(0, 1)):
    """Returns mean and variance over `axes`, which stay."""
    w = jnp.ones(x.shape) if mask is None else mask.astype(x.dtype)
    count = w.sum(axes, keepdims=True)
    mean = (w * x).sum(axes, keepdims=True) / count
    return mean, (w * (x - mean) ** 2).sum(axes, keepdims=True) / count


def blend(old, new):
    return DECAY * old + (1 - DECAY) * new.reshape(old.shape)


def training(function, **options):
    """Returns a call in training mode, whose state is the arrays `mean` and `var`."""

    def call(x, mean, var, *, mask=None, **arrays):
        how = {"use_running_average": False, "estimator": ema(DECAY), "mask": mask, **options}
        y, stats = function(x, BatchStats(mean, var), **arrays, **how)
        return {"y": y, "mean": stats.mean, "var": stats.var}

    return call


def running(rng, *shape):
    return {"mean": rng.normal(size=shape), "var": rng.uniform(0.5, 1.5, shape)}


def affine(rng, *shape):
    return {"scale": rng.normal(size=shape), "bias": rng.normal(size=shape)}


def batch_renorm_oracle(x, mean, var, scale, bias, *, mask=None, r_max, d_max):
    own, own_var = sample(x, mask)
    sd, own_sd = jnp.sqrt(var + EPSILON), jnp.sqrt(own_var + EPSILON)
    r = stop_gradient(jnp.clip(own_sd / sd, 1 / r_max, r_max))
    d = stop_gradient(jnp.clip((own - mean) / sd, -d_max, d_max))
    y = ((x - own) / own_sd * r + d) * scale + bias
    return {"y": y, "mean": blend(mean, own), "var": blend(var, own_var)}


def ema_batch_norm_oracle(x, mean, var, scale, bias, *, mask=None):
    own, own_var = sample(x, mask)
    mean, var = blend(mean, own), blend(var, own_var)
    return {"y": (x - mean) / jnp.sqrt(var + EPSILON) * scale + bias, "mean": mean, "var": var}


def mean_only_batch_norm_oracle(x, mean, var, bias, *, mask=None):
    own, own_var = sample(x, mask)
    return {"y": x - own + bias, "mean": blend(mean, own), "var": blend(var, own_var)}


STATE = ("mean", "var")
MOVING = {"decay": DECAY}
# One bound of each kind holds in some features and not in others.
BOUNDS = {"r_max": 1.3, "d_max": 0.5}

CASES = [
    Case(
        "batch_renorm",
        call=training(jaxnorm.batch_renorm, **BOUNDS),
        oracle=functools.partial(batch_renorm_oracle, **BOUNDS),
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 5)),
            **running(rng, 5),
            **affine(rng, 5),
        },
        module={**MOVING, **BOUNDS},
        features=5,
        state=STATE,
    ),
    Case(
        "ema_batch_norm",
        call=training(jaxnorm.ema_batch_norm),
        oracle=ema_batch_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 5)),
            **running(rng, 5),
            **affine(rng, 5),
        },
        module=MOVING,
        features=5,
        state=STATE,
    ),
    Case(
        "mean_only_batch_norm",
        call=training(jaxnorm.mean_only_batch_norm),
        oracle=mean_only_batch_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 5)),
            **running(rng, 5),
            "bias": rng.normal(size=5),
        },
        module=MOVING,
        features=5,
        state=STATE,
    ),
]
