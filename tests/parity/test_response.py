"""Local response norm beside PyTorch's."""

import jax
import numpy as np
import pytest

from jaxnorm import local_response_norm
from tests.stats.reference import relative_error, rounding

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
X = RNG.normal(0, 3, size=(2, 4, 3, 7)).astype(np.float32)
COTANGENT = RNG.normal(size=X.shape).astype(np.float32)


def of_torch(function):
    """Returns output and gradient of a function in PyTorch, channels first there."""
    x = torch.tensor(X, dtype=torch.float64, requires_grad=True)
    y = function(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    y.backward(torch.tensor(COTANGENT, dtype=torch.float64))
    return y.detach().numpy(), x.grad.numpy()


def assert_equal(ours, theirs):
    y, pullback = jax.vjp(ours, X)
    for have, want in zip((y, *pullback(COTANGENT)), of_torch(theirs), strict=True):
        assert relative_error(have, want) < rounding(np.float32, X.size)


@pytest.mark.parametrize("size", [4, 5])
def test_local_response_norm_is_that_of_pytorch_if_alpha_is_divided_by_the_size(size):
    theirs = torch.nn.LocalResponseNorm(size, alpha=0.1, beta=0.6, k=1.5)
    assert_equal(
        lambda x: local_response_norm(x, size=size, alpha=0.1, beta=0.6, k=1.5, average=True),
        theirs,
    )
