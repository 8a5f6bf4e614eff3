"""The linen spectral norm is pure, and evaluates with the stored vectors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from jaxnorm.linen import SpectralNorm
from tests.linen.reference import sample

EPS = float(jnp.finfo(jnp.float32).eps)
KEY = jax.random.key(0)
X = sample(shape=(3, 4))
NORM = SpectralNorm(nn.Dense(5), n_steps=2)


def power_iteration(kernel, u, n_steps):
    """Returns the largest singular value that power iteration finds, and its vector, in float64."""
    matrix = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
    u = np.asarray(u, np.float64).ravel()
    for _ in range(n_steps):
        v = matrix @ u / np.linalg.norm(matrix @ u)
        u = v @ matrix / np.linalg.norm(v @ matrix)
    return v @ matrix @ u, u


def with_stats(variables, u, sigma):
    stats = {
        "layer_instance/kernel/u": jnp.asarray(u),
        "layer_instance/kernel/sigma": jnp.asarray(sigma),
    }
    return {**variables, "batch_stats": stats}


def test_a_training_step_takes_power_iterations_and_divides_by_what_they_find():
    variables = NORM.init(KEY, X, update_stats=False)
    kernel = variables["params"]["layer_instance"]["kernel"]
    u = variables["batch_stats"]["layer_instance/kernel/u"]
    y, updated = NORM.apply(variables, X, update_stats=True, mutable=["batch_stats"])
    sigma, vector = power_iteration(kernel, u, 2)
    assert_allclose(y, X @ np.asarray(kernel) / sigma, rtol=32 * EPS, atol=8 * EPS)
    assert_allclose(updated["batch_stats"]["layer_instance/kernel/sigma"], sigma, rtol=16 * EPS)
    assert_allclose(updated["batch_stats"]["layer_instance/kernel/u"], vector[None], atol=16 * EPS)


def test_law_15_evaluation_uses_the_stored_vectors():
    variables = NORM.init(KEY, X, update_stats=False)
    kernel = np.asarray(variables["params"]["layer_instance"]["kernel"], np.float64)
    u = np.array([[0.6, 0.0, 0.8, 0.0, 0.0]])
    y = NORM.apply(with_stats(variables, u, 2.5), X, update_stats=False)
    sigma = np.linalg.norm(kernel @ u[0])
    assert_allclose(y, X @ kernel / sigma, rtol=32 * EPS, atol=8 * EPS)


def test_law_15_flax_iterates_in_evaluation():
    norm = nn.SpectralNorm(nn.Dense(5), n_steps=2)
    variables = norm.init(KEY, X, update_stats=False)
    kernel = np.asarray(variables["params"]["layer_instance"]["kernel"], np.float64)
    u = np.array([[0.6, 0.0, 0.8, 0.0, 0.0]])
    y = norm.apply(with_stats(variables, u, 2.5), X, update_stats=False)
    assert np.abs(y - X @ kernel / np.linalg.norm(kernel @ u[0])).max() > 0.1


def test_evaluation_before_the_first_update_iterates_from_the_random_vector():
    variables = NORM.init(KEY, X, update_stats=False)
    trained, _ = NORM.apply(variables, X, update_stats=True, mutable=["batch_stats"])
    assert_array_equal(NORM.apply(variables, X, update_stats=False), trained)


@pytest.mark.parametrize("update_stats", [True, False])
def test_law_15_the_kernel_is_never_written(update_stats):
    dense = nn.Dense(5)
    variables = SpectralNorm(dense).init(KEY, X, update_stats=update_stats)
    kernel = variables["params"]["layer_instance"]["kernel"]
    _, updated = SpectralNorm(dense).apply(variables, X, update_stats=update_stats, mutable=True)
    assert_array_equal(updated["params"]["layer_instance"]["kernel"], kernel)
    assert_allclose(np.std(kernel), 0.5, rtol=0.5)  # as lecun_normal made it: 1 / sqrt(4)


def test_law_15_flax_writes_the_kernel_where_it_is_mutable():
    norm = nn.SpectralNorm(nn.Dense(5))
    variables = norm.init(KEY, X, update_stats=True)
    raised = jax.tree.map(lambda v: 3 * v, variables["params"])
    _, updated = norm.apply({**variables, "params": raised}, X, update_stats=True, mutable=True)
    ratio = updated["params"]["layer_instance"]["kernel"] / raised["layer_instance"]["kernel"]
    assert (np.abs(ratio - 1) > 0.5).all()


def test_the_gradient_is_that_of_the_quotient_with_constant_vectors():
    variables = NORM.init(KEY, X, update_stats=False)
    cotangent = sample(shape=(3, 5), seed=1)
    u, sigma = np.eye(5)[:1], 2.5

    def loss(params):
        given = with_stats({"params": params}, u, sigma)
        return jnp.vdot(NORM.apply(given, X, update_stats=False), cotangent)

    kernel = np.asarray(variables["params"]["layer_instance"]["kernel"], np.float64)
    sigma = np.linalg.norm(kernel[:, 0])
    v = kernel[:, 0] / sigma
    pull = np.float64(X).T @ cotangent
    expected = pull / sigma - (pull * kernel).sum() / sigma**2 * np.outer(v, u)
    gradient = jax.grad(loss)(variables["params"])["layer_instance"]["kernel"]
    assert_allclose(gradient, expected, rtol=64 * EPS, atol=64 * EPS)


def test_a_kernel_of_higher_rank_is_seen_as_a_matrix():
    conv = SpectralNorm(nn.Conv(4, (3,), use_bias=False, padding="VALID"), n_steps=100)
    x = sample(shape=(2, 3, 5))
    variables = conv.init(KEY, x, update_stats=False)
    kernel = np.asarray(variables["params"]["layer_instance"]["kernel"], np.float64)
    sigma = np.linalg.svd(kernel.reshape(-1, 4), compute_uv=False)[0]
    y = conv.apply(variables, x, update_stats=False)
    expected = x.reshape(2, 15) @ kernel.reshape(15, 4) / sigma
    assert_allclose(y[:, 0], expected, rtol=1e-4, atol=1e-5)


class Block(nn.Module):
    """A layer with running statistics of two axes, which are no kernel."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4)(x)
        norm = nn.BatchNorm(use_running_average=False, momentum=0.5, axis=(1, 2), name="norm")
        return norm(x.reshape(-1, 2, 2))


