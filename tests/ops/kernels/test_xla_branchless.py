"""The formulas without a branch, and the general ones, against float64: offsets and range."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnorm.ops import _implementations
from jaxnorm.ops._formulas import Problem
from jaxnorm.ops._implementations import XLA, XLA_CPU_SMALL, XLA_GPU, XLA_GPU_ROWS, XLA_TPU
from jaxnorm.ops.kernels import _xla_branchless
from jaxnorm.ops.kernels._xla_rows import LONGEST_ROW
from jaxnorm.stats.sampling import Sampling
from tests.ops.kernels.cases import CASES, Case, arrays, computed, expected
from tests.stats.reference import relative_error

LAW = 4e-6
OFFSETS = [0.0, 1e2, 1e6]  # in standard deviations
SIZES = [1e-30, 1e-20, 1e-10, 1e18, 1e30]
FORMS = {
    "rows on GPU": XLA_GPU_ROWS,
    "GPU": XLA_GPU,
    "TPU": XLA_TPU,
    "small": XLA_CPU_SMALL._replace(serves=_xla_branchless.serves),
    "general": XLA,
}
LAYOUTS = {
    "layer, panels and a tail": ("rows on GPU", "GPU", "TPU"),
    "layer of few long rows": ("TPU", "general"),
    "layer of 3 channels": ("rows on GPU", "small"),
    "layer, a scale for each block": ("rows on GPU",),
    "layer with one scale for all": ("rows on GPU",),
    "layer without scale": ("rows on GPU",),
    "batch, blocks and a remainder": ("GPU", "TPU", "general"),
    "instance": ("GPU", "TPU", "small"),
    "group": ("GPU", "TPU"),
    "group of 1 row": ("TPU",),
    "batch and group": ("GPU", "small", "general"),
    "ghost batch": ("GPU", "TPU"),
}
EVERY = pytest.mark.parametrize(
    ("name", "form"), [(name, form) for name, forms in LAYOUTS.items() for form in forms]
)


@pytest.fixture(autouse=True)
def on_this_platform(request, monkeypatch):
    """Lets a form compute on a CPU."""
    chosen = FORMS[request.node.callspec.params.get("form", "TPU")]
    table = (chosen._replace(platform="cpu"), XLA)
    monkeypatch.setattr(_implementations, "TABLE", table)


def compiled(name, **options):
    """Returns the compiled function to `(y, mean, var)` and the gradients."""
    return jax.jit(functools.partial(computed, CASES[name], native=False, **options))


def assert_law(got, want, bound=LAW):
    for have, value in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert relative_error(have, value, at_least=1.0) < bound


@EVERY
@pytest.mark.sampled(4)
def test_output_moments_and_gradients_hold_at_every_offset_with_and_without_an_outlier(name, form):
    run = compiled(name, epsilon=1e-5)
    for offset in OFFSETS:
        x, *rest = arrays(CASES[name], mean=offset)
        outlying = x.at[(0,) * x.ndim].add(1e4)
        for inputs in ((x, *rest), (outlying, *rest)):
            assert_law(run(*inputs), expected(CASES[name], *inputs, epsilon=1e-5))


@pytest.mark.parametrize(
    "case",
    [
        Case((256, 512), (1, 512), (1, 512)),
        Case((2, 16, 16, 512), (2, 1, 1, 512), (1, 1, 1, 512)),
        Case((2, 16, 16, 512), (2, 1, 1, 32), (1, 1, 1, 512)),
    ],
    ids=["batch", "instance", "group"],
)
def test_columns_that_are_summed_in_parts_hold_far_from_zero_beside_an_outlier(case, monkeypatch):
    monkeypatch.setattr(_implementations, "TABLE", (XLA_GPU._replace(platform="cpu"), XLA))
    axes = [axis for axis, n in enumerate(case.stats_shape) if n == 1]
    assert _xla_branchless._parts_of_first_axis(case.shape, axes) == 16
    run = jax.jit(functools.partial(computed, case, native=False, epsilon=1e-5))
    x, *rest = arrays(case, mean=1e6)
    inputs = x.at[(0,) * x.ndim].add(1e4), *rest
    assert_law(run(*inputs), expected(case, *inputs, epsilon=1e-5))


@EVERY
@pytest.mark.sampled(4)
def test_output_and_gradients_hold_for_every_size_with_nothing_added_to_the_variance(name, form):
    run = compiled(name, epsilon=0.0)
    x, scale, bias, (ct, *_) = arrays(CASES[name], mean=3.0)
    still = [np.zeros(CASES[name].stats_shape, np.float32)] * 2
    want, wanted = expected(CASES[name], x, scale, bias, (ct, *still), epsilon=0.0)
    for size in SIZES:
        # A power of two: what is computed of x is exactly as large, or as it was.
        unit = np.float32(2.0 ** np.round(np.log2(size)))
        (y, mean, _), gradients = run(x * unit, scale, bias, (ct, *still))
        got = y, mean / unit, (gradients[0] * unit, *gradients[1:])
        assert_law(got, (*want[:2], tuple(wanted)))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_among_ordinary_numbers_may_be_huge(form):
    case = CASES["layer, panels and a tail"]
    x, *rest = arrays(case)
    x = x.at[::2, ::7].set(1e30)
    still = [np.zeros(case.stats_shape, np.float32)] * 2
    inputs = x, *rest[:2], (rest[2][0], *still)
    got, gradients = compiled("layer, panels and a tail", epsilon=1e-5)(*inputs)
    want, wanted = expected(case, *inputs, epsilon=1e-5)
    assert_law((got[0], got[1] / 1e30), (want[0], want[1] / 1e30))
    assert_law(gradients, wanted)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["layer, panels and a tail"])
def test_a_constant_input_gives_exactly_the_bias_and_a_nan_stays_in_its_row(name, form):
    run = compiled(name, epsilon=1e-5)
    x, scale, bias, cotangents = arrays(CASES[name])
    for value in (0.0, 0.1, -3e4, 1e30):
        constant = jnp.full(x.shape, value, jnp.float32)
        (y, mean, var), _ = run(constant, scale, bias, cotangents)
        np.testing.assert_array_equal(y, np.broadcast_to(bias, x.shape))
        np.testing.assert_array_equal(mean, np.full(mean.shape, value, np.float32))
        np.testing.assert_array_equal(var, np.zeros(var.shape, np.float32))
    (y, *_), (d_x, *_) = run(x.at[1, 2].set(jnp.nan), scale, bias, cotangents)
    for values in (y, d_x):
        assert np.isfinite(np.delete(values, 1, axis=0)).all() and np.isnan(values[1]).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_storage_is_rounded_once(form, dtype):
    case, half = CASES["layer, panels and a tail"], float(jnp.finfo(dtype).eps) / 2
    inputs = arrays(case, dtype, mean=20.0)
    (y, mean, var), gradients = compiled("layer, panels and a tail", epsilon=1e-5)(*inputs)
    want, wanted = expected(case, *inputs, epsilon=1e-5)
    assert y.dtype == gradients[0].dtype == dtype
    assert_law((mean, var, *gradients[1:]), (*want[1:], *wanted[1:]))
    assert_law((y, gradients[0]), (want[0], wanted[0]), LAW + half)


@pytest.mark.parametrize("form", FORMS)
def test_without_centering_the_variance_is_the_mean_square(form):
    case = CASES["layer, panels and a tail"]
    run = compiled("layer, panels and a tail", epsilon=0.0, center=False)
    x, *rest = arrays(case, mean=1.0)
    (y, _, var), gradients = run(x, *rest)
    (large, _, _), _ = run(x * 2.0**100, *rest)
    want, wanted = expected(case, x, *rest, epsilon=0.0, center=False)
    assert_law((y, large, var), (want[0], want[0], want[2]))
    assert_law(gradients, wanted)


@pytest.mark.parametrize("form", ["GPU"])
def test_rows_that_no_registers_hold_and_groups_are_columns(form):
    def reason(shape, stats_shape):
        problem = Problem(Sampling(stats_shape), 1e-5, jnp.dtype("float32"))
        return XLA_GPU_ROWS.serves(problem, jax.ShapeDtypeStruct(shape, jnp.float32), (), ())

    assert reason((8, LONGEST_ROW), (8, 1)) is None
    assert reason((8, 4, 64), (8, 1, 1)) is None
    for shape, stats_shape in (
        ((8, LONGEST_ROW + 1), (8, 1)),
        ((8, 64), (1, 64)),
        ((8, 64), (8, 4)),
        ((8, 4, 64), (1, 4, 1)),
    ):
        assert "not one row" in reason(shape, stats_shape)
