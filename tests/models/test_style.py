"""The style network has the published size, and adaptive instance norm the style's statistics."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import adaptive_instance_norm
from jaxnorm.linen import BatchNorm
from jaxnorm.models import StyleNet


def shapes_of(model, side=256):
    def initialize():
        return model.init(jax.random.key(0), jnp.zeros((1, side, side, 3)))

    return jax.eval_shape(initialize)


def test_the_parameters_are_those_of_johnson_et_al():
    # Convolutions of 9, 3, 3, ten times 3, 3, 3 and 9 pixels; two numbers per normalized channel.
    kernels = 81 * 3 * 32 + 9 * 32 * 64 + 9 * 64 * 128 + 10 * 9 * 128 * 128
    kernels += 9 * 128 * 64 + 9 * 64 * 32 + 81 * 32 * 3
    normalized = 2 * (32 + 64 + 128 + 10 * 128 + 64 + 32)
    params = shapes_of(StyleNet())["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == kernels + normalized + 3


def test_residual_blocks_are_at_a_quarter_of_the_resolution():
    model = StyleNet(widths=(2, 2, 4), blocks=1)
    x = jnp.zeros((1, 32, 64, 3))
    found = {}

    def watch(next_fun, args, kwargs, context):
        y = next_fun(*args, **kwargs)
        if isinstance(context.module, nn.Conv):
            found[context.module.path] = y.shape
        return y

    with nn.intercept_methods(watch):
        y, _ = model.init_with_output(jax.random.key(0), x)
    assert found["block_0", "first", "conv"] == (1, 8, 16, 4)
    assert y.shape == x.shape


def test_batch_norm_keeps_running_statistics_and_trains():
    model = StyleNet(widths=(2, 2, 4), blocks=1, norm=BatchNorm)
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    variables = model.init(jax.random.key(0), x)
    _, changed = model.apply(variables, x, train=True, mutable=["batch_stats"])
    before, after = variables["batch_stats"], changed["batch_stats"]
    assert any(np.any(a != b) for a, b in zip(*map(jax.tree.leaves, (before, after)), strict=True))


def test_adaptive_instance_norm_takes_mean_and_deviation_from_the_style():
    content = jax.random.normal(jax.random.key(0), (2, 6, 5, 3)) * 3 + 1
    style = jax.random.normal(jax.random.key(1), (2, 4, 7, 3)) * 0.5 - 2
    y = np.asarray(adaptive_instance_norm(content, style), np.float64)
    want = np.asarray(style, np.float64)
    np.testing.assert_allclose(y.mean((1, 2)), want.mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(y.std((1, 2)), want.std((1, 2)), rtol=1e-3)


def test_the_style_changes_the_output_only_where_it_is_given():
    model, x = StyleNet(widths=(2, 2, 4), blocks=1), jnp.ones((1, 8, 8, 3)).at[:, 2:5].set(0)
    variables = model.init(jax.random.key(0), x)
    styles = [jax.random.normal(jax.random.key(i), (1, 8, 8, 3)) for i in range(2)]
    plain, one, other = (model.apply(variables, x, style) for style in (None, *styles))
    assert not np.allclose(one, other) and not np.allclose(plain, one)


def test_sides_that_are_no_multiple_of_four_are_refused():
    with pytest.raises(ValueError, match=r"multiples of 4, got x \[1, 10, 8, 3\]; crop"):
        StyleNet().init(jax.random.key(0), jnp.zeros((1, 10, 8, 3)))
