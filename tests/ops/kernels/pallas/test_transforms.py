"""`standardize` by the Pallas kernels under jax's transformations, against plain JAX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import standardize
from tests.stats.reference import relative_error

# Both paths hold the law of 4e-6, and a second derivative divides by the deviation once more.
BOUND = 3e-5
SHAPE, STATS_SHAPE = (4, 3, 24), (4, 3, 1)


def arrays(*lead, seed=0):
    draw = functools.partial(np.random.default_rng(seed).normal, 1.0, 1.0)
    shapes = ((*lead, *SHAPE), (*lead, 1, 1, 24), (*lead, 1, 1, 24))
    return tuple(jnp.asarray(draw(shape), jnp.float32) for shape in shapes)


def loss(implementation, x, scale, bias):
    """Returns a number to which every output contributes unevenly."""
    y, moments = standardize(
        x, STATS_SHAPE, scale=scale, bias=bias, epsilon=1e-3, implementation=implementation
    )
    return sum(jnp.sum(jnp.sin(v * 1.3 + 0.1)) for v in (y, moments.mean, moments.var))


def both(build, *inputs):
    """Checks that what is built upon the kernels returns what it does upon plain JAX."""
    got, want = (jax.jit(build(functools.partial(loss, i)))(*inputs) for i in ("pallas", "xla"))
    for have, value in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert relative_error(have, value, 1.0) < BOUND


def kernels(function, *inputs, platform="tpu"):
    """Returns how often the program for a platform calls a kernel."""
    # A new function: what was traced with another wish in the environment is not taken again.
    lowered = jax.jit(lambda *a: function(*a)).trace(*inputs).lower(lowering_platforms=(platform,))
    return sum(lowered.as_text().count(f"custom_call @{name}") for name in CALLS)


CALLS = ("tpu_custom_call", "__gpu$xla.gpu.triton")


def test_forward_mode_is_the_tangent():
    both(lambda f: lambda *a: jax.jvp(f, a[:3], a[3:]), *arrays(), *arrays(seed=1))


def test_reverse_over_reverse_is_the_second_derivative():
    def build(function):
        gradient = jax.grad(function, (0, 1))
        return jax.grad(lambda *a: sum(jnp.sum(v**3) for v in gradient(*a)))

    both(build, *arrays())


@pytest.mark.parametrize(
    "mapped", [(0, None, None), pytest.param((0, 0, 0), marks=pytest.mark.nightly)]
)
def test_vmap_is_one_call_of_each_kernel(mapped):
    inputs = [a if axis is None else b for a, b, axis in zip(arrays(), arrays(3), mapped)]

    def build(function):
        return jax.vmap(jax.value_and_grad(function, (0, 1, 2)), mapped)

    both(build, *inputs)
    assert kernels(build(functools.partial(loss, "pallas")), *inputs) == 2


def test_scan_and_remat_change_nothing():
    def build(function):
        @jax.checkpoint
        def layer(x, affine):
            return x * jnp.tanh(function(x, *affine)), None

        return jax.value_and_grad(lambda x, *a: jnp.sum(jax.lax.scan(layer, x, a)[0] ** 2))

    both(build, arrays()[0], *arrays(2)[1:])


def test_an_exported_function_has_no_kernel():
    function = jax.jit(jax.grad(functools.partial(loss, "pallas")))
    exported = jax.export.export(function, platforms=("cuda", "tpu"))(*arrays())
    assert not any(name in exported.mlir_module() for name in CALLS)
