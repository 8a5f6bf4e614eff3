"""Cases of the norms over the batch that have more to them than batch normalization."""

import functools

import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient

import jaxnorm
from jaxnorm import BatchStats, L1State, ema
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


def virtual_batch_norm_oracle(x, reference, scale, bias, *, mask=None, include_example=True):
    w = jnp.ones(x.shape) if mask is None else mask.astype(x.dtype)
    mean, var = sample(reference)

    def normalized(example, share):
        both = jnp.concatenate([reference, example[None]])
        weights = jnp.concatenate([jnp.ones(reference.shape), share[None]])
        own, own_var = sample(both, weights) if include_example else (mean, var)
        return (example - own[0]) / jnp.sqrt(own_var[0] + EPSILON)

    y = jnp.stack([normalized(x[i], w[i]) for i in range(len(x))])
    y_reference = (reference - mean) / jnp.sqrt(var + EPSILON)
    return y * scale + bias, y_reference * scale + bias


def split_batch_norm_oracle(x, mean, var, scale, bias, *, mask=None):
    parts, size = len(mean), len(x) // len(mean)
    w = jnp.ones(x.shape) if mask is None else mask
    ys, means, variances = [], [], []
    for s in range(parts):
        at = slice(s * size, (s + 1) * size)
        own, own_var = sample(x[at], w[at])
        gain, shift = (scale, bias) if scale.ndim == 1 else (scale[s], bias[s])
        ys.append((x[at] - own) / jnp.sqrt(own_var + EPSILON) * gain + shift)
        means.append(blend(mean[s], own))
        variances.append(blend(var[s], own_var))
    return {"y": jnp.concatenate(ys), "mean": jnp.stack(means), "var": jnp.stack(variances)}


def domain_batch_norm_oracle(x, mean, var, scale, bias, domain, *, mask=None):
    w = jnp.ones(x.shape) if mask is None else mask.astype(x.dtype)
    y, means, variances = jnp.zeros(x.shape), [], []
    for d in range(len(mean)):
        member = (domain == d).reshape(-1, *(1,) * (x.ndim - 1))
        some = d in THERE
        own, own_var = sample(x, w * member) if some else (mean[d], var[d])
        sd = jnp.sqrt(own_var + EPSILON)
        gain, shift = (scale, bias) if scale.ndim == 1 else (scale[d], bias[d])
        y = jnp.where(member, (x - own) / sd * gain + shift, y)
        means.append(blend(mean[d], own) if some else mean[d])
        variances.append(blend(var[d], own_var) if some else var[d])
    return {"y": y, "mean": jnp.stack(means), "var": jnp.stack(variances)}


def recurrent_batch_norm_oracle(x, mean, var, step, scale, bias, *, mask=None):
    own, own_var = sample(x, mask)
    row = jnp.minimum(step, len(mean) - 1)
    y = (x - own) / jnp.sqrt(own_var + EPSILON) * scale + bias
    mean = mean.at[row].set(blend(mean[row], own))
    return {"y": y, "mean": mean, "var": var.at[row].set(blend(var[row], own_var))}


def l1_batch_norm_call(x, mean, deviation, scale, bias, *, mask=None):
    how = {"use_running_average": False, "decay": DECAY, "mask": mask}
    y, state = jaxnorm.l1_batch_norm(x, L1State(mean, deviation), scale, bias, **how)
    return {"y": y, **state._asdict()}


def l1_batch_norm_oracle(x, mean, deviation, scale, bias, *, mask=None):
    w = jnp.ones(x.shape) if mask is None else mask.astype(x.dtype)
    count, (own, _) = w.sum((0, 1)), sample(x, mask)
    own_deviation = jnp.sqrt(jnp.pi / 2) * (w * jnp.abs(x - own)).sum((0, 1)) / count
    y = (x - own) / (own_deviation + EPSILON) * scale + bias
    return {"y": y, "mean": blend(mean, own), "deviation": blend(deviation, own_deviation)}


def batch_group_norm_oracle(x, mean, var, scale, bias, *, mask=None):
    w = jnp.ones(x.shape) if mask is None else mask
    # Channels first, as the paper has them.
    parts = (len(x), len(mean), -1)
    values, shares = (jnp.moveaxis(v, -1, 1).reshape(parts) for v in (x, w))
    own, own_var = sample(values, shares, (0, 2))
    y = (values - own) / jnp.sqrt(own_var + EPSILON)
    y = jnp.moveaxis(y.reshape(len(x), x.shape[-1], *x.shape[1:-1]), 1, -1)
    return {"y": y * scale + bias, "mean": blend(mean, own), "var": blend(var, own_var)}


