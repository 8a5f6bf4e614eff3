"""Meshes with explicit axes: what the types of results say, and who else is served by them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnorm import normalize, show_config, standardize
from jaxnorm.ops import fused_standardize
from jaxnorm.stats import Moments, cumulative, ema, moments, pool
from tests.ops.reference import reference_gradient, reference_standardize
from tests.ops.test_partitioned import (
    BATCH,
    EPSILON,
    GHOST,
    GROUP,
    LAYER,
    ONE_EACH,
    arrays,
    assert_right,
    compiled,
    counted,
    largest,
    mesh,
    placed,
    with_gradients,
)
from tests.stats.reference import reference_moments, relative_error, rounding

explicit = functools.partial(mesh, kind=AxisType.Explicit)


@pytest.mark.parametrize(
    ("stats_shape", "x", "statistics"),
    [
        (BATCH, P(("a", "b")), P()),
        (BATCH, P("a", None, None, "b"), P(None, None, None, "b")),
        (LAYER, P("a", None, None, "b"), P("a")),
        (GROUP[4], P(None, None, None, "a"), P(None, None, None, "a")),
        (GROUP[6], P(None, None, None, "a"), P()),
        (GROUP[6], P(None, None, None, "b"), P(None, None, None, "b")),
        (GROUP[2], P(None, None, None, ("b", "a")), P()),
        (GHOST[8], P(("a", "b")), P(("a", "b"))),
    ],
)
def test_statistics_lie_where_whole_samples_do(stats_shape, x, statistics):
    def run(values):
        return standardize(values, stats_shape, epsilon=EPSILON), moments(values, stats_shape)

    values = arrays()[0]
    (y, own), taken = jax.jit(run)(*placed([values], x, on=explicit()))
    assert y.sharding.is_equivalent_to(NamedSharding(explicit(), x), 4)
    mean, var, _ = reference_moments(values, stats_shape)
    for have, want in ((own.mean, mean), (own.var, var), (taken.mean, mean), (taken.var, var)):
        assert have.sharding.is_equivalent_to(NamedSharding(explicit(), statistics), 4)
        assert relative_error(have, want) < rounding(np.float32, values.size)


def test_statistics_of_shards_are_gathered_to_be_pooled():
    values = arrays()[0]
    (given,) = placed([values], P("a"), on=explicit())
    program = compiled(lambda x: pool(moments(x, GHOST[8]), BATCH), [given])
    assert counted(program.as_text()) == {"all-gather": 1}
    mean, var, _ = reference_moments(values, BATCH)
    assert relative_error(program(given).mean, mean) < rounding(np.float32, values.size)
    assert relative_error(program(given).var, var) < rounding(np.float32, values.size)


@pytest.mark.parametrize("estimator", [ema(0.9), cumulative()])
def test_running_statistics_stay_where_they_lie(estimator):
    values = arrays()[0]
    (given,) = placed([values], P("a", None, None, "b"), on=explicit())
    state = jax.device_put(estimator.init((24,)), NamedSharding(explicit(), P()))

    def step(state, _):
        batch = moments(given, BATCH)
        return estimator.update(state, Moments(*(jnp.reshape(v, v.shape[3:]) for v in batch))), ()

    got = estimator.read(jax.jit(lambda state: jax.lax.scan(step, state, length=2)[0])(state))
    mean, var, _ = reference_moments(values, BATCH)
    share = 0.19 if estimator == ema(0.9) else 1.0
    assert relative_error(got.mean, share * mean.ravel()) < rounding(np.float32, values.size)
    expected = share * var.ravel() + 1 - share
    assert relative_error(got.var, expected) < rounding(np.float32, values.size)


def test_running_statistics_may_be_sharded_over_the_devices_of_the_batch():
    values = arrays((24, 24))[0]
    (given,) = placed([values], P("a"), on=explicit())
    _, var, _ = reference_moments(values, (1, 24))
    stats = [v.astype(np.float32).ravel() for v in (values[0], var)]
    mean, var = (jax.device_put(v, NamedSharding(explicit(), P("a"))) for v in stats)

    @jax.jit
    def run(x, mean, var):
        return normalize(x, Moments(mean[None], var[None], jnp.ones(())), epsilon=EPSILON)

    want = (values - np.float64(stats[0])) / np.sqrt(np.float64(stats[1]) + EPSILON)
    got = run(given, mean, var)
    assert relative_error(got, want) < rounding(np.float32, values.size)
    assert got.sharding.is_equivalent_to(given.sharding, 2)


def test_a_residual_lies_as_x_and_its_gradient_as_itself():
    x, scale, bias, cotangent = arrays()
    residual = arrays(seed=1)[0]
    specs = P("a"), P(("a", "b")), P(), P(), P("a")
    values = x, residual, scale, bias, cotangent
    given = [jax.device_put(v, NamedSharding(explicit(), s)) for v, s in zip(values, specs)]

    def run(x, residual, scale, bias, cotangent):
        def added(x, residual):
            sample = {"scale": scale, "bias": bias, "epsilon": EPSILON}
            return fused_standardize(x, BATCH, residual=residual, **sample).y

        y, pullback = jax.vjp(added, x, residual)
        return y, *pullback(cotangent)

    y, d_x, d_residual = jax.jit(run)(*given)
    total, ct = x.astype(np.float64) + residual, cotangent.astype(np.float64)
    bound = rounding(np.float32, x.size)
    expected = reference_standardize(total, BATCH, EPSILON, scale=scale, bias=bias)
    assert relative_error(y, expected) < bound
    wanted = reference_gradient(total, ct, BATCH, EPSILON, scale=scale)
    for have, value in ((d_x, given[0]), (d_residual, given[1])):
        assert relative_error(have, wanted) < bound
        assert have.sharding.is_equivalent_to(value.sharding, 4)


def test_a_mapped_cotangent_is_not_gathered_for_an_x_that_is_not_mapped():
    x, cotangents = arrays((24, 24))[0], arrays((8, 24, 24))[3]
    given = [
        jax.device_put(v, NamedSharding(explicit(), s))
        for v, s in ((x, P("a")), (cotangents, P("b", "a")))
    ]

    def run(x, cotangents):
        _, pullback = jax.vjp(lambda x: standardize(x, (1, 24), epsilon=EPSILON)[0], x)
        return jax.vmap(pullback)(cotangents)[0]

    program = compiled(run, given)
    assert counted(program.as_text()) == ONE_EACH
    assert largest(program.as_text()) == cotangents.size // 8
    got = program(*given)
    assert got.sharding.is_equivalent_to(given[1].sharding, 3)
    for have, ct in zip(got, cotangents, strict=True):
        want = reference_gradient(x.astype(np.float64), ct.astype(np.float64), (1, 24), EPSILON)
        assert relative_error(have, want) < rounding(np.float32, x.size)


def test_an_exported_program_says_how_it_is_partitioned():
    values = arrays()
    given = placed(values, P(("a", "b")), on=explicit())
    exported = jax.export.export(jax.jit(with_gradients(BATCH)), platforms=("cpu", "tpu"))(*given)
    program = compiled(exported.call, given)
    assert counted(program.as_text()) == ONE_EACH
    assert largest(program.as_text()) < values[0].size
    assert_right(program(*given), values, BATCH)


def test_a_mesh_of_one_device_gives_its_numbers():
    values = arrays((24, 24))
    device = np.array(jax.devices()[:1]).reshape(1, 1)
    alone = Mesh(device, ("a", "b"), axis_types=(AxisType.Explicit,) * 2)
    given = placed(values, P("a"), P("b"), alone)
    program = compiled(with_gradients((1, 24)), given)
    assert counted(program.as_text()) == {}
    assert_right(program(*given), values, (1, 24))


def test_axes_of_two_kinds_are_left_to_xla():
    values = arrays((24, 24))
    two = Mesh(explicit().devices, ("a", "b"), axis_types=(AxisType.Explicit, AxisType.Auto))
    given = placed(values, P("a"), P(), two)
    assert_right(jax.jit(with_gradients((1, 24)))(*given), values, (1, 24))
    assert "no, left to XLA: some axes of the mesh are not explicit" in show_config(
        given[0], (1, 24)
    )


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [
        (lambda x: x, {}, None),
        (lambda x: x + 0j, {}, "complex"),
        (lambda x: x, {"implementation": "xla"}, "plain JAX was asked for"),
        (lambda x: x, {"quantize": "int8"}, None),
    ],
    ids=["served", "complex", "xla", "quantized"],
)
def test_the_configuration_says_whether_shards_choose(change, options, reason):
    (x,) = placed(arrays((24, 24))[:1], P("a"), on=explicit())
    told = show_config(change(x), (24, 1), **options)
    assert ("explicit axes: yes, each shard chooses" in told) == (reason is None)
    assert reason is None or reason in told.split("explicit axes: no, left to XLA:")[1]


def test_what_is_left_to_xla_gives_the_numbers_of_one_device():
    x = arrays((24, 24))[0]
    (given,) = placed([x], P("a"), on=explicit())
    options = {"epsilon": EPSILON, "implementation": "xla"}
    y = jax.jit(lambda x: standardize(x, (1, 24), **options)[0])(given)
    assert relative_error(y, reference_standardize(x, (1, 24), EPSILON)) < rounding(
        np.float32, x.size
    )


def test_bfloat16_gives_the_numbers_of_one_device():
    values = arrays((24, 24), jnp.bfloat16)
    given = placed(values, P("b", "a"), on=explicit())
    assert_right(jax.jit(with_gradients((1, 24)))(*given), values, (1, 24))
