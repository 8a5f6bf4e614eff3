"""Layers in float64 NumPy, to compare the models with."""

import jax
import numpy as np

EPSILON = 1e-5  # of batch norm


def float64(tree):
    """Returns the tree with float64 arrays."""
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def conv(x: np.ndarray, kernel: np.ndarray, strides: int = 1) -> np.ndarray:
    """Returns the convolution of [N, H, W, C] with [h, w, C, O], padded by half the kernel."""
    h, w = kernel.shape[:2]
    x = np.pad(x, ((0, 0), (h // 2, h // 2), (w // 2, w // 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (h, w), axis=(1, 2))
    return np.einsum("nijchw,hwco->nijo", windows[:, ::strides, ::strides], kernel)


def batch_norm(x: np.ndarray, params, train: bool) -> np.ndarray:
    """Returns x normalized over all axes but the last, or by the identity statistics in eval."""
    axes = tuple(range(x.ndim - 1))
    mean, var = (x.mean(axes), x.var(axes)) if train else (0.0, 1.0)
    return (x - mean) / np.sqrt(var + EPSILON) * params["scale"] + params["bias"]


def relu(x: np.ndarray) -> np.ndarray:
    """Returns the positive part."""
    return np.maximum(x, 0)


def randomized(variables, seed: int = 0):
    """Returns variables whose scales and biases are not the trivial ones they start with."""
    rng = np.random.default_rng(seed)

    def shake(leaf):
        return leaf + 0.1 * rng.standard_normal(leaf.shape).astype(np.float32)

    return {**variables, "params": jax.tree.map(shake, variables["params"])}


def size(tree) -> int:
    """Returns the number of entries of all arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
