"""The column kernels behind `standardize`, under JAX's transformations and at every member."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from tests.ops.kernels.test_transforms import BATCH, GROUP, arrays, assert_same, loss, plain


def kernels(stats_shape, x, scale, bias):
    y, moments = jaxnorm.standardize(
        x, stats_shape, scale=scale, bias=bias, epsilon=1e-3, implementation="pallas"
    )
    return y, moments.mean, moments.var


def remat(function, stats_shape):
    return jax.grad(jax.checkpoint(lambda *a: loss(function, stats_shape, *a)), (0, 1, 2))


def twice(function, stats_shape):
    gradient = jax.grad(lambda *a: loss(function, stats_shape, *a), (0, 1, 2))
    return jax.grad(lambda *a: sum(jnp.sum(v**3) for v in gradient(*a)), (0, 1))


def forward(function, stats_shape):
    return lambda *a: jax.jvp(lambda *a: function(stats_shape, *a), a, arrays(seed=1))


def mapped(function, stats_shape):
    def run(x, scale, bias):
        two = jnp.stack([x, 3 * x + 1])
        return jax.vmap(jax.grad(lambda x: loss(function, stats_shape, x, scale, bias)))(two)

    return run


def scanned(function, stats_shape):
    def run(x, scale, bias):
        def step(x, _):
            return function(stats_shape, x, scale, bias)[0], None

        return jax.lax.scan(step, x, length=3)[0]

    return jax.grad(lambda *a: jnp.sum(jnp.sin(run(*a))), (0, 1, 2))


NIGHTLY = pytest.mark.nightly


@pytest.mark.parametrize(
    "stats_shape", [BATCH, pytest.param(GROUP, marks=NIGHTLY)], ids=["batch", "group"]
)
@pytest.mark.parametrize(
    "build", [remat, twice, mapped, *(pytest.param(b, marks=NIGHTLY) for b in (forward, scanned))]
)
@pytest.mark.sampled(2)
def test_a_transformation_is_that_of_the_formulas(build, stats_shape):
    programs = (jax.jit(build(function, stats_shape)) for function in (kernels, plain))
    assert_same(*(program(*arrays()) for program in programs))


def batch_norm(x, scale, bias):
    stats = jaxnorm.ema(0.9).init((x.shape[-1],))
    return jaxnorm.batch_norm(
        x, stats, scale, bias, use_running_average=False, implementation="pallas"
    )[0]


def group_norm(x, scale, bias):
    return jaxnorm.group_norm(x, scale, bias, num_groups=4, implementation="pallas")


def instance_norm(x, scale, bias):
    return jaxnorm.instance_norm(x, scale, bias, implementation="pallas")


@pytest.mark.parametrize("norm", [batch_norm, group_norm, instance_norm])
@pytest.mark.sampled(2)
def test_a_member_has_the_kernels_on_gpu_and_tpu(norm):
    x, scale = np.ones((8, 10, 10, 24), np.float32), np.ones(24, np.float32)
    step = jax.jit(jax.grad(lambda *a: jnp.sum(jnp.sin(norm(*a))), (0, 1, 2)))
    for platform in ("cuda", "tpu"):
        text = step.trace(x, scale, scale).lower(lowering_platforms=(platform,)).as_text()
        assert len(set(re.findall(r"jaxnorm_column_\w+", text))) >= 2
