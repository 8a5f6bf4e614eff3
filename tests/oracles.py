"""Each member of the catalogue by its definition, in a few lines of float64, under its own name.

An oracle takes `x` in float64 or complex128 and returns the output. `scale` and `bias` broadcast to
`x`; `weights` are of the shape of `x`, zero where an entry is masked out, and no entry is infinite
or NaN. Nothing here imports jaxnorm: axes, formulas and defaults stand as the papers and Flax have
them. Oracles use operators and methods only, so that they run on NumPy's arrays, and on those of
JAX where their derivatives are wanted.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def standardized(x, axes, epsilon, weights, center=True):
    """Returns `(x - mean) / sqrt(var + epsilon)` over `axes`; `x` where all weights are zero."""
    count = weights.sum(axes, keepdims=True)
    empty = count == 0
    share = weights / (count + empty)
    deviation = x - center * (share * x).sum(axes, keepdims=True)
    var = (share * (deviation * deviation.conj()).real).sum(axes, keepdims=True)
    return deviation / ((var + epsilon) * ~empty + empty) ** 0.5


def batch_norm(x, scale=1.0, bias=0.0, *, epsilon=1e-5, weights):
    return standardized(x, tuple(range(x.ndim - 1)), epsilon, weights) * scale + bias


def layer_norm(x, scale=1.0, bias=0.0, *, epsilon=1e-6, weights):
    return standardized(x, (-1,), epsilon, weights) * scale + bias


def rms_norm(x, scale=1.0, bias=0.0, *, epsilon=1e-6, weights):
    return standardized(x, (-1,), epsilon, weights, center=False) * scale + bias


def group_norm(x, scale=1.0, bias=0.0, *, num_groups, epsilon=1e-6, weights):
    parts = (*x.shape[:-1], num_groups, x.shape[-1] // num_groups)
    axes = (*range(1, x.ndim - 1), x.ndim)
    y = standardized(x.reshape(parts), axes, epsilon, weights.reshape(parts))
    return y.reshape(x.shape) * scale + bias


def instance_norm(x, scale=1.0, bias=0.0, *, epsilon=1e-6, weights):
    return standardized(x, tuple(range(1, x.ndim - 1)), epsilon, weights) * scale + bias


def filter_response_norm(x, scale=1.0, bias=0.0, *, epsilon=1e-6, weights):
    axes = tuple(range(1, x.ndim - 1))
    return standardized(x, axes, epsilon, weights, center=False) * scale + bias


def ghost_batch_norm(x, scale=1.0, bias=0.0, *, ghost_batch_size, epsilon=1e-5, weights):
    parts = (-1, min(ghost_batch_size, x.shape[0]), *x.shape[1:])
    axes = tuple(range(1, x.ndim))
    y = standardized(x.reshape(parts), axes, epsilon, weights.reshape(parts))
    return y.reshape(x.shape) * scale + bias


def weight_norm(x, scale=1.0, *, epsilon=1e-12):
    return x / ((x * x).sum(tuple(range(x.ndim - 1)), keepdims=True) + epsilon) ** 0.5 * scale


def weight_standardization(x, scale=1.0, *, epsilon=1e-6):
    deviation = x - x.mean(tuple(range(x.ndim - 1)), keepdims=True)
    var = (deviation * deviation).mean(tuple(range(x.ndim - 1)), keepdims=True)
    return deviation / (var + epsilon) ** 0.5 * scale


def spectral_norm(x, *, u, epsilon=1e-12):
    matrix = x.reshape(-1, x.shape[-1])
    v = matrix @ u
    v = v / ((v * v).sum() + epsilon) ** 0.5
    u = v @ matrix
    return x / (v @ matrix @ (u / ((u * u).sum() + epsilon) ** 0.5))


def gradients(oracle, given, cotangent, fixed, options):
    """Returns the gradients of `sum(cotangent * y)` with respect to each of `given`, in float64.

    Args:
        oracle: one of this file.
        given: its arrays by position.
        cotangent: of the shape of the output.
        fixed: arrays by name, such as the weights.
        options: numbers by name, such as the number of groups.

    Returns:
        Arrays of float64 of the shapes of `given`.
    """
    run = _reverse(oracle, tuple(options.items()))
    return _in_float64(run, list(given), cotangent, fixed)


def tangent(oracle, given, moved, fixed, options):
    """Returns how the output moves where each of `given` moves along `moved`, in float64.

    Args:
        oracle: one of this file.
        given: its arrays by position.
        moved: an array of the shape of each of `given`.
        fixed: arrays by name, such as the weights.
        options: numbers by name, such as the number of groups.

    Returns:
        An array of float64 of the shape of the output.
    """
    run = _forward(oracle, tuple(options.items()))
    return _in_float64(run, list(given), list(moved), fixed)


@functools.cache
def _reverse(oracle, options):
    @jax.jit
    def compute(given, cotangent, fixed):
        _, pullback = jax.vjp(lambda given: oracle(*given, **fixed, **dict(options)), given)
        return pullback(cotangent)[0]

    return compute


@functools.cache
def _forward(oracle, options):
    @jax.jit
    def compute(given, moved, fixed):
        run = functools.partial(oracle, **fixed, **dict(options))
        return jax.jvp(run, tuple(given), tuple(moved))[1]

    return compute


def _in_float64(run, *arguments):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda v: jnp.asarray(v, jnp.float64), arguments)
        return jax.tree.map(np.asarray, run(*wide))
