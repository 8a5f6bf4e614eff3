"""Batch norm with noise behind it, which moves what the next layer sees at every step."""

from typing import Any

import flax.linen as nn
import jax
from jax import Array

from jaxnorm.linen import BatchNorm


class NoisyBatchNorm(nn.Module):
    """Batch norm, followed in training by noise of another mean and another scale at each step.

    A channel j draws a mean m_j from U(-shift, shift) and a scale s_j from U(1, stretch). Channel j
    of example i then becomes s_ij y_ij + m_ij, with m_ij from U(m_j - spread, m_j + spread) and
    s_ij from N(s_j, spread). All are drawn anew at each step, under the rng `dropout`. In
    evaluation there is no noise.

    Args:
        use_running_average: whether running statistics are used, without noise.
        momentum: weight of the old running statistics.
        shift: greatest mean of the noise of a channel, in standard deviations.
        stretch: greatest scale of a channel.
        spread: how far the examples of a channel lie apart.
    """

    use_running_average: bool
    momentum: float = 0.9
    shift: float = 0.5
    stretch: float = 1.25
    spread: float = 0.1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return x [N, ..., C] normalized, and in training with noise."""
        norm: Any = BatchNorm(
            use_running_average=self.use_running_average, momentum=self.momentum, name="norm"
        )
        y = norm(x)
        if self.use_running_average:
            return y
        keys = jax.random.split(self.make_rng("dropout"), 4)
        channels = (1,) * (x.ndim - 1) + x.shape[-1:]
        each = x.shape[:1] + channels[1:]
        mean = jax.random.uniform(keys[0], channels, y.dtype, -self.shift, self.shift)
        scale = jax.random.uniform(keys[1], channels, y.dtype, 1.0, self.stretch)
        means = mean + self.spread * jax.random.uniform(keys[2], each, y.dtype, -1.0, 1.0)
        scales = scale + self.spread * jax.random.normal(keys[3], each, y.dtype)
        return scales * y + means
