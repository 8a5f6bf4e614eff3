"""Law 15: a reparametrization is a pure function of its leaves, each of which can be learned."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import spectral_norm, spectral_norm_init, weight_norm, weight_norm_scale
from tests.laws.members import KERNELS, SAMPLED, array, expected_output, output, over
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

SHAPE = (3, 3, 4, 5)
BOUND = rounding(np.float32, 36)


@over(KERNELS)
@pytest.mark.sampled(2)
def test_a_call_leaves_its_kernel_alone_and_gives_the_same_again(member):
    kernel = jnp.asarray(array(shape=SHAPE))
    before = np.asarray(kernel).copy()
    first, second = output(member, kernel), output(member, kernel)
    np.testing.assert_array_equal(kernel, before)
    np.testing.assert_array_equal(first, second)


@over([m for m in KERNELS if m in SAMPLED])
def test_every_leaf_gets_the_gradient_of_its_definition(member):
    kernel, cotangent = array(shape=SHAPE), array(1, SHAPE)
    scale = array(2, SHAPE[-1:], 1.0)

    @compiled
    def gradients(kernel, scale):
        return jax.grad(lambda k, s: jnp.vdot(output(member, k, s), cotangent), (0, 1))(
            kernel, scale
        )

    d_kernel, d_scale = gradients(kernel, scale)
    unit = expected_output(member, kernel)
    assert relative_error(d_scale, (cotangent * unit).sum((0, 1, 2))) < BOUND
    assert np.all(np.abs(d_kernel).max((0, 1, 2)) > 1e-3)


def test_weight_norm_starts_as_the_function_that_it_reparametrizes():
    kernel = array(shape=SHAPE)
    assert relative_error(weight_norm(kernel, weight_norm_scale(kernel)), kernel) < BOUND


def test_every_leaf_of_a_spectrally_normalized_layer_gets_a_gradient():
    kernel, bias, x = array(shape=(4, 5)), np.zeros(5, np.float32), array(1, (8, 4))
    state = spectral_norm_init(jax.random.key(0), kernel)

    @compiled
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradients(kernel, bias):
        return jnp.sum(jnp.tanh(x @ spectral_norm(kernel, state)[0] + bias))

    assert all(np.all(np.abs(g) > 1e-6) for g in gradients(kernel, bias))


def test_evaluation_uses_the_stored_vectors_whatever_was_evaluated_before():
    kernel = array(shape=SHAPE)
    _, state = spectral_norm(kernel, spectral_norm_init(jax.random.key(0), kernel), n_steps=3)
    evaluate = jax.jit(functools.partial(spectral_norm, update_state=False))
    w, after = evaluate(kernel, state)
    again, _ = evaluate(kernel, after)
    np.testing.assert_array_equal(after.u, state.u)
    np.testing.assert_array_equal(again, w)