STATE = ("mean", "var")
MOVING = {"decay": DECAY}
# The domains of the examples; none is of domain 1.
DOMAIN = np.array([2, 0, 0, 2, 2, 0], np.int32)
THERE = (0, 2)
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
    Case(
        "virtual_batch_norm",
        call=jaxnorm.virtual_batch_norm,
        oracle=virtual_batch_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 5)),
            "reference": rng.normal(size=(4, 3, 5)),
            **affine(rng, 5),
        },
        moved=("x", "reference"),
        module={},
        features=5,
        given=("reference",),
    ),
    Case(
        "virtual_batch_norm",
        variant="without the example",
        call=functools.partial(jaxnorm.virtual_batch_norm, include_example=False),
        oracle=functools.partial(virtual_batch_norm_oracle, include_example=False),
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 5)),
            "reference": rng.normal(size=(4, 3, 5)),
            **affine(rng, 5),
        },
        moved=("x", "reference"),
        module={"include_example": False},
        features=5,
        given=("reference",),
    ),
    Case(
        "split_batch_norm",
        call=training(jaxnorm.split_batch_norm),
        oracle=split_batch_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(6, 3, 5)),
            **running(rng, 2, 5),
            **affine(rng, 2, 5),
        },
        module=MOVING,
        features=5,
        state=STATE,
    ),
    Case(
        "split_batch_norm",
        variant="shared affine",
        call=training(jaxnorm.split_batch_norm, shared_affine=True, num_splits=3),
        oracle=split_batch_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(6, 2, 5)),
            **running(rng, 3, 5),
            **affine(rng, 5),
        },
        module={**MOVING, "shared_affine": True, "num_splits": 3},
        features=5,
        state=STATE,
    ),
    Case(
        "domain_batch_norm",
        call=training(jaxnorm.domain_batch_norm, num_domains=3),
        oracle=domain_batch_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(6, 3, 5)),
            "domain": DOMAIN,
            **running(rng, 3, 5),
            **affine(rng, 3, 5),
        },
        module={**MOVING, "num_domains": 3},
        features=5,
        given=("domain",),
        state=STATE,
    ),
    Case(
        "domain_batch_norm",
        variant="shared affine",
        call=training(jaxnorm.domain_batch_norm, num_domains=3, shared_affine=True),
        oracle=domain_batch_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(6, 3, 5)),
            "domain": DOMAIN,
            **running(rng, 3, 5),
            **affine(rng, 5),
        },
        module={**MOVING, "num_domains": 3, "shared_affine": True},
        features=5,
        given=("domain",),
        state=STATE,
    ),
    Case(
        "recurrent_batch_norm",
        call=training(jaxnorm.recurrent_batch_norm, max_steps=3),
        oracle=recurrent_batch_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 5)),
            "step": 1,
            **running(rng, 3, 5),
            **affine(rng, 5),
        },
        module={**MOVING, "max_steps": 3},
        features=5,
        given=("step",),
        state=STATE,
    ),
    Case(
        "l1_batch_norm",
        call=l1_batch_norm_call,
        oracle=l1_batch_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 5)),
            "mean": rng.normal(size=5),
            "deviation": rng.uniform(0.5, 1.5, 5),
            **affine(rng, 5),
        },
        module=MOVING,
        features=5,
        state=("mean", "deviation"),
    ),
    Case(
        "batch_group_norm",
        call=training(jaxnorm.batch_group_norm, num_groups=3),
        oracle=batch_group_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(3, 2, 2, 6)),
            **running(rng, 3),
            **affine(rng, 6),
        },
        module={**MOVING, "num_groups": 3},
        features=6,
        state=STATE,
    ),
    Case(
        "batch_group_norm",
        variant="more groups than channels",
        call=training(jaxnorm.batch_group_norm, num_groups=6),
        oracle=batch_group_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(5, 2, 2, 3)),
            **running(rng, 6),
            **affine(rng, 3),
        },
        module={**MOVING, "num_groups": 6},
        features=3,
        state=STATE,
    ),
    Case(
        "batch_group_norm",
        variant="groups that end within channels",
        call=training(jaxnorm.batch_group_norm, num_groups=4),
        oracle=batch_group_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(3, 2, 2, 6)),
            **running(rng, 4),
            **affine(rng, 6),
        },
        module={**MOVING, "num_groups": 4},
        features=6,
        state=STATE,
    ),
]
