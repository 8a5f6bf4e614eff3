"""Running moments that samples enter one by one, as each sample finds them.

Chiley et al.: Online Normalization for Training Neural Networks, arXiv:1905.05894, 2019.
"""

import jax
import jax.numpy as jnp

from jaxnorm.stats import Moments, merge
from jaxnorm.stats._moments import gathered_moments


def stream_moments(seen: Moments, samples: Moments, decay: float) -> tuple[Moments, Moments]:
    """Returns the running moments after all samples, and those before each one.

    `var <- a var + (1 - a) v + a (1 - a) (m - mean)^2`, `mean <- a mean + (1 - a) m` with a = decay
    are the moments of a mixture: of all that was, and of the new sample.

    Args:
        seen: of [1, *shape], with a tail: those before the first sample.
        samples: of [N, *shape], in their order; an empty one changes nothing.
        decay: the weight of the old moments.

    Returns:
        Moments of [1, *shape], and of [N, *shape].

    Examples:
        >>> seen = Moments(jnp.zeros(1), jnp.ones(1), jnp.ones(1), jnp.zeros(1))
        >>> samples = Moments(jnp.array([2.0, 2.0]), jnp.zeros(2), jnp.ones(2), jnp.zeros(2))
        >>> last, before = stream_moments(seen, samples, 0.5)
        >>> before.mean, last.mean
        (Array([0., 1.], dtype=float32), Array([1.5], dtype=float32))
    """

    def enter(seen: Moments, sample: Moments) -> tuple[Moments, Moments]:
        new = sample.count > 0
        old = seen._replace(count=jnp.where(new, decay, jnp.ones_like(seen.count)))
        share = jnp.where(new, 1 - decay, jnp.zeros_like(sample.count))
        return merge(old, sample._replace(count=share))._replace(count=seen.count), seen

    samples = jax.tree.map(lambda v: v[:, None], gathered_moments(samples, [0]))
    last, before = jax.lax.scan(enter, seen, samples)
    return last, jax.tree.map(lambda v: v[:, 0], before)
