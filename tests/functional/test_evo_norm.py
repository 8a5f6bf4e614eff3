"""EvoNorms share the statistics of the batch over shards, and say what they cannot take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from tests.stats.reference import relative_error, rounding

SHAPE = (4, 3, 2)


def shards_of_sizes():
    """Returns examples of very different sizes, two on each of two shards."""
    sizes = np.array([1.0, 2.0, 30.0, 0.02]).reshape(4, 1, 1)
    return (sizes * np.random.default_rng(0).normal(size=SHAPE)).astype(np.float32)


@pytest.mark.parametrize("name", ["b0", "b1", "b2"])
@pytest.mark.sampled(2)
def test_shards_have_the_statistics_of_the_whole_batch(name):
    function = getattr(jaxnorm, f"evo_norm_{name}")
    stats, x = jaxnorm.ema().init((2,)), shards_of_sizes()

    def run(x, **how):
        return function(x, stats, use_running_average=False, **how)

    y, new = jax.jit(run)(x)
    shards = jax.jit(jax.vmap(lambda v: run(v, axis_name="shards"), axis_name="shards"))
    parts, running = shards(x.reshape(2, 2, *SHAPE[1:]))
    assert relative_error(parts.reshape(SHAPE), y) < rounding(np.float32, x.size)
    for var in running.var:
        assert relative_error(var, new.var) < rounding(np.float32, x.size)


@pytest.mark.parametrize("name", ["s0", "s1", "s2"])
@pytest.mark.sampled(2)
def test_shards_of_channels_have_the_statistics_of_the_whole_group(name):
    function = getattr(jaxnorm, f"evo_norm_{name}")
    x = shards_of_sizes().transpose(2, 1, 0)
    y = jax.jit(lambda x: function(x, num_groups=1))(x)
    run = jax.vmap(
        lambda v: function(v, num_groups=1, axis_name="shards"),
        in_axes=2,
        out_axes=2,
        axis_name="shards",
    )
    parts = jax.jit(run)(x.reshape(*x.shape[:2], 2, 2))
    assert relative_error(parts.reshape(x.shape), y) < rounding(np.float32, x.size)


def test_the_running_variance_serves_in_evaluation_beside_that_of_the_instance():
    x = jnp.array([[[1.0], [3.0]]])
    stats = jaxnorm.stats.BatchStats(jnp.zeros(1), jnp.full(1, 16.0))
    y, _ = jaxnorm.evo_norm_b0(x, stats, use_running_average=True, epsilon=0.0)
    # The deviation of the instance is 1: lines of 2 and 4 against a running deviation of 4.
    np.testing.assert_allclose(y.ravel(), [0.25, 0.75], rtol=1e-6)


def test_complex_numbers_are_refused():
    with pytest.raises(TypeError, match="real x, got complex64"):
        jaxnorm.evo_norm_s0(jnp.ones((1, 2), jnp.complex64), num_groups=1)
