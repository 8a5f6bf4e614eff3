"""EvoNorm S: a smooth activation of the input over the deviation of a group of channels.

Liu, Brock, Simonyan, Le: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm.functional._parameters import place, scaled_and_shifted
from jaxnorm.functional.evolved import _parts
from jaxnorm.functional.instance._group_shape import group_stats_shape
from jaxnorm.numerics import as_array, canonical_axes, check_epsilon, require_inexact
from jaxnorm.stats import moments
from jaxnorm.stats.sampling import usable
from jaxnorm.stats.sums import spread
from jaxnorm.typing import Array, ArrayLike, DTypeLike


def evo_norm_s(
    center: bool,
    x: ArrayLike,
    gate: ArrayLike | None,
    scale: ArrayLike | None,
    bias: ArrayLike | None,
    *,
    num_groups: int | None,
    group_size: int | None,
    axis: int,
    epsilon: float,
    dtype: DTypeLike | None,
    **sample: Any,
) -> Array:
    """Returns `x sigmoid(gate x) / root`, scaled and shifted.

    The root is that of the variance of the group, or of its mean square if `center` is false.
    """
    x = as_array(x)
    require_inexact(x)
    check_epsilon(epsilon)
    if jnp.iscomplexobj(x):
        raise TypeError(
            f"the EvoNorms need a real x, got {x.dtype} {list(x.shape)}; use group_norm"
        )
    features = canonical_axes(axis, x.ndim, "axis")
    stats_shape = group_stats_shape(x.shape, num_groups, group_size, axis=axis)
    given = x.dtype
    x = usable(x, sample["mask"], sample["weights"])
    scaled, unit, floor = _parts.in_units(x, stats_shape, epsilon, sample)
    taken = moments(scaled, stats_shape, center=center, **sample)
    root = spread(jnp.sqrt(taken.var + floor), x.shape)
    placed = place(gate, x.shape, features, "gate")
    inner = scaled * unit if placed is None else scaled * unit * placed
    y = scaled * jax.nn.sigmoid(inner) / root
    return scaled_and_shifted(y, scale, bias, features).astype(dtype or given)
