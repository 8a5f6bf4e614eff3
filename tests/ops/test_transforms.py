"""Every norm under the rest of what JAX does to functions, against the oracle of its name."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from jax import export
from jax.custom_batching import custom_vmap
from jax.experimental import checkify, jet
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import jaxnorm
from jaxnorm import BatchStats, batch_norm
from jaxnorm.stats import Moments, moments
from tests.laws.members import (
    SAMPLED,
    claiming,
    expected_gradients,
    expected_output,
    expected_tangent,
    naive_output,
    options_of,
    output,
    over,
)
from tests.stats.reference import relative_error, rounding, wide

SHAPE = (4, 3, 2, 8)
BOUND = rounding(np.float32, np.prod(SHAPE))
MASKED = claiming("mask")


def array(seed=0, mean=3.0, dtype=np.float32, shape=SHAPE):
    return np.random.default_rng(seed).normal(mean, 1, shape).astype(dtype)


def hidden():
    """Returns a mask that leaves each sample some entries."""
    return np.random.default_rng(9).random(SHAPE) < 0.7


def with_gradient(function):
    """Returns the function to the output and the gradient of its first argument."""

    def compute(x, cotangent):
        y, pullback = jax.vjp(function, x)
        return y, pullback(cotangent)[0]

    return compute


def along(function, x, first, second):
    """Returns value, first and second derivative of `function(x + t first + t^2 / 2 second)`."""

    def curve(t):
        return function(x + t * first + t * t / 2 * second)

    def slope(t):
        return jax.jvp(curve, (t,), (jnp.ones_like(t),))[1]

    zero = jnp.zeros((), x.dtype)
    return curve(zero), slope(zero), jax.jvp(slope, (zero,), (jnp.ones_like(zero),))[1]


def expected_along(function, *given):
    """Returns what `along` finds for the oracle in float64."""
    with jax.enable_x64(True):
        wider = [jnp.asarray(v, jnp.float64) for v in given]
        run = jax.jit(functools.partial(along, function))
        return jax.tree.map(np.asarray, run(*wider))


def assert_taylor(function, oracle):
    given = array(), array(1, 0.0), array(2, 0.0)
    y, terms = jax.jit(lambda x, v, w: jet.jet(function, (x,), ((v, w),)))(*given)
    for have, want in zip((y, *terms), expected_along(oracle, *given), strict=True):
        # The second derivative divides by the deviation once more.
        assert relative_error(have, want) < 10 * BOUND


@over(SAMPLED)
@pytest.mark.sampled(2)
def test_taylor_coefficients_are_the_derivatives_along_a_curve(member):
    assert_taylor(functools.partial(output, member), functools.partial(naive_output, member))


@over(MASKED)
@pytest.mark.sampled(2)
def test_taylor_coefficients_of_a_masked_sample(member):
    mask = hidden()
    oracle = functools.partial(naive_output, member, weights=mask.astype(float))
    assert_taylor(functools.partial(output, member, mask=mask), oracle)


def evaluated(x):
    stats = BatchStats(jnp.linspace(1.0, 3.0, SHAPE[-1]), jnp.linspace(0.5, 2.0, SHAPE[-1]))
    return batch_norm(x, stats, use_running_average=True)[0]


def test_taylor_coefficients_of_evaluation():
    mean, var = np.linspace(1.0, 3.0, SHAPE[-1]), np.linspace(0.5, 2.0, SHAPE[-1])
    assert_taylor(evaluated, lambda x: (x - mean) / np.sqrt(var + 1e-5))


@over(SAMPLED)
@pytest.mark.sampled(2)
def test_a_linearized_function_is_the_tangent_everywhere(member):
    x, first, second = array(), array(1, 0.0), array(2, 0.0)

    @jax.jit
    def compute(x, first, second):
        y, linear = jax.linearize(functools.partial(output, member), x)
        return y, linear(first), linear(second), *jax.linear_transpose(linear, x)(first)

    expected = (
        expected_output(member, x),
        expected_tangent(member, (x,), (first,)),
        expected_tangent(member, (x,), (second,)),
        *expected_gradients(member, x, first),
    )
    for have, want in zip(compute(x, first, second), expected, strict=True):
        assert relative_error(have, want) < BOUND


@over(SAMPLED)
@pytest.mark.sampled(6)
def test_float_checks_pass_ordinary_numbers_and_name_the_others(member):
    run = checkify.checkify(
        with_gradient(functools.partial(output, member)), errors=checkify.float_checks
    )
    run, x, cotangent = jax.jit(run), array(), array(1, 0.0)
    error, (y, dx) = run(x, cotangent)
    assert error.get() is None
    assert relative_error(y, expected_output(member, x)) < BOUND
    assert relative_error(dx, expected_gradients(member, x, cotangent)[0]) < BOUND
    x[0, 0, 0, 0] = np.nan
    error, _ = run(x, cotangent)
    assert "nan generated" in error.get()


@over(MASKED)
@pytest.mark.sampled(2)
def test_float_checks_pass_what_a_mask_excludes(member):
    mask, x, cotangent = hidden(), array(), array(1, 0.0)

    def run(x, cotangent):
        return with_gradient(functools.partial(output, member, mask=mask))(x, cotangent)

    checked = jax.jit(checkify.checkify(run, errors=checkify.float_checks))
    error, (y, _) = checked(np.where(mask, x, np.float32(np.nan)), cotangent)
    assert error.get() is None
    assert relative_error(y[mask], expected_output(member, x, weights=mask)[mask]) < BOUND


@over(SAMPLED)
@pytest.mark.sampled(6)
def test_a_jaxpr_prints_and_computes_the_same(member):
    x, cotangent = array(), array(1, 0.0)
    closed = jax.make_jaxpr(with_gradient(functools.partial(output, member)))(x, cotangent)
    assert "lambda" in str(closed) and closed.pretty_print(use_color=False)
    y, dx = jax.jit(jaxpr_as_fun(closed))(x, cotangent)
    assert relative_error(y, expected_output(member, x)) < BOUND
    assert relative_error(dx, expected_gradients(member, x, cotangent)[0]) < BOUND


@over(SAMPLED)
@pytest.mark.sampled(2)
def test_shapes_and_dtypes_are_known_without_computing(member):
    for dtype in (jnp.float32, jnp.bfloat16):
        x = jnp.asarray(array(), dtype)
        run = with_gradient(functools.partial(output, member))
        promised = jax.eval_shape(run, x, x)
        got = jax.jit(run)(x, x)
        chex.assert_trees_all_equal_shapes_and_dtypes(promised, got, (x, x))


@over(SAMPLED)
def test_a_norm_may_stand_within_a_rule_of_ones_own_for_vmap(member):
    run = functools.partial(output, member)

    @custom_vmap
    def normalized(x):
        return run(x)

    @normalized.def_vmap
    def rule(axis_size, in_batched, x):
        return jax.vmap(run)(x), True

    batch = array(shape=(2, *SHAPE))
    y = jax.jit(jax.vmap(normalized))(batch)
    want = np.stack([expected_output(member, x) for x in batch])
    assert relative_error(y, want) < BOUND


@over(SAMPLED)
@pytest.mark.parametrize(
    "dtype", [jnp.float32, pytest.param(jnp.bfloat16, marks=pytest.mark.nightly)]
)
@pytest.mark.sampled(2)
def test_a_program_is_exported_for_every_platform(member, dtype):
    x, cotangent = jnp.asarray(array(), dtype), jnp.asarray(array(1, 0.0), dtype)
    run = jax.jit(with_gradient(functools.partial(output, member)))
    for platforms in (["tpu"], ["cuda"], ["cpu", "cuda", "tpu"]):
        program = export.export(run, platforms=platforms)(x, cotangent)
        assert "custom_call @jaxnorm" not in program.mlir_module()
    y, dx = program.call(x, cotangent)
    half = 0 if dtype == jnp.float32 else float(jnp.finfo(dtype).eps) / 2
    assert relative_error(y, expected_output(member, wide(x))) < BOUND + half
    want = expected_gradients(member, wide(x), wide(cotangent))[0]
    assert relative_error(dx, want) < BOUND + half


@over(claiming("shards"))
@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.sampled(2)
def test_gradients_of_replicated_parameters_sum_over_the_shards(member, check_vma):
    # The examples of a shard are whole: no statistic is shared, but scale and bias are.
    x, cotangent = array(shape=(16, *SHAPE[1:])), array(1, 0.0, shape=(16, *SHAPE[1:]))
    parameters = [array(2, 1.0, shape=SHAPE[-1:])]
    parameters += options_of(member, bias=array(3, 0.0, shape=SHAPE[-1:])).values()
    mesh = Mesh(np.array(jax.devices()[:4]), ("devices",))
    # Where the batch is reduced, the shards share the statistics.
    shared = {"axis_name": "devices"} if member.stats_shape(SHAPE)[0] == 1 else {}
    mapped = jax.shard_map(
        functools.partial(output, member, **shared),
        mesh=mesh,
        in_specs=(P("devices"), *(P() for _ in parameters)),
        out_specs=P("devices"),
        check_vma=check_vma,
    )

    @jax.jit
    def both(given, cotangent):
        y, pullback = jax.vjp(mapped, *given)
        return y, *pullback(cotangent)

    got = both([x, *parameters], cotangent)
    wanted = expected_gradients(member, x, cotangent, *parameters)
    for have, want in zip(got, (expected_output(member, x, *parameters), *wanted), strict=True):
        assert relative_error(have, want) < rounding(np.float32, x.size)


class HiddenTest(chex.TestCase):
    """Padding that is not a number, under the checks of JAX for what is not a number."""

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.named_parameters(
        (f"{member.name}_{dtype.__name__}", member, dtype)
        for member, dtype in zip(MASKED, itertools.cycle((jnp.float32, jnp.bfloat16)))
    )
    def test_what_a_mask_excludes_trips_no_check(self, member, dtype):
        mask = hidden()
        x, cotangent = jnp.asarray(array(), dtype), jnp.asarray(array(1, 0.0) * mask, dtype)
        # An array of JAX: the check looks at those of NumPy as they are brought to the device.
        dirty = jnp.where(mask, x, np.resize([np.nan, np.inf, -np.inf], SHAPE)).astype(dtype)
        run = self.variant(with_gradient(functools.partial(output, member, mask=mask)))
        with jax.debug_nans(True), jax.debug_infs(True):
            y, dx = run(dirty, cotangent)
        half = 0 if dtype == jnp.float32 else float(jnp.finfo(dtype).eps) / 2
        want = expected_output(member, wide(x), weights=mask)
        assert relative_error(y[mask], want[mask]) < BOUND + half
        want = expected_gradients(member, wide(x), wide(cotangent), weights=mask)[0]
        assert relative_error(dx, want) < BOUND + half


@over(SAMPLED)
def test_what_no_mask_excludes_trips_the_check(member):
    x = array()
    x[0, 0, 0, 0] = np.nan
    # JAX 0.8.1 raises an exception of its own, which is no FloatingPointError.
    with jax.debug_nans(True), pytest.raises(Exception, match="nan"):
        jax.jit(functools.partial(output, member))(x)


@over(SAMPLED)
def test_other_values_of_the_same_shape_are_not_traced_again(member):
    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(x):
        return output(member, x)

    chex.clear_trace_counter()
    for mean in (0.0, 3.0, 1e4):
        x = array(mean=mean)
        assert relative_error(run(x), expected_output(member, x)) < BOUND


@pytest.mark.nightly
@over(SAMPLED)
@pytest.mark.parametrize("dtype", [jnp.float8_e4m3fn, jnp.float8_e5m2])
def test_float8_has_statistics_of_float32_and_one_rounding_of_the_result(member, dtype):
    x, cotangent = jnp.asarray(array(), dtype), jnp.asarray(array(1, 0.0), dtype)
    run = jax.jit(with_gradient(functools.partial(output, member)))
    want = expected_output(member, wide(x))
    dx_want = expected_gradients(member, wide(x), wide(cotangent))[0]
    info = jnp.finfo(dtype)
    for have, value in zip(run(x, cotangent), (want, dx_want), strict=True):
        assert have.dtype == dtype
        granted = float(info.eps) / 2 * np.abs(value) + float(info.smallest_subnormal)
        assert np.all(np.abs(wide(have) - value) <= granted + BOUND * np.abs(value).max())
    asked = jax.jit(functools.partial(output, member, dtype=jnp.float32))
    assert asked(x).dtype == np.float32
    assert relative_error(asked(x), want) < BOUND


@pytest.mark.parametrize("dtype", [jnp.float8_e4m3fn, jnp.float8_e5m2])
def test_moments_of_float8_are_float32(dtype):
    x = jnp.asarray(array(), dtype)
    taken = moments(x, (1, 1, 1, SHAPE[-1]))
    chex.assert_type([taken.mean, taken.var], jnp.float32)
    assert relative_error(taken.mean.ravel(), wide(x).mean((0, 1, 2))) < BOUND
    assert relative_error(taken.var.ravel(), wide(x).var((0, 1, 2))) < BOUND


def with_epsilon(epsilon):
    """Returns a call of every function that takes an epsilon."""
    x = jnp.asarray(array())
    given = Moments(jnp.zeros((4, 1, 1, 1)), jnp.ones((4, 1, 1, 1)), jnp.ones(()))
    calls = {m.name: functools.partial(output, m, x, epsilon=epsilon) for m in SAMPLED}
    stats = BatchStats(jnp.zeros(SHAPE[-1]), jnp.ones(SHAPE[-1]))
    return {
        **calls,
        "standardize": lambda: jaxnorm.standardize(x, (4, 1, 1, 1), epsilon=epsilon),
        "normalize": lambda: jaxnorm.normalize(x, given, epsilon=epsilon),
        "evaluation": lambda: batch_norm(x, stats, use_running_average=True, epsilon=epsilon),
    }


@pytest.mark.parametrize("epsilon", [-1.0, -1e-12, float("nan")])
@pytest.mark.parametrize("name", with_epsilon(1.0))
def test_an_epsilon_that_makes_roots_of_negative_numbers_is_refused(name, epsilon):
    with pytest.raises(ValueError, match="epsilon"):
        with_epsilon(epsilon)[name]()


@pytest.mark.parametrize("name", with_epsilon(1.0))
@pytest.mark.sampled(6)
def test_an_epsilon_of_zero_is_none(name):
    chex.assert_tree_all_finite(with_epsilon(0.0)[name]())


@pytest.mark.parametrize("rows", [8, 2048])  # a small array and a large one
def test_plain_gradients_are_summed_over_what_vmap_does_not_map(rows):
    rng = np.random.default_rng(0)
    shapes = ((3, rows, 24), (3, 1, 24), (1, 24))
    x, scale, bias = (jnp.asarray(rng.normal(1, 1, shape), jnp.float32) for shape in shapes)

    def loss(x, scale, bias):
        given = {"scale": scale, "bias": bias, "epsilon": 1e-3, "implementation": "xla"}
        return jnp.sum(jnp.sin(jaxnorm.standardize(x, (1, 24), **given)[0]))

    mapped = jax.vmap(loss, (0, 0, None))
    got = jax.jit(jax.grad(lambda *a: jnp.sum(mapped(*a)), (1, 2)))(x, scale, bias)
    each = [jax.jit(jax.grad(loss, (1, 2)))(x[i], scale[i], bias) for i in range(3)]
    assert relative_error(got[0], jnp.stack([d for d, _ in each]), 1.0) < 1e-5
    assert relative_error(got[1], sum(d for _, d in each), 1.0) < 1e-5
