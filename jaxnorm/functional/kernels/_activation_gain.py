"""The gain of an activation: what makes the variance of its output that of its normal input.

Brock, De, Smith: Characterizing signal propagation to close the performance gap in unnormalized
ResNets, arXiv:2101.08692, 2021.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnorm.typing import Array

_NAMES = (
    *("celu", "elu", "gelu", "hard_sigmoid", "hard_swish", "hard_tanh", "leaky_relu"),
    *("log_sigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_sign", "softplus"),
    *("squareplus", "swish", "tanh"),
)
_PANELS = 2 * 12  # of length one: the normal density beyond 12 is below 1e-31
_NODES = 32  # in each panel


def activation_gain(activation: str | Callable[[Array], Array]) -> float:
    """Returns `1 / std(activation(z))` for `z` from a standard normal distribution.

    The gain of scaled weight standardization (Brock et al., arXiv:2101.08692, 2021),
    by Gauss-Legendre quadrature over panels between the integers, where the corners of the usual
    activations are. The activation is computed in float32, or in float64 where that is enabled.

    Args:
        activation: pointwise, or the name of one: "identity", or a function of `jax.nn` such as
            "relu", "gelu" or "silu".

    Returns:
        The gain, for ReLU `sqrt(2 / (1 - 1 / pi))`.

    Raises:
        ValueError: the name is unknown, or the activation has no finite, positive variance.

    Examples:
        >>> round(activation_gain("relu"), 5), round(activation_gain("identity"), 5)
        (1.71286, 1.0)

    Notes:
        The constants in the authors' code are means over random samples: 1.71396 for ReLU. Their
        gain of gelu is that of the approximation by a tanh, which is also the default of `jax.nn`.
    """
    function = _named(activation) if isinstance(activation, str) else activation
    nodes, shares = np.polynomial.legendre.leggauss(_NODES)
    middles = np.arange(_PANELS) - _PANELS / 2 + 0.5
    z = (middles[:, None] + nodes / 2).ravel()
    density = np.exp(-z * z / 2) * np.tile(shares, _PANELS)
    density /= density.sum()
    with jax.ensure_compile_time_eval():
        y = np.asarray(function(jnp.asarray(z)), np.float64)
    var = (density * (y - (density * y).sum()) ** 2).sum()
    if not (np.isfinite(var) and var > 0):
        raise ValueError(
            f"activation {activation} has variance {var} on normal inputs, which no gain makes 1; "
            "use a pointwise function that is finite and not constant"
        )
    return float(1 / np.sqrt(var))


def _named(name: str) -> Callable[[Array], Array]:
    if name == "identity":
        return lambda x: x
    if name not in _NAMES:
        raise ValueError(
            f"activation {name!r} is unknown; pass the function itself, or one of identity, "
            f"{', '.join(_NAMES)}"
        )
    return getattr(jax.nn, name)
