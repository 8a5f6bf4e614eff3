"""What the rows of the relatives of layer norm claim of shards and of weights, in float32."""

import functools

import jax
import numpy as np
import pytest

import jaxnorm
from tests.stats.reference import relative_error, rounding

X = np.random.default_rng(0).normal(0.5, 1, (3, 8)).astype(np.float32)
OTHER = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
COTANGENT = np.random.default_rng(2).normal(size=X.shape).astype(np.float32)
BOUND = rounding(np.float32, X.size)

# member -> (x, a second array of its shape, how a sample is taken) -> y
CALLS = {
    # Six of eight features are measured, and seven of nine.
    "p_rms_norm": lambda x, other, **sample: jaxnorm.p_rms_norm(x, share=0.75, **sample),
    "scale_norm": lambda x, other, **sample: jaxnorm.scale_norm(x, 3.0, **sample),
    "pixel_norm": lambda x, other, **sample: jaxnorm.pixel_norm(x, **sample),
    "positional_norm": lambda x, other, **sample: jaxnorm.positional_norm(x, **sample)[0],
    "poly_norm": lambda x, other, **sample: jaxnorm.poly_norm(x, **sample),
    "gated_rms_norm": lambda x, other, **sample: jaxnorm.gated_rms_norm(x, other, **sample),
    "add_rms_norm": lambda x, other, **sample: jaxnorm.add_rms_norm(x, other, **sample)[0],
    "add_layer_norm": lambda x, other, **sample: jaxnorm.add_layer_norm(x, other, **sample)[0],
}
CLAIMS = {member.name: member.claims for member in jaxnorm.CATALOGUE}


@pytest.mark.parametrize("name", [name for name in CALLS if "shards" in CLAIMS[name]])
@pytest.mark.sampled(2)
def test_features_in_shards_have_the_statistics_of_the_whole(name):
    def whole(x, other):
        return CALLS[name](x, other)

    def sharded(x, other):
        shard = functools.partial(CALLS[name], axis_name="shards")
        split = [v.reshape(3, 2, 4).swapaxes(0, 1) for v in (x, other)]
        return jax.vmap(shard, axis_name="shards")(*split).swapaxes(0, 1).reshape(3, 8)

    @jax.jit
    def both(x, other):
        results = []
        for run in (sharded, whole):
            y, pullback = jax.vjp(run, x, other)
            results.append((y, *pullback(COTANGENT)))
        return results

    for have, want in zip(*both(X, OTHER), strict=True):
        assert relative_error(have, np.asarray(want)) < BOUND


@pytest.mark.parametrize("name", [name for name in CALLS if "weights" in CLAIMS[name]])
@pytest.mark.sampled(2)
def test_an_entry_of_weight_two_is_one_that_stands_there_twice(name):
    weights = np.ones(8, np.float32)
    weights[0] = 2
    twice = [np.concatenate([v[:, :1], v], -1) for v in (X, OTHER)]
    y = jax.jit(CALLS[name])(X, OTHER, weights=weights)
    assert relative_error(y, np.asarray(jax.jit(CALLS[name])(*twice))[:, 1:]) < BOUND
