"""Relatives of RMS norm beside what PyTorch users write, output and gradient in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from tests.stats.reference import relative_error, rounding

torch = pytest.importorskip("torch", reason="needs the extra `parity`")

X = np.random.default_rng(0).normal(0.5, 1, (4, 3, 8)).astype(np.float32)
Z = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
SCALE = np.random.default_rng(2).normal(1, 0.3, 8).astype(np.float32)
COTANGENT = np.random.default_rng(3).normal(size=X.shape).astype(np.float32)
# Both sides round.
BOUND = 2 * rounding(np.float32, X.size)


def llama(x, z, scale):
    return scale * torch.nn.functional.rms_norm(x, (8,), eps=1e-6)


def gemma(x, z, scale):
    return torch.nn.functional.rms_norm(x, (8,), 1 + scale, eps=1e-6)


def mamba(x, z, scale):
    gated = x * torch.nn.functional.silu(z)
    groups = torch.nn.functional.rms_norm(gated.reshape(4, 3, 2, 4), (4,), eps=1e-5)
    return groups.reshape(x.shape) * scale


def scale_norm(x, z, scale):
    return x * (scale[0] / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=1e-5))


def cosine(x, z, scale):
    return torch.nn.functional.normalize(x, dim=-1) * scale


PAIRS = {
    "rms_norm": (lambda x, z, s: jaxnorm.rms_norm(x, s, cast="before"), llama),
    "zero_centered": (lambda x, z, s: jaxnorm.rms_norm(x, s, zero_centered=True), gemma),
    "gated": (lambda x, z, s: jaxnorm.gated_rms_norm(x, z, s, num_groups=2), mamba),
    "scale_norm": (lambda x, z, s: jaxnorm.scale_norm(x, s[0]), scale_norm),
    "qk_norm": (lambda x, z, s: jaxnorm.qk_norm(x, z, s, epsilon=0.0)[0], cosine),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.sampled(4)
def test_output_and_gradients_are_those_of_pytorch(name):
    ours, theirs = PAIRS[name]
    y, pullback = jax.vjp(jax.jit(ours), X, Z, SCALE)
    leaves = [torch.tensor(v, requires_grad=True) for v in (X, Z, SCALE)]
    want = theirs(*leaves)
    gradients = torch.autograd.grad(want, leaves, torch.tensor(COTANGENT), allow_unused=True)
    for have, wanted in zip((y, *pullback(COTANGENT)), (want, *gradients), strict=True):
        expected = np.zeros(X.shape) if wanted is None else wanted.detach().numpy()
        assert relative_error(have, expected) < BOUND


def test_a_cast_before_the_scale_gives_the_bits_of_llama_in_bfloat16():
    x, scale = torch.tensor(X).bfloat16(), torch.tensor(SCALE).bfloat16()
    wide = x.float()
    rounded = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).bfloat16()
    want = (scale * rounded).float().numpy()
    y = jax.jit(lambda x, s: jaxnorm.rms_norm(x, s, cast="before"))(
        jnp.asarray(X, jnp.bfloat16), jnp.asarray(SCALE, jnp.bfloat16)
    )
    np.testing.assert_array_equal(np.asarray(y, np.float32), want)
