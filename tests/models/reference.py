"""Layers in float64 NumPy, to compare the models with."""

import jax
import jax.numpy as jnp
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


def random_variables(model, x: np.ndarray, *, seed: int = 0, affine: float = 0.1):
    """Returns variables of the model, with nothing compiled.

    Kernels are as large as they usually start; scales and biases are `affine` away from one and
    zero, so that a model which ignores them is noticed.
    """
    rng = np.random.default_rng(seed)

    def draw(path, form):
        name = getattr(path[-1], "key", None)  # an estimator's state has fields
        noise = rng.standard_normal(form.shape)
        if path[0].key == "batch_stats":
            return jnp.full(form.shape, name == "var", form.dtype)
        if name == "kernel":
            return jnp.asarray(noise / np.sqrt(np.prod(form.shape[:-1])), jnp.float32)
        return jnp.asarray((name == "scale") + affine * noise, jnp.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    return jax.tree_util.tree_map_with_path(draw, shapes)


def size(tree) -> int:
    """Returns the number of entries of all arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))
