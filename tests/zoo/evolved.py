"""Cases of the EvoNorms."""

import jax
import jax.numpy as jnp

import jaxnorm
from jaxnorm import BatchStats, ema
from tests.zoo.cases import Case


def moments(x, axes, mask):
    """Returns the variance and the mean square over axes."""
    w = jnp.ones_like(x) if mask is None else mask.astype(x.dtype)
    count = w.sum(axes, keepdims=True)
    mean = (w * x).sum(axes, keepdims=True) / count
    var = (w * (x - mean) ** 2).sum(axes, keepdims=True) / count
    return mean, var, (w * x**2).sum(axes, keepdims=True) / count


def b(rival, epsilon=1e-5):
    def oracle(x, mean, var, scale, bias, gate=1.0, mask=None):
        batch_mean, batch_var, _ = moments(x, (0, 1), mask)
        _, own_var, own_square = moments(x, (1,), mask)
        own = rival(x, gate, jnp.sqrt(own_var + epsilon), jnp.sqrt(own_square + epsilon))
        y = x / jnp.maximum(jnp.sqrt(batch_var + epsilon), own) * scale + bias
        new_mean = 0.99 * mean + 0.01 * batch_mean.reshape(-1)
        return {"y": y, "mean": new_mean, "var": 0.99 * var + 0.01 * batch_var.reshape(-1)}

    return oracle


def running(function):
    def call(x, mean, var, mask=None, **parameters):
        stats = BatchStats(mean, var)
        how = {"use_running_average": False, "estimator": ema(0.99), "mask": mask}
        y, new = function(x, stats, **parameters, **how)
        return {"y": y, "mean": new.mean, "var": new.var}

    return call


def s(square, epsilon=1e-5):
    def oracle(x, scale, bias, gate=1.0, mask=None):
        parts = (*x.shape[:-1], 2, x.shape[-1] // 2)
        w = None if mask is None else mask.reshape(parts)
        _, var, mean_square = moments(x.reshape(parts), (1, 3), w)
        root = jnp.sqrt((mean_square if square else var) + epsilon)
        root = jnp.broadcast_to(root, parts).reshape(x.shape)
        return x * jax.nn.sigmoid(gate * x) / root * scale + bias

    return oracle


def grouped(function):
    return lambda x, mask=None, **parameters: function(x, **parameters, num_groups=2, mask=mask)


def arrays(stateful, gated):
    def draw(rng):
        drawn = {"x": rng.normal(0.5, 1, size=(3, 5, 4))}
        names = ("gate",) * gated + ("scale", "bias")
        drawn.update({name: rng.normal(1, 0.3, size=4) for name in names})
        if stateful:
            drawn.update(mean=rng.normal(size=4), var=rng.uniform(0.5, 2, size=4))
        return drawn

    return draw


def batch_case(name, gated, rival):
    return Case(
        name,
        call=running(getattr(jaxnorm, name)),
        oracle=b(rival),
        arrays=arrays(True, gated),
        differentiated=("x", *("gate",) * gated, "scale", "bias"),
        module={},
        features=4,
        state=("mean", "var"),
    )


def group_case(name, gated, square):
    return Case(
        name,
        call=grouped(getattr(jaxnorm, name)),
        oracle=s(square),
        arrays=arrays(False, gated),
        module={"num_groups": 2},
        features=4,
    )


CASES = [
    batch_case("evo_norm_b0", True, lambda x, v, std, rms: v * x + std),
    batch_case("evo_norm_b1", False, lambda x, v, std, rms: (x + 1) * rms),
    batch_case("evo_norm_b2", False, lambda x, v, std, rms: rms - x),
    group_case("evo_norm_s0", True, False),
    group_case("evo_norm_s1", False, False),
    group_case("evo_norm_s2", False, True),
]