def test_running_statistics_of_the_layer_move_and_are_not_normalized():
    norm = SpectralNorm(Block())
    variables = norm.init(KEY, X, update_stats=True)
    _, updated = norm.apply(variables, X, update_stats=True, mutable=["batch_stats"])
    assert not [name for name in updated["batch_stats"] if "norm/mean" in name]
    assert np.abs(updated["batch_stats"]["layer_instance"]["norm"]["mean"]).min() > 0


def test_an_error_names_the_layer_and_the_kernel():
    norm = SpectralNorm(nn.Conv(4, (3,)), error_on_non_matrix=True)
    with pytest.raises(
        ValueError, match=r"SpectralNorm: Input is 3D .* layer_instance/kernel \[3, 5, 4\]"
    ):
        norm.init(KEY, sample(shape=(2, 3, 5)), update_stats=False)


def test_an_update_works_under_jit_vmap_and_scan():
    variables = NORM.init(KEY, X, update_stats=False)
    kernel = variables["params"]["layer_instance"]["kernel"]

    @jax.jit
    def settle(stats):
        def step(stats, _):
            given = {**variables, "batch_stats": stats}
            return NORM.apply(given, X, update_stats=True, mutable=["batch_stats"])[1][
                "batch_stats"
            ], None

        return jax.lax.scan(step, stats, length=60)[0]

    starts = jax.tree.map(lambda v: jnp.stack([v, 2 * v]), variables["batch_stats"])
    stats = jax.vmap(settle)(starts)
    sigma = np.linalg.svd(np.asarray(kernel, np.float64), compute_uv=False)[0]
    assert_allclose(stats["layer_instance/kernel/sigma"], [sigma, sigma], rtol=16 * EPS)
