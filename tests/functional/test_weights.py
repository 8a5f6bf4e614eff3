"""Weight norm, weight standardization and spectral norm against NumPy's linear algebra."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from jaxnorm import SpectralState, spectral_norm_init
from tests.stats.programs import compiled
from tests.stats.reference import relative_error, rounding

spectral_norm = compiled(jaxnorm.spectral_norm)
weight_norm = compiled(jaxnorm.weight_norm)
weight_norm_scale = compiled(jaxnorm.weight_norm_scale)
weight_standardization = compiled(jaxnorm.weight_standardization)

KERNEL = np.random.default_rng(0).normal(0.3, 1, (3, 2, 4, 5)).astype(np.float32)
SCALE = np.random.default_rng(1).normal(1, 0.5, 5).astype(np.float32)
BOUND = rounding(np.float32, 24)


def norms(axes, kernel=KERNEL):
    return np.sqrt((kernel.astype(np.float64) ** 2).sum(axes, keepdims=True))


def test_weight_norm_gives_each_feature_the_length_of_its_scale():
    w = weight_norm(KERNEL, SCALE)
    assert relative_error(w, KERNEL / norms((0, 1, 2)) * SCALE) < BOUND
    assert relative_error(norms((0, 1, 2), np.asarray(w)).ravel(), np.abs(SCALE)) < BOUND


def test_weight_norm_gives_length_one_without_a_scale():
    assert relative_error(weight_norm(KERNEL), KERNEL / norms((0, 1, 2))) < BOUND


@pytest.mark.parametrize(("feature_axes", "reduced"), [(0, (1, 2, 3)), ((-1, 2), (0, 1))])
def test_weight_norm_takes_any_feature_axes(feature_axes, reduced):
    w = weight_norm(KERNEL, feature_axes=feature_axes)
    assert relative_error(w, KERNEL / norms(reduced)) < BOUND


def test_weight_norm_may_give_the_whole_kernel_one_length():
    w = weight_norm(KERNEL, jnp.float32(3.0), feature_axes=None)
    assert relative_error(w, KERNEL / norms(None) * 3) < BOUND


@pytest.mark.parametrize("feature_axes", [-1, (0, 3), None])
def test_the_initial_scale_leaves_the_kernel_as_it_is(feature_axes):
    scale = weight_norm_scale(KERNEL, feature_axes=feature_axes)
    w = weight_norm(KERNEL, scale, feature_axes=feature_axes)
    assert relative_error(w, KERNEL) < BOUND


def test_the_initial_scale_is_the_norm_of_each_feature():
    assert relative_error(weight_norm_scale(KERNEL), norms((0, 1, 2)).ravel()) < BOUND


def test_weight_norm_of_a_zero_kernel_is_zero_with_a_finite_gradient():
    def both(kernel, scale):
        w, pullback = jax.vjp(jaxnorm.weight_norm, kernel, scale)
        return w, *pullback(jnp.ones_like(w))

    w, *gradients = compiled(both)(jnp.zeros((3, 2)), jnp.ones(2))
    assert not np.any(w) and all(np.all(np.isfinite(g)) for g in gradients)


def test_the_weight_norm_is_that_of_flax():
    layer, kernel = nn.WeightNorm(nn.Dense(5, use_bias=False)), KERNEL.reshape(-1, 5)
    identity = np.eye(24, dtype=np.float32)
    names = jax.eval_shape(layer.init, jax.random.key(0), identity)
    variables = jax.tree.map(lambda v: kernel if v.shape == (24, 5) else SCALE, names)
    assert len(jax.tree.leaves(variables)) == 2
    w = np.asarray(layer.apply(variables, identity))
    assert relative_error(weight_norm(kernel, SCALE), w) < BOUND


def test_weight_standardization_gives_each_output_mean_zero_and_variance_one():
    w = weight_standardization(KERNEL, SCALE)
    wide, axes = KERNEL.astype(np.float64), (0, 1, 2)
    expected = (wide - wide.mean(axes)) / np.sqrt(wide.var(axes) + 1e-6) * SCALE
    assert relative_error(w, expected) < BOUND


def test_weight_standardization_takes_any_feature_axes():
    w = weight_standardization(KERNEL, feature_axes=(0, 2))
    wide, axes = KERNEL.astype(np.float64), (1, 3)
    mean, var = wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True)
    assert relative_error(w, (wide - mean) / np.sqrt(var + 1e-6)) < BOUND


@pytest.mark.parametrize("function", [weight_norm, weight_standardization])
def test_a_scale_that_does_not_fit_the_features_is_refused(function):
    with pytest.raises(
        ValueError, match=r"scale \[4\] fits neither the features \[5\] on axes \[3"
    ):
        function(KERNEL, np.ones(4, np.float32))


def start(kernel=KERNEL):
    return spectral_norm_init(jax.random.key(0), kernel)


def singular(kernel=KERNEL):
    """Returns the largest singular value, and its left and right vectors."""
    left, values, right = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]).astype(np.float64))
    return values[0], left[:, 0], right[0]


def test_spectral_norm_divides_by_the_largest_singular_value():
    w, state = spectral_norm(KERNEL, start(), n_steps=60)
    assert relative_error(w, KERNEL / singular()[0]) < rounding(np.float32, 120)
    assert float(state.sigma) == pytest.approx(singular()[0], rel=1e-5)
    assert abs(abs(np.dot(state.u, singular()[2])) - 1) < 1e-4


def test_one_step_per_call_gets_there_too():
    state = start()
    step = jax.jit(jaxnorm.spectral_norm)
    for _ in range(60):
        w, state = step(KERNEL, state)
    assert relative_error(w, KERNEL / singular()[0]) < rounding(np.float32, 120)


def test_one_step_is_one_step_of_power_iteration():
    state = start()
    matrix, u = KERNEL.reshape(-1, 5).astype(np.float64), np.asarray(state.u, np.float64)
    v = matrix @ u / np.linalg.norm(matrix @ u)
    u = v @ matrix / np.linalg.norm(v @ matrix)
    w, state = spectral_norm(KERNEL, state)
    assert relative_error(state.u, u) < BOUND
    assert relative_error(w, KERNEL / (v @ matrix @ u)) < BOUND


def test_the_gradient_holds_the_vectors_constant():
    # W / s with s = v^T W u and constant v, u: dL/dW = (C - (C . W / s) v u^T) / s.
    cotangent = np.random.default_rng(2).normal(size=KERNEL.shape).astype(np.float32)
    _, state = spectral_norm(KERNEL, start(), n_steps=60)

    def loss(kernel):
        return jnp.vdot(jaxnorm.spectral_norm(kernel, state)[0], cotangent)

    gradient = compiled(jax.grad(loss))(KERNEL)
    value, left, right = singular()
    outer = np.outer(left, right).reshape(KERNEL.shape)
    expected = (cotangent - np.sum(cotangent * KERNEL) / value * outer) / value
    assert relative_error(gradient, expected) < rounding(np.float32, 120)


def test_evaluation_uses_the_stored_vector_and_leaves_the_state_alone():
    _, state = spectral_norm(KERNEL, start(), n_steps=2)
    w, after = spectral_norm(KERNEL, state, update_state=False)
    np.testing.assert_array_equal(after.u, state.u)
    matrix, u = KERNEL.reshape(-1, 5).astype(np.float64), np.asarray(state.u, np.float64)
    v = matrix @ u / np.linalg.norm(matrix @ u)
    assert relative_error(w, KERNEL / (v @ matrix @ u)) < BOUND


def test_evaluation_before_any_step_takes_one_instead_of_a_random_direction():
    trained, _ = spectral_norm(KERNEL, start())
    evaluated, _ = spectral_norm(KERNEL, start(), update_state=False)
    np.testing.assert_allclose(evaluated, trained, rtol=1e-6)


def test_no_steps_use_the_stored_vector():
    state = SpectralState(jnp.asarray(singular()[2], jnp.float32), jnp.float32(2.0))
    w, after = spectral_norm(KERNEL, state, n_steps=0)
    assert relative_error(w, KERNEL / singular()[0]) < BOUND
    np.testing.assert_array_equal(after.u, state.u)
    assert float(after.sigma) == pytest.approx(singular()[0], rel=1e-5)


def test_a_zero_kernel_stays_zero():
    w, state = spectral_norm(jnp.zeros((3, 2)), SpectralState(jnp.ones(2), jnp.ones(())))
    assert not np.any(w) and np.all(np.isfinite(state.u))


def test_the_state_keeps_its_dtypes_for_a_bfloat16_kernel():
    kernel = jnp.asarray(KERNEL, jnp.bfloat16)
    w, state = spectral_norm(kernel, start(kernel))
    assert (w.dtype, state.u.dtype, state.sigma.dtype) == (jnp.bfloat16, np.float32, np.float32)


def test_spectral_norm_refuses_vectors():
    with pytest.raises(ValueError, match=r"needs a kernel of rank 2 or more, got \[5\]; leave vec"):
        spectral_norm(SCALE, SpectralState(jnp.ones(5), jnp.ones(())))


def test_spectral_norm_refuses_the_state_of_another_kernel():
    message = (
        r"u \[4\], but the kernel \[3, 2, 4, 5\] needs \[5\]; make one with spectral_norm_init"
    )
    with pytest.raises(ValueError, match=message):
        spectral_norm(KERNEL, SpectralState(jnp.ones(4), jnp.ones(())))


def test_spectral_norm_refuses_negative_steps():
    with pytest.raises(ValueError, match=r"n_steps=-1 must not be negative; 0 uses the stored"):
        spectral_norm(KERNEL, start(), n_steps=-1)


@pytest.mark.parametrize(
    "call",
    [
        weight_norm,
        weight_standardization,
        lambda kernel: spectral_norm(kernel, SpectralState(jnp.ones(5), jnp.ones(()))),
    ],
    ids=["weight_norm", "weight_standardization", "spectral_norm"],
)
def test_an_integer_kernel_is_refused_with_a_remedy(call):
    with pytest.raises(TypeError, match=r"must be floating or complex, got int32 .*convert it"):
        call(KERNEL.astype(np.int32))


@pytest.mark.nightly
@pytest.mark.parametrize("size", [1e-30, 1e-14, 1e14])
def test_the_direction_of_a_spectral_norm_does_not_depend_on_the_size_of_the_kernel(size):
    kernel = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    state = SpectralState(jnp.ones(4), jnp.zeros(()))
    y, new = spectral_norm(kernel * np.float32(size), state, n_steps=200)
    largest = np.linalg.svd(kernel.astype(np.float64), compute_uv=False)[0]
    assert relative_error(y, kernel / largest) < rounding(np.float32, kernel.size)
    assert relative_error(new.sigma, largest * size) < rounding(np.float32, kernel.size)
