"""The native path under jax's transformations, against the plain path of `standardize`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnorm import standardize
from tests.ops.kernels.cases import native_serves, needs_native, standardized
from tests.stats.programs import OPTIMIZED, without_type_checks
from tests.stats.reference import relative_error

pytestmark = needs_native

# Both paths hold the law of 4e-6, and a second derivative divides by the deviation once more.
BOUND = 3e-5
SHAPE = (8, 3, 24)
LAYER, BATCH, GROUP = (8, 3, 1), (1, 1, 24), (8, 1, 4)
LAYOUTS = pytest.mark.parametrize(
    "stats_shape", [LAYER, BATCH, GROUP], ids=["layer", "batch", "group"]
)


def arrays(*lead: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    draw = functools.partial(rng.normal, 1.0, 1.0)
    shapes = ((*lead, *SHAPE), (*lead, 1, 1, 24), (*lead, 1, 1, 24))
    return tuple(jnp.asarray(draw(shape), jnp.float32) for shape in shapes)


def native(stats_shape, x, scale, bias):
    return standardized(x, stats_shape, scale, bias, epsilon=1e-3)


def plain(stats_shape, x, scale, bias):
    # The primitives take no array for epsilon: this is the derivative of `standardize` itself.
    epsilon = jnp.float32(1e-3)
    y, moments = standardize(x, stats_shape, scale=scale, bias=bias, epsilon=epsilon)
    return y, moments.mean, moments.var


def loss(function, stats_shape, *inputs):
    """Returns a number to which every output contributes unevenly."""
    return sum(jnp.sum(jnp.sin(v * 1.3 + 0.1)) for v in function(stats_shape, *inputs))


def assert_same(got, want, bound=BOUND):
    for have, value in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert relative_error(have, value, 1.0) < bound


def both(build, *inputs):
    """Checks that what is built upon the native path returns what it does upon the plain one."""
    programs = (jax.jit(build(function)) for function in (native, plain))
    assert_same(*(program(*inputs) for program in programs))


def native_calls(function, *inputs) -> int:
    return jax.jit(function).lower(*inputs).as_text().count("custom_call @jaxnorm_")


@LAYOUTS
@pytest.mark.sampled(2)
def test_forward_mode_is_the_tangent(stats_shape):
    both(
        lambda f: lambda *a: jax.jvp(functools.partial(f, stats_shape), a[:3], a[3:]),
        *arrays(),
        *arrays(seed=1),
    )


@LAYOUTS
@pytest.mark.sampled(2)
def test_forward_over_reverse_is_the_second_derivative(stats_shape):
    def build(function):
        gradient = jax.grad(functools.partial(loss, function, stats_shape), (0, 1, 2))
        return lambda *a: jax.jvp(gradient, a[:3], a[3:])

    both(build, *arrays(), *arrays(seed=1))


@LAYOUTS
@pytest.mark.sampled(2)
def test_reverse_over_reverse_is_the_second_derivative(stats_shape):
    def build(function):
        gradient = jax.grad(functools.partial(loss, function, stats_shape), (0, 1, 2))
        return jax.grad(lambda *a: sum(jnp.sum(v**3) for v in gradient(*a)), (0, 1, 2))

    both(build, *arrays())


def test_reverse_over_forward_is_the_second_derivative():
    def build(function):
        def directional(*a):
            return jax.jvp(functools.partial(loss, function, BATCH), a, arrays(seed=1))[1]

        return jax.grad(directional, (0, 1, 2))

    both(build, *arrays())


@pytest.mark.parametrize(
    "mapped", [(0, None, None), (0, 0, 0), (0, 0, None), (None, 0, 0), (2, 1, 0)]
)
@LAYOUTS
@pytest.mark.sampled(4)
def test_vmap_is_a_loop(stats_shape, mapped):
    batch, single = arrays(3), arrays()
    inputs = [
        one if axis is None else jnp.moveaxis(many, 0, axis)
        for one, many, axis in zip(single, batch, mapped)
    ]

    def run(*inputs):
        return jax.value_and_grad(functools.partial(loss, native, stats_shape), (0, 1, 2))(*inputs)

    got = jax.jit(jax.vmap(run, mapped))(*inputs)
    rows = [
        run(*(one if axis is None else many[i] for one, many, axis in zip(single, batch, mapped)))
        for i in range(3)
    ]
    assert_same(got, jax.tree.map(lambda *v: jnp.stack(v), *rows))
    assert native_calls(jax.vmap(run, mapped), *inputs) == 2


@pytest.mark.parametrize("jacobian", [jax.jacfwd, jax.jacrev, jax.hessian])
@pytest.mark.sampled(2)
def test_jacobians_map_the_derivatives(jacobian):
    x, scale, bias = arrays()

    def build(function):
        def run(x, scale, bias):
            y, _, var = function((1, 6), x, scale[0], bias[0])
            return jnp.stack([jnp.sum(y**3), jnp.sum(var)])

        return jacobian(run, (0, 1))

    both(build, x[:4, 0, :6], scale[..., :6], bias[..., :6])


@pytest.mark.parametrize("mapped", [(0, None, None), (0, 0, None)])
@LAYOUTS
@pytest.mark.sampled(2)
def test_the_gradient_of_vmap_sums_over_what_is_shared(stats_shape, mapped):
    inputs = [a if axis is None else b for a, b, axis in zip(arrays(), arrays(3), mapped)]

    def build(function):
        mapping = jax.vmap(functools.partial(loss, function, stats_shape), mapped)
        return jax.grad(lambda *a: jnp.sum(mapping(*a)), (0, 1, 2))

    both(build, *inputs)


def test_only_wanted_gradients_are_computed():
    x, scale, bias = arrays()
    gradient = jax.grad(functools.partial(loss, native, BATCH), (1, 2))
    text = str(jax.make_jaxpr(gradient)(x, scale, bias))
    assert "shapes=(None, None, (1, 1, 24), (1, 1, 24))" in text
    assert_same(
        gradient(x, scale, bias),
        jax.grad(functools.partial(loss, plain, BATCH), (1, 2))(x, scale, bias),
    )


def test_the_backward_pass_keeps_x_and_three_numbers_per_statistic():
    x, scale, bias = arrays()
    x = x.astype(jnp.bfloat16)
    _, pull = jax.vjp(lambda x: native(LAYER, x, scale, bias)[0], x)
    kept = sum(v.nbytes for v in jax.tree.leaves(pull))
    assert kept <= x.nbytes + 3 * 4 * 24 + scale.nbytes


def test_scan_and_remat_change_nothing():
    def build(function):
        @jax.checkpoint
        def layer(x, affine):
            return jnp.tanh(function(LAYER, x, *affine)[0]), None

        def run(x, *affine):
            return jnp.sum(jax.lax.scan(layer, x, affine)[0] ** 2)

        return jax.value_and_grad(run, (0, 1, 2))

    x, _, _ = arrays()
    both(build, x, *arrays(4)[1:])


def test_a_donated_input_gives_the_same_and_is_gone():
    x, scale, bias = arrays()
    want = native(LAYER, x, scale, bias)[0]
    given = x.copy()
    got = jax.jit(lambda x: native(LAYER, x, scale, bias)[0], donate_argnums=0)(given)
    np.testing.assert_array_equal(got, want)
    assert given.is_deleted()


def mesh():
    return jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))


@LAYOUTS
@pytest.mark.sampled(2)
def test_a_sharded_jit_exchanges_no_more_often_than_the_plain_path(stats_shape):
    x, scale, bias = arrays()
    x = jax.device_put(x, NamedSharding(mesh(), P("data")))

    def counts(function):
        gradient = jax.value_and_grad(functools.partial(loss, function, stats_shape), (0, 1, 2))
        compiled = jax.jit(gradient).lower(x, scale, bias).compile(OPTIMIZED)
        text = compiled.as_text()
        return compiled(x, scale, bias), [
            text.count(f" {c}(") for c in ("all-gather", "all-reduce")
        ]

    (got, ours), (want, theirs) = counts(native), counts(plain)
    assert sum(ours) <= sum(theirs)
    assert_same(got, want)


@pytest.mark.parametrize("check_vma", [True, False])
def test_shard_map_runs_natively_and_sums_the_gradients_of_shared_parameters(check_vma):
    def build(function):
        def shard(x, scale, bias):
            return jax.lax.psum(loss(function, (1, 3, 1), x, scale, bias), "data")

        specs = {"in_specs": (P("data"), P(), P()), "out_specs": P(), "check_vma": check_vma}
        whole = jax.shard_map(shard, mesh=mesh(), **specs)
        return jax.value_and_grad(whole, (0, 1, 2))

    both(build, *arrays())
    assert native_calls(build(native), *arrays()) == 2


def test_the_shards_of_an_explicitly_sharded_array_take_the_kernels():
    explicit = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    placed = [
        jax.device_put(v, NamedSharding(explicit, P("data" if v.shape[0] == 8 else None)))
        for v in arrays()
    ]
    gradients = jax.value_and_grad(functools.partial(loss, native, LAYER), (0, 1, 2))
    assert native_calls(gradients, *placed) == 2
    assert_same(jax.jit(gradients)(*placed), jax.jit(gradients)(*arrays()))


def test_an_exported_function_needs_no_library():
    x, scale, bias = arrays()
    function = jax.jit(jax.grad(functools.partial(loss, native, LAYER)))
    exported = jax.export.export(function, platforms=("cpu", "tpu"))(x, scale, bias)
    assert "@jaxnorm_" not in exported.mlir_module()
    assert_same(exported.call(x, scale, bias), function(x, scale, bias))


def test_a_symbolic_shape_is_left_to_the_plain_path():
    (n,) = jax.export.symbolic_shape("n")
    seen = []

    def function(x):
        seen.append(native_serves(x, (x.shape[0], 1), epsilon=1e-3))
        return x

    with without_type_checks():
        jax.export.export(jax.jit(function))(jax.ShapeDtypeStruct((n, 24), jnp.float32))
    assert seen == [False]
