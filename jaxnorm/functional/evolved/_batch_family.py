"""EvoNorm B: the input over the larger of a deviation of the batch and a rival of the example.

Liu, Brock, Simonyan, Le: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxnorm.functional._parameters import kept_shape, scaled_and_shifted
from jaxnorm.functional.batch._running import squeezed
from jaxnorm.functional.evolved import _parts
from jaxnorm.functional.instance._instance import instance_stats_shape
from jaxnorm.numerics import as_array, canonical_axes, check_epsilon, require_inexact
from jaxnorm.stats import Estimator, Moments, moments, rescaled
from jaxnorm.stats.sampling import usable
from jaxnorm.stats.sums import spread
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def evo_norm_b(
    rival: Callable[[Array, Array, Moments], Array],
    x: ArrayLike,
    stats: Any,
    scale: ArrayLike | None,
    bias: ArrayLike | None,
    *,
    use_running_average: bool,
    update_stats: bool | None,
    estimator: Estimator,
    axis: Axes,
    epsilon: float,
    dtype: DTypeLike | None,
    **sample: Any,
) -> tuple[Array, Any]:
    """Returns `x / max(std, rival)`, scaled and shifted, and the running statistics.

    `rival(x, in_units, own)` takes the input in two scales and the moments of each channel of each
    example in units, with epsilon in their variance, and returns the rival in units.
    """
    x = as_array(x)
    require_inexact(x)
    check_epsilon(epsilon)
    if jnp.iscomplexobj(x):
        raise TypeError(
            f"the EvoNorms need a real x, got {x.dtype} {list(x.shape)}: complex numbers have no "
            "order; use batch_norm"
        )
    features = canonical_axes(axis, x.ndim, "axis")
    stats_shape = kept_shape(x.shape, features)
    given = x.dtype
    x = usable(x, sample["mask"], sample["weights"])
    scaled, unit, floor = _parts.in_units(x, stats_shape, epsilon, sample)
    update = (not use_running_average) if update_stats is None else update_stats
    batch, std = None, None
    if update or not use_running_average:
        batch, std = _parts.root(scaled, stats_shape, floor, sample)
    if use_running_average or std is None:
        var = estimator.read(stats).var.reshape(stats_shape)
        std = spread(jnp.sqrt(var + epsilon), x.shape) / unit
    # An example stands on one shard, and the shards share the statistics of the batch alone.
    alone = {**sample, "axis_name": None, "axis_index_groups": None}
    own_shape = instance_stats_shape(x.shape, axis)
    own = moments(scaled, own_shape, **alone)
    own = own._replace(var=own.var + floor)
    y = scaled / jnp.maximum(std, rival(scaled * unit, scaled, own))
    if update and batch is not None:
        size = unit[tuple(slice(0, n) for n in stats_shape)]
        stats = estimator.update(stats, squeezed(rescaled(batch, size), features))
    return scaled_and_shifted(y, scale, bias, features).astype(dtype or given), stats
