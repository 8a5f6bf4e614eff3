"""Weight norm and spectral norm beside PyTorch's parametrizations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm import (
    SpectralState,
    spectral_norm,
    weight_norm,
    weight_norm_scale,
    weight_standardization,
)
from tests.stats.reference import relative_error, rounding

torch = pytest.importorskip("torch", reason="needs the extra `parity`")

KERNEL = np.random.default_rng(0).normal(size=(5, 4, 3, 2)).astype(np.float32)  # [out, in, h, w]
COTANGENT = np.random.default_rng(1).normal(size=KERNEL.shape).astype(np.float32)
BOUND = rounding(np.float32, 24)


def module(parametrization, **options):
    """Returns a convolution in float64 whose kernel is parametrized."""
    conv = torch.nn.Conv2d(4, 5, (3, 2), bias=False, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(KERNEL))
    return parametrization(conv, **options)


def number(tensor):
    return tensor.detach().numpy()


@pytest.mark.parametrize("dim", [0, 1])
def test_weight_norm_starts_as_pytorchs_and_has_its_gradients(dim):
    conv = module(torch.nn.utils.parametrizations.weight_norm, dim=dim)
    direction = conv.parametrizations.weight.original1
    length = conv.parametrizations.weight.original0
    scale = weight_norm_scale(KERNEL, feature_axes=dim)
    assert relative_error(scale, number(length).ravel()) < BOUND

    w, pullback = jax.vjp(lambda k, s: weight_norm(k, s, feature_axes=dim), KERNEL, scale)
    assert relative_error(w, number(conv.weight)) < BOUND
    expected = torch.autograd.grad(
        conv.weight, (direction, length), torch.tensor(COTANGENT * 1.0).double()
    )
    d_kernel, d_scale = pullback(jnp.asarray(COTANGENT))
    assert relative_error(d_kernel, number(expected[0])) < BOUND
    assert relative_error(d_scale, number(expected[1]).ravel()) < BOUND


def test_weight_norm_may_have_one_length_as_pytorchs_with_no_dim():
    conv = module(torch.nn.utils.parametrizations.weight_norm, dim=-1)
    with torch.no_grad():
        conv.parametrizations.weight.original0.fill_(3.0)
    w = weight_norm(KERNEL, jnp.float32(3.0), feature_axes=None)
    assert relative_error(w, number(conv.weight)) < BOUND


def test_one_step_of_spectral_norm_is_one_step_of_pytorchs():
    # PyTorch turns its stored v into u and then v; ours turns u into v and then u, of a matrix
    # [in, out]: the same step on the transposed matrix.
    torch.manual_seed(0)
    conv = module(torch.nn.utils.parametrizations.spectral_norm)
    parametrization = conv.parametrizations.weight[0]
    matrix = KERNEL.reshape(5, -1)
    state = SpectralState(jnp.asarray(number(parametrization._v), jnp.float32), jnp.ones(()))

    leaf = conv.parametrizations.weight.original
    theirs = conv.weight  # one step, in training mode
    (gradient,) = torch.autograd.grad(theirs, leaf, torch.tensor(COTANGENT).double())
    w, pullback, after = jax.vjp(lambda k: spectral_norm(k, state), matrix, has_aux=True)
    assert relative_error(w.reshape(KERNEL.shape), number(theirs)) < BOUND
    assert relative_error(after.u, number(parametrization._v)) < BOUND
    (ours,) = pullback(jnp.asarray(COTANGENT.reshape(5, -1)))
    assert relative_error(ours.reshape(KERNEL.shape), number(gradient)) < BOUND


def test_both_converge_to_the_same_kernel():
    torch.manual_seed(0)
    conv = module(torch.nn.utils.parametrizations.spectral_norm, n_power_iterations=200)
    ours = KERNEL.transpose(2, 3, 1, 0)  # [h, w, in, out]
    w, state = spectral_norm(ours, SpectralState(jnp.ones(5), jnp.ones(())), n_steps=200)
    expected = number(conv.weight).transpose(2, 3, 1, 0)
    assert relative_error(w, expected) < rounding(np.float32, 200)
    conv.eval()
    evaluated, _ = spectral_norm(ours, state, update_state=False)
    evaluation = number(conv.weight).transpose(2, 3, 1, 0)
    assert relative_error(evaluated, evaluation) < rounding(np.float32, 200)


def test_weight_standardization_is_that_of_its_authors():
    # https://arxiv.org/abs/1903.10520, equation 7, in PyTorch's own operations.
    kernel = torch.tensor(KERNEL).double()
    rows = kernel.reshape(5, -1)
    var, mean = torch.var_mean(rows, dim=1, unbiased=False, keepdim=True)
    expected = ((rows - mean) / torch.sqrt(var + 1e-6)).reshape(kernel.shape).numpy()
    assert relative_error(weight_standardization(KERNEL, feature_axes=0), expected) < BOUND
