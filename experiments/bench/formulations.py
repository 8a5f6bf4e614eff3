"""Counts the bytes that XLA moves for each way to write a normalization, forward and backward.

Command: `python -m experiments.bench.formulations`. It takes a minute on two cores. The counts come
from `cost_analysis()` and `memory_analysis()` of the compiled program, and are the same on every
run. Where a program has a branch, the dearer side counts. The library takes this side for data far
from zero.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnorm.ops import standardize
from jaxnorm.stats import Variance

from ._cases import CORE, EPSILON, NUM_GROUPS, Case
from ._measure import compiled, inputs
from ._rivals import Function, jax_rivals

LAYOUTS = {"layer": "kr", "batch": "rk", "instance": "krk", "group": "krkr"}


def stats_shape_of(case: Case) -> tuple[int, ...]:
    """Return the statistics shape of a case."""
    n, *rest, features = case.shape
    if case.member == "layer":
        return (*case.shape[:-1], 1)
    ones = (1,) * len(rest)
    kept = {"batch": (1, features), "instance": (n, features), "group": (n, NUM_GROUPS)}
    first, last = kept[case.member]
    return (first, *ones, last)


def formulations(case: Case) -> dict[str, Function]:
    """Return the ways to write a case, by name, as functions of `(x, scale, bias)`."""
    shape = stats_shape_of(case)

    def ours(epsilon: float | jax.Array, variance: Variance = "one_pass") -> Function:
        return lambda x, scale, bias: standardize(
            x,
            shape,
            scale=scale,
            bias=bias,
            epsilon=epsilon,
            variance=variance,
            implementation="xla",
        )

    def tangent(variance: Variance) -> Function:
        # With an array epsilon, the library runs the code of the other platforms.
        return ours(jnp.float32(EPSILON), variance)

    return {
        "flax.linen": jax_rivals(case)["flax.linen"],
        "closed form, each sum by itself": ours(EPSILON),
        "checkpointed tangent, one pass": tangent("one_pass"),
        "checkpointed tangent, two passes": tangent("two_pass"),
        "automatic differentiation, one pass": functools.partial(_plain, shape, 1),
        "automatic differentiation, two passes": functools.partial(_plain, shape, 2),
        "closed form, one pass": _closed_form(shape),
    }


def _grouped(x: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, tuple[int, ...]]:
    """Return `x` with its channels split into groups, and the axes to reduce."""
    groups = shape[-1] if 1 < shape[-1] < x.shape[-1] else 0
    reduced = tuple(a for a, s in enumerate(shape) if s == 1)
    if groups:
        return x.reshape(*x.shape[:-1], groups, -1), (*reduced, x.ndim)
    return x, reduced


def _statistics(view: jax.Array, axes: tuple[int, ...], passes: int) -> tuple:
    pivot = view[tuple(slice(0, 1) if a in axes else slice(None) for a in range(view.ndim))]
    shifted = view - jax.lax.stop_gradient(pivot)
    offset = jnp.mean(shifted, axes, keepdims=True)
    if passes == 2:
        var = jnp.mean(jnp.square(shifted - offset), axes, keepdims=True)
    else:
        var = jnp.maximum(jnp.mean(jnp.square(shifted), axes, keepdims=True) - offset**2, 0)
    return shifted - offset, jax.lax.rsqrt(var + EPSILON)


def _plain(shape, passes, x, scale, bias):
    view, axes = _grouped(x.astype(jnp.float32), shape)
    deviation, rstd = _statistics(view, axes, passes)
    return ((deviation * rstd).reshape(x.shape) * scale + bias).astype(x.dtype)


def _closed_form(shape: tuple[int, ...]) -> Callable:
    """Return the normalization with the gradient of the papers, written out.

    `dx = rstd * (g - mean(g) - xhat * mean(g * xhat))` with `g = scale * dy`.
    """

    @jax.custom_vjp
    def normalized(x, scale, bias):
        return _plain(shape, 1, x, scale, bias)

    def forward(x, scale, bias):
        return normalized(x, scale, bias), (x, scale)

    def backward(kept, dy):
        x, scale = kept
        view, axes = _grouped(x.astype(jnp.float32), shape)
        deviation, rstd = _statistics(view, axes, 1)
        xhat = deviation * rstd
        wide = dy.astype(jnp.float32)
        g = (wide * scale).reshape(view.shape)
        along = jnp.mean(g * xhat, axes, keepdims=True)
        dx = rstd * (g - jnp.mean(g, axes, keepdims=True) - xhat * along)
        samples = tuple(range(x.ndim - 1))
        d_scale = jnp.sum(wide * xhat.reshape(x.shape), samples)
        return dx.reshape(x.shape).astype(x.dtype), d_scale, jnp.sum(wide, samples)

    normalized.defvjp(forward, backward)
    return normalized


def main() -> None:
    """Print a table in Markdown: megabytes accessed and megabytes of temporary memory."""
    print("| layout | dtype | formulation | accessed, MB | temporary, MB |\n|---|---|---|---|---|")
    for case in CORE:
        for dtype in ("float32", "bfloat16") if case.member in LAYOUTS else ():
            _, arguments = inputs(case, dtype, mean=0.0)
            for name, function in formulations(case).items():
                _, executable, _ = compiled(function, "both", arguments)
                accessed = executable.cost_analysis()["bytes accessed"] / 1e6
                temporary = executable.memory_analysis().temp_size_in_bytes / 1e6
                layout = f"{LAYOUTS[case.member]} ({case.label})"
                print(f"| {layout} | {dtype} | {name} | {accessed:.0f} | {temporary:.0f} |")


if __name__ == "__main__":
    main()
