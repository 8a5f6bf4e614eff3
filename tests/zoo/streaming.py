"""Cases of the norms that see their samples one after another."""

import functools

import jax.numpy as jnp
import numpy as np

import jaxnorm
from jaxnorm import MovingAverageState, OnlineState, PowerState
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


def power_call(x, mean_square, backward, scale, bias, *, mask=None):
    state, how = PowerState(mean_square, backward), {"use_running_average": False, "mask": mask}
    y, new = jaxnorm.power_norm(x, state, scale, bias, decay=0.7, **how)
    return {"y": y, **new._asdict()}


def power_oracle(x, mean_square, backward, scale, bias, *, mask=None):
    w = jnp.ones(x.shape) if mask is None else mask.astype(x.dtype)
    own = (w * x**2).sum((0, 1)) / w.sum((0, 1))
    y = x / jnp.sqrt(mean_square + 1e-5) * scale + bias
    return {"y": y, "mean_square": 0.7 * mean_square + 0.3 * own, "backward": backward}


def online_call(x, mean, var, scale, bias, *, mask=None):
    state = OnlineState(mean, var, 0 * mean, 0 * mean)
    how = {"use_running_average": False, "mask": mask}
    y, new = jaxnorm.online_norm(x, state, scale, bias, decay=0.7, **how)
    return {"y": y, "mean": new.mean, "var": new.var}


def online_oracle(x, mean, var, scale, bias, *, mask=None):
    mask, ys = jnp.ones(x.shape) if mask is None else mask.astype(x.dtype), []
    for sample, w in zip(x, mask, strict=True):
        y = (sample - mean) / jnp.sqrt(var + 1e-5) * scale + bias
        ys.append(y / jnp.sqrt((w * y**2).sum() / w.sum() + 1e-5))
        count = w.sum(0)
        m = (w * sample).sum(0) / jnp.where(count > 0, count, 1)
        d = (w * (sample - m) ** 2).sum(0) / jnp.where(count > 0, count, 1)
        moved = 0.7 * var + 0.3 * d + 0.21 * (m - mean) ** 2
        var, mean = (
            jnp.where(count > 0, new, old)
            for new, old in ((moved, var), (0.7 * mean + 0.3 * m, mean))
        )
    return {"y": jnp.stack(ys), "mean": mean, "var": var}


def moving_average_call(x, scale, bias, *, mask=None, **parts):
    how = {"use_running_average": False, "mask": mask, "decay": 0.7}
    state = MovingAverageState(**parts)
    y, new = jaxnorm.moving_average_batch_norm(x, state, scale, bias, **how)
    return {"y": y, **new._asdict()}


def moving_average_oracle(
    x, scale, bias, *, mean_square, mean_squares, products, updates, mask=None
):
    w = jnp.ones(x.shape) if mask is None else mask.astype(x.dtype)
    own = (w * x**2).sum((0, 1)) / w.sum((0, 1))
    mean_squares = jnp.concatenate([own[None], mean_squares[:-1]])
    s = mean_squares.mean(0)
    r = jnp.clip(jnp.sqrt(s + 1e-5) / jnp.sqrt(mean_square + 1e-5), 0.2, 5)
    return {
        "y": r * x / jnp.sqrt(s + 1e-5) * scale + bias,
        "mean_square": 0.7 * mean_square + 0.3 * s,
        "mean_squares": mean_squares,
        "products": products,
        "updates": updates + 1,
    }


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
    Case(
        "power_norm",
        call=power_call,
        oracle=power_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 5)),
            "mean_square": rng.uniform(0.5, 1.5, 5),
            "backward": rng.normal(size=5),
            **affine(rng, 5),
        },
        differentiated=(),
        module={"decay": 0.7},
        features=5,
        state=("mean_square", "backward"),
    ),
    Case(
        "online_norm",
        call=online_call,
        oracle=online_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 5)),
            "mean": rng.normal(size=5),
            "var": rng.uniform(0.5, 1.5, 5),
            **affine(rng, 5),
        },
        differentiated=(),
        module={"decay": 0.7},
        features=5,
        state=("mean", "var"),
    ),
    Case(
        "moving_average_batch_norm",
        call=moving_average_call,
        oracle=moving_average_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(4, 3, 5)),
            "mean_square": rng.uniform(0.01, 3, 5),
            "mean_squares": rng.uniform(0.5, 1.5, (3, 5)),
            "products": rng.normal(size=(3, 5)),
            "updates": np.array(1000.0),
            **affine(rng, 5),
        },
        differentiated=(),
        module={"decay": 0.7, "window": 3},
        features=5,
        state=("mean_square", "mean_squares", "products", "updates"),
    ),
]
