"""Moments as one operation, which says itself how it is partitioned over devices.

Of the sums in `measure` XLA would make an exchange each, and gather what the pivot is searched in.
`jaxnorm.ops` lowers the operation so that each device measures its own part, and one exchange has
everything: means, variances, and the counts where a mask or weights let them differ.
"""

import jax.numpy as jnp
from jax.extend.core import Primitive

from jaxnorm import _explicit, _internals
from jaxnorm.numerics import accumulation_dtype
from jaxnorm.stats.cutting import statistic
from jaxnorm.stats.measuring import Measured, measure, pool_shards
from jaxnorm.stats.sampling import Sampling
from jaxnorm.stats.shapes import sample_size
from jaxnorm.typing import Array

measure_p = Primitive("jaxnorm_measure")
"""x and perhaps weights -> mean, tail, var and unit, and with weights the count."""


def measure_whole(
    sampling: Sampling, x: Array, w: Array | None, epsilon: float | Array | None = None
) -> Measured:
    """Returns what `measure` does, under `jit` with one exchange wherever the array lies.

    Args:
        sampling: checked by `check_sampling`.
        x: [*shape].
        w: weights of the rank of `x`, or None.
        epsilon: see `measure`.

    Returns:
        `Measured`, float32 or wider.

    Examples:
        >>> measure_whole(Sampling((1,)), jnp.array([1.0, 3.0]), None).var
        Array([1.], dtype=float32)
    """
    given = (x,) if w is None else (x, w)
    known = all(isinstance(n, int) and n > 0 for n in x.shape)
    left_to_xla = _explicit.why_not(x, given[1:]) is not None
    number = epsilon is None or isinstance(epsilon, float)
    if not (known and number) or left_to_xla or jnp.iscomplexobj(x):
        return measure(sampling, x, w, epsilon)
    own = sampling._replace(axis_name=None, axis_index_groups=None)
    operands = _internals.varying_alike(*(_explicit.beside(x, v) for v in given))
    mean, tail, var, unit, *weight = measure_p.bind(*operands, sampling=own, epsilon=epsilon)
    size = sample_size(x.shape, sampling.stats_shape)
    count = weight[0] if weight else jnp.asarray(size, var.dtype)
    return pool_shards(Measured(mean, tail, var, unit, count), sampling)


def plain_measure(x, w=None, *, sampling: Sampling, epsilon: float | None) -> list:
    """Returns what `measure_p` computes.

    Args:
        x: [*shape].
        w: weights of the rank of `x`, or None.
        sampling: without mapped axes.
        epsilon: see `measure`.

    Returns:
        Its results, [*stats_shape] each.

    Examples:
        >>> plain_measure(jnp.array([1.0, 3.0]), sampling=Sampling((1,)), epsilon=None)[0]
        Array([2.], dtype=float32)
    """
    return list(measure(sampling, x, w, epsilon)[: 4 + (w is not None)])


def _shapes(x, w=None, *, sampling: Sampling, epsilon: float | None) -> list:
    one = statistic(x, sampling.stats_shape, accumulation_dtype(x.dtype))
    return [one] * (4 + (w is not None))


def _mapped(operands, dims, *, sampling: Sampling, epsilon: float | None):
    size, operands = _internals.with_front_axis(operands, dims, whole=(0,))
    sampling = sampling._replace(stats_shape=(size, *sampling.stats_shape))
    out = measure_p.bind(*operands, sampling=sampling, epsilon=epsilon)
    return out, [0] * len(out)


_internals.define(measure_p, shapes=_shapes, plain=plain_measure, batch=_mapped)
