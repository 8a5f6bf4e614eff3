"""Output and gradients beside PyTorch's, both against float64, in units of the dtype's epsilon."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.ops.reference import reference_gradient, reference_standardize
from tests.parity.cases import CASES, DTYPES, EPSILON, NORMS, arrays
from tests.stats.reference import reference_moments, wide

torch = pytest.importorskip("torch", reason="needs the extra `parity`")


@functools.cache
def compiled(implementation, norm, ndim, dtype):
    """Returns our output and gradients; the key is what makes a program of its own."""

    @jax.jit
    def compute(x, scale, bias, cotangent):
        y, pullback = jax.vjp(NORMS[norm].ours, x, scale, bias)
        return y, *pullback(cotangent)

    return compute


def ours(case, given, implementation="xla"):
    with jax.enable_x64(case.dtype == "float64"):
        given = [jnp.asarray(v, DTYPES[case.dtype]) for v in given]
        return [wide(v) for v in compiled(implementation, *case[:3])(*given)]


def theirs(case, given):
    dtype = getattr(torch, case.dtype)
    x, scale, bias, cotangent = (torch.tensor(v, dtype=dtype) for v in given)
    leaves = [v.requires_grad_() for v in (x, scale, bias)]
    y = NORMS[case.norm].torch(torch.nn.functional, *leaves)
    gradients = torch.autograd.grad(y, leaves, cotangent)
    return [v.detach().double().numpy() for v in (y, *gradients)]


class Expected:
    """Output and gradients in float64, and what a rounding of the sums' dtype makes of each."""

    def __init__(self, case, given):
        x, scale, bias, cotangent = given
        norm = NORMS[case.norm]
        kept = norm.parameter_axes(x.ndim)
        shape = [n if a in kept else 1 for a, n in enumerate(x.shape)]
        reduced = tuple(a for a in range(x.ndim) if a not in kept)
        stats_shape = norm.stats_shape(x.shape)
        if norm.center and case.input in ("offset", "constant"):
            x = x - x.flat[0]  # exact, so that the reference of float64 loses no digits either
        row = {"stats_shape": stats_shape, "epsilon": EPSILON, "center": norm.center}
        xhat = reference_standardize(x, **row)
        scale = scale.reshape(shape)
        self.values = [
            xhat * scale + bias.reshape(shape),
            reference_gradient(x, cotangent, scale=scale, **row),
            (cotangent * xhat).sum(reduced),
            cotangent.sum(reduced),
        ]
        # The gradient is a difference of terms of this size; the sums' errors follow their terms.
        var = reference_moments(x, stats_shape, None, norm.center).var
        steepest = np.abs(cotangent * scale).max() / np.sqrt(var.min() + EPSILON)
        self.terms = [
            np.abs(xhat * scale).max() + np.abs(bias).max(),
            steepest * (1 + np.abs(xhat).max()),
            np.abs(cotangent * xhat).sum(reduced).max(),
            np.abs(cotangent).sum(reduced).max(),
        ]


def units(got, expected, dtype):
    """Returns the errors in units of epsilon of the largest entry."""
    epsilon = float(jnp.finfo(DTYPES[dtype]).eps)
    scales = [np.abs(v).max() or 1.0 for v in expected.values]
    pairs = zip(got, expected.values, scales, strict=True)
    return [np.abs(g - v).max() / (epsilon * s) for g, v, s in pairs]


def granted(case, expected, n):
    """Returns what rounding allows: half a unit for the result, and a walk of sums of n terms."""
    epsilon = float(jnp.finfo(DTYPES[case.dtype]).eps)
    sums = float(jnp.finfo(jnp.float64 if case.dtype == "float64" else jnp.float32).eps)
    last = 0.5 if case.dtype in ("float16", "bfloat16") else 0.0
    smallest = float(jnp.finfo(DTYPES[case.dtype]).smallest_subnormal)
    bounds = []
    for value, term in zip(expected.values, expected.terms, strict=True):
        largest = np.abs(value).max() or 1.0
        walk = 8 * sums * np.sqrt(n) * max(term, largest)
        bounds.append((walk + smallest) / (epsilon * largest) + last * (1 + epsilon))
    return bounds


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
@pytest.mark.sampled(24)
def test_output_and_gradients_are_right_to_rounding(case, implementation):
    if (implementation, case.dtype) == ("native", "float64"):
        pytest.skip("the kernels know float32 and narrower")
    given = arrays(case)
    expected = Expected(case, given)
    n = given[0].size / np.prod(NORMS[case.norm].stats_shape(given[0].shape))
    found = units(ours(case, given, implementation), expected, case.dtype)
    for name, error, bound in zip(
        ("output", "x", "scale", "bias"), found, granted(case, expected, n), strict=True
    ):
        assert error <= bound, f"{name}: {error:.3g} units of epsilon, {bound:.3g} granted"


def test_there_are_at_least_two_hundred_cases():
    assert len(CASES) >= 200


@pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.input == "normal"],
    ids=lambda case: "-".join(map(str, case)),
)
def test_pytorch_agrees_where_the_input_is_benign(case):
    given = arrays(case)
    expected = Expected(case, given)
    for have, want, term in zip(
        ours(case, given), theirs(case, given), expected.terms, strict=True
    ):
        # PyTorch rounds parameters' gradients and intermediate values to the dtype of x.
        unit = float(jnp.finfo(DTYPES[case.dtype]).eps)
        assert np.abs(have - want).max() <= 8 * unit * np.sqrt(given[0].size) * term
