"""Cases of the norms that see their samples one after another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxnorm
from jaxnorm import CrossIterationState, MovingAverageState, OnlineState, PowerState
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


def cross_iteration_call(x, kernel, inputs, scale, bias, *, mask=None, **parts):
    def pullback(g):
        return jnp.einsum("ntd,ntc->dc", inputs, g)

    state, how = CrossIterationState(**parts), {"decay": 0.7, "mask": mask}
    y, new = jaxnorm.cross_iteration_batch_norm(
        x, state, kernel, pullback, scale, bias, use_running_average=False, **how
    )
    return {"y": y, **new._asdict()}


def cross_iteration_oracle(x, kernel, inputs, scale, bias, *, mask=None, **old):
    # As in the paper: of means and mean squares, whose slopes are about zero.
    w = jnp.ones(x.shape) if mask is None else mask.astype(x.dtype)
    count, kernel = w.sum((0, 1)), jax.lax.stop_gradient(kernel)
    mean, square = (w * x).sum((0, 1)) / count, (w * x**2).sum((0, 1)) / count
    moved = kernel - old["kernels"]
    means = old["means"] + (old["mean_slopes"] * moved).sum(1)
    slopes = old["var_slopes"] + 2 * old["means"][:, None] * old["mean_slopes"]
    squares = old["vars"] + old["means"] ** 2 + (slopes * moved).sum(1)
    valid = (jnp.arange(len(means)) < old["updates"][0])[:, None]
    squares = jnp.where(valid, jnp.maximum(squares, means**2), 0)
    n = 1 + valid.sum()
    m = (mean + jnp.where(valid, means, 0).sum(0)) / n
    v = (square + squares.sum(0)) / n - m**2
    by_mean = jnp.einsum("ntd,ntc->dc", inputs, w) / count
    by_var = jnp.einsum("ntd,ntc->dc", inputs, 2 * w * (x - mean)) / count
    newest = {"kernels": kernel, "means": mean, "vars": square - mean**2}
    newest |= {"mean_slopes": by_mean, "var_slopes": by_var}
    return {
        "y": (x - m) / jnp.sqrt(v + 1e-5) * scale + bias,
        "mean": 0.7 * old["mean"] + 0.3 * mean,
        "var": 0.7 * old["var"] + 0.3 * (square - mean**2),
        **{k: jnp.concatenate([v[None], old[k][:-1]]) for k, v in newest.items()},
        "updates": old["updates"] + 1,
    }


def cross_iteration_arrays(rng):
    shape = {"mean": (), "kernels": (3, 2), "means": (3,), "mean_slopes": (3, 2)}
    shape["var_slopes"] = (3, 2)
    return {
        "x": rng.normal(size=(4, 3, 5)),
        "kernel": rng.normal(size=(2, 5)),
        "inputs": rng.normal(size=(4, 3, 2)),
        **{name: rng.normal(size=(*size, 5)) for name, size in shape.items()},
        "var": rng.uniform(0.5, 1.5, 5),
        "vars": rng.uniform(0.5, 1.5, (3, 5)),
        "updates": np.full(5, 2.0),
        **affine(rng, 5),
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
            "updates": np.full(5, 1000.0),
            **affine(rng, 5),
        },
        differentiated=(),
        module={"decay": 0.7, "window": 3},
        features=5,
        state=("mean_square", "mean_squares", "products", "updates"),
    ),
    Case(
        "cross_iteration_batch_norm",
        call=cross_iteration_call,
        oracle=cross_iteration_oracle,
        arrays=cross_iteration_arrays,
        differentiated=("x", "scale", "bias"),
    ),
]
