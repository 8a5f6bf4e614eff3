"""Spectral normalization of a layer's kernels as a linen module.

Miyato, Kataoka, Koyama, Yoshida: Spectral Normalization for Generative Adversarial Networks,
arXiv:1802.05957, 2018.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxnorm.functional import SpectralState, spectral_norm
from jaxnorm.functional._drop_in import errors_naming, result_dtype
from jaxnorm.linen._variables import layer_name, leaf_name
from jaxnorm.typing import DTypeLike, PyTree


class SpectralNorm(nn.Module):
    """Runs a layer with its kernels divided by their largest singular value.

    Miyato et al.: Spectral Normalization for GANs, arXiv:1802.05957, 2018. `flax.linen`'s
    `SpectralNorm`, pure: parameters are never written, and evaluation uses the stored vectors.

    A kernel is seen as a matrix `[-1, out]`, in float32 or wider; vectors and scalars are left as
    they are. The collection named `collection_name` holds `LAYER/KERNEL/u` [1, out] and
    `LAYER/KERNEL/sigma` [].

    Attributes:
        layer_instance: the layer whose parameters are normalized.
        n_steps: steps of power iteration at each update; without any the kernels stay as they are.
        epsilon: added to the squared norm of the vectors.
        dtype: the kernels' dtype; if None the promotion of kernel and vectors.
        param_dtype: the dtype of the stored vectors and singular values.
        error_on_non_matrix: whether a kernel of rank 3 or more is an error.
        collection_name: where the vectors are stored.

    Examples:
        >>> layer = SpectralNorm(nn.Dense(2, use_bias=False), n_steps=20)
        >>> x = jnp.array([[1.0, 0.0]])
        >>> variables = layer.init(jax.random.key(0), x, update_stats=True)
        >>> kernel = jnp.array([[4.0, 0.0], [0.0, 1.0]])
        >>> variables["params"] = {"layer_instance": {"kernel": kernel}}
        >>> layer.apply(variables, x, update_stats=True, mutable=["batch_stats"])[0].round(3)
        Array([[1., 0.]], dtype=float32)
    """

    layer_instance: nn.Module
    n_steps: int = 1
    epsilon: float = 1e-12
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    error_on_non_matrix: bool = False
    collection_name: str = "batch_stats"

    @nn.compact
    def __call__(self, *args: Any, update_stats: bool, **kwargs: Any) -> Any:
        """Returns the layer's output with normalized kernels.

        Args:
            *args: for the layer.
            update_stats: whether the vectors take `n_steps` of power iteration. If not, those that
                are stored serve; before the first update, what `n_steps` make of the random ones.
            **kwargs: for the layer.

        Returns:
            What the layer returns.

        Raises:
            ValueError: a kernel of rank 3 or more with `error_on_non_matrix`.
        """
        if self.is_initializing():
            self.layer_instance(*args, **kwargs)
        normalized = functools.partial(_normalized, self, update_stats)
        run = nn.map_variables(
            lambda layer: layer(*args, **kwargs),
            "params",
            trans_in_fn=functools.partial(jax.tree_util.tree_map_with_path, normalized),
        )
        return run(self.layer_instance)


# Functions, not methods: `nn.tabulate` calls every method of a module that was called, by itself.
def _normalized(norm: SpectralNorm, update: bool, path: tuple[Any, ...], leaf: PyTree) -> jax.Array:
    kernel = jnp.asarray(leaf)
    if kernel.ndim < 2 or norm.n_steps < 1:
        return kernel
    name = leaf_name(norm.layer_instance, path)
    with errors_naming(layer_name(norm)):
        if kernel.ndim > 2 and norm.error_on_non_matrix:
            raise ValueError(
                f"Input is {kernel.ndim}D but error_on_non_matrix is True: {name} "
                f"{list(kernel.shape)}; set it to False to flatten the leading axes"
            )
        u, sigma = _vector_and_value(norm, name, kernel.shape[-1])
        w, state = spectral_norm(
            kernel,
            SpectralState(u.value.reshape(-1), sigma.value),
            n_steps=norm.n_steps,
            update_state=update,
            epsilon=norm.epsilon,
            dtype=result_dtype(kernel, u.value, sigma.value, dtype=norm.dtype),
        )
    if update:
        u.value, sigma.value = state.u.reshape(1, -1), state.sigma
    return w


def _vector_and_value(norm: SpectralNorm, name: str, n: int) -> tuple[nn.Variable, nn.Variable]:
    known = norm.has_variable(norm.collection_name, f"{name}/u")
    key = None if known else norm.make_rng("params")
    u = norm.variable(
        norm.collection_name, f"{name}/u", jax.random.normal, key, (1, n), norm.param_dtype
    )
    sigma = norm.variable(norm.collection_name, f"{name}/sigma", jnp.ones, (), norm.param_dtype)
    return u, sigma
