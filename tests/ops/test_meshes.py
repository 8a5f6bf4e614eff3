"""Arrays that lie on meshes of devices: under `jit` every norm gives the numbers of one device.

`jax.make_mesh` gives explicit axes by default: the sharding is part of an array's type, and an
operation that does not say where its result lies is an error while the function is traced. So every
combination is traced, which is quick, and a part of them is compiled and run.
"""

import functools
import itertools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnorm
import jaxnorm.linen
import jaxnorm.nnx
from tests.laws.members import claiming, expected_gradients, expected_output, options_of, output
from tests.stats.reference import relative_error, rounding

TYPES = {"explicit": AxisType.Explicit, "auto": AxisType.Auto}
# Four shards along an axis, two along another. A shard holds six examples and six channels, so that
# some groups lie within a shard, some hold several shards, and some end within one.
SHAPES = {2: (24, 24), 3: (24, 8, 24), 4: (24, 4, 8, 24), 5: (24, 4, 4, 4, 24)}
VARIANTS = {
    "group_norm": [{"num_groups": n} for n in (2, 4, 6)],
    "ghost_batch_norm": [{"ghost_batch_size": n} for n in (3, 4, 12)],
}
NORMS = {
    "-".join([member.name, *map(str, options.values())]): (member, options)
    for member in claiming("shards", "mask", "weights")
    for options in VARIANTS.get(member.name, [{}])
}
SAMPLES = {"whole": (), "masked": ("mask",), "weighted": ("weights",)}


def placements(rank):
    """Returns the axes that are sharded: each in turn, and every two at once."""
    return [*itertools.combinations(range(rank), 1), *itertools.combinations(range(rank), 2)]


def cases(ranks):
    """Returns every norm, rank and placement, but the norms that a rank leaves one value."""
    return [
        (norm, rank, axes)
        for norm in NORMS
        for rank in ranks
        for axes in placements(rank)
        if (norm, rank) != ("instance_norm", 2)
    ]


@functools.cache
def mesh(kind):
    return jax.make_mesh((4, 2), ("a", "b"), axis_types=(TYPES[kind],) * 2)


def spec(rank, axes):
    names = dict(zip(axes, "ab"))
    return P(*(names.get(axis) for axis in range(rank)))


def arguments(norm, rank, sample, dtype=np.float32):
    """Returns x, scale, bias, a cotangent and the sample of one device."""
    member, _ = NORMS[norm]
    shape = SHAPES[rank]
    rng = np.random.default_rng(rank)
    drawn = {
        "mask": rng.random(shape) < 0.8,
        "weights": rng.uniform(0.2, 1, shape).astype(dtype),
    }
    scale, bias = rng.normal(1, 0.3, shape[-1]), rng.normal(size=shape[-1])
    parameters = [scale, *options_of(member, bias=bias).values()]
    given = [v.astype(dtype) for v in (rng.normal(3, 1, shape), *parameters)]
    cotangent = rng.normal(size=shape).astype(dtype)
    return given, cotangent, {name: drawn[name] for name in SAMPLES[sample]}


def placed(arguments, rank, axes, kind):
    """Returns the arguments on the mesh: all of the shape of x as x, parameters on every device."""
    own = NamedSharding(mesh(kind), spec(rank, axes))
    everywhere = NamedSharding(mesh(kind), P())
    return jax.tree.map(
        lambda v: jax.device_put(v, own if v.ndim == rank else everywhere), arguments
    )


@functools.cache
def program(norm):
    """Returns the function to output and gradients of x and the parameters."""
    member, options = NORMS[norm]

    @jax.jit
    def compute(given, cotangent, sample):
        y, pullback = jax.vjp(functools.partial(output, member, **options, **sample), *given)
        return y, *pullback(cotangent)

    return compute


def assert_as_on_one_device(norm, rank, axes, kind, sample="whole"):
    given, cotangent, chosen = arguments(norm, rank, sample)
    x, *parameters = given
    got = program(norm)(*placed((given, cotangent, chosen), rank, axes, kind))
    member, options = NORMS[norm]
    options = {**options, "weights": next(iter(chosen.values()), None)}
    expected = expected_output(member, x, *parameters, **options)
    wanted = expected_gradients(member, x, cotangent, *parameters, **options)
    for have, want in zip(got, (expected, *wanted), strict=True):
        assert relative_error(have, want) < rounding(np.float32, x.size)
    for have in got[:2]:  # the output and the gradient of x lie where x does
        assert have.sharding.is_equivalent_to(NamedSharding(mesh(kind), spec(rank, axes)), rank)


def name_of(value):
    return "".join(map(str, value)) if isinstance(value, tuple) else str(value)


@pytest.mark.nightly
@pytest.mark.parametrize("rank", range(2, 6))
@pytest.mark.parametrize("norm", NORMS)
def test_every_placement_can_be_traced_with_explicit_axes(norm, rank):
    if (norm, rank) == ("instance_norm", 2):
        pytest.skip("has one value per statistic")
    for axes, sample in itertools.product(placements(rank), ("whole", "masked")):
        given = placed(arguments(norm, rank, sample), rank, axes, "explicit")
        for have in jax.tree.leaves(program(norm).trace(*given).out_info)[:2]:
            assert have.sharding.spec == spec(rank, axes), (axes, sample)


EVERY_PLACEMENT = pytest.mark.parametrize(
    "axes",
    [(0,), (3,), *(pytest.param(a, marks=pytest.mark.nightly) for a in ((0, 3), (1,), (2,)))],
    ids=name_of,
)


@pytest.mark.parametrize("norm", NORMS)
@EVERY_PLACEMENT
@pytest.mark.sampled(2)
def test_every_sharded_axis_of_an_explicit_mesh_gives_the_numbers_of_one_device(norm, axes):
    assert_as_on_one_device(norm, 4, axes, "explicit")


@pytest.mark.parametrize("norm", ["batch_norm", "layer_norm", "group_norm-2"])
@pytest.mark.parametrize("axes", [(0,), (3,)], ids=name_of)
@pytest.mark.sampled(2)
def test_automatic_axes_give_the_numbers_of_one_device(norm, axes):
    assert_as_on_one_device(norm, 4, axes, "auto")


@pytest.mark.parametrize(
    ("norm", "axes"),
    [
        ("batch_norm", (0,)),
        ("layer_norm", (3,)),
        ("group_norm-6", (3,)),
        ("instance_norm", (1, 2)),
        ("ghost_batch_norm-4", (0,)),
    ],
    ids=name_of,
)
@pytest.mark.parametrize("sample", ["masked", "weighted"])
@pytest.mark.sampled(2)
def test_sharded_masks_and_weights_give_the_numbers_of_one_device(norm, axes, sample):
    assert_as_on_one_device(norm, 4, axes, "explicit", sample)


@pytest.mark.parametrize("rank", [2, 3, 5])
@pytest.mark.parametrize("norm", ["batch_norm", "group_norm-6"])
@pytest.mark.sampled(2)
def test_other_ranks_give_the_numbers_of_one_device(norm, rank):
    assert_as_on_one_device(norm, rank, (0, rank - 1), "explicit")


@pytest.mark.nightly
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("norm", "rank", "axes"), cases(SHAPES)[::5], ids=name_of)
def test_every_fifth_combination_gives_the_numbers_of_one_device(norm, rank, axes, kind):
    # In turn, so that each of the samples meets each of the norms, ranks and places.
    sample = list(SAMPLES)[(len(norm) + rank + sum(axes)) % len(SAMPLES)]
    assert_as_on_one_device(norm, rank, axes, kind, sample)


@pytest.mark.parametrize("shape", [(24, 1, 1, 1), (24,), (4, 1, 1)], ids=name_of)
@pytest.mark.sampled(2)
def test_a_mask_that_lies_on_every_device_serves_a_sharded_array(shape):
    (x, *parameters), cotangent, _ = arguments("batch_norm", 4, "whole")
    mask = np.random.default_rng(9).random(shape) < 0.6
    on_mesh = placed(([x, *parameters], cotangent, {}), 4, (0,), "explicit")
    y, dx, *_ = program("batch_norm")(*on_mesh[:2], {"mask": mask})
    member, _ = NORMS["batch_norm"]
    expected = expected_output(member, x, *parameters, weights=mask)
    wanted = expected_gradients(member, x, cotangent, *parameters, weights=mask)
    assert relative_error(y, expected) < rounding(np.float32, x.size)
    assert relative_error(dx, wanted[0]) < rounding(np.float32, x.size)


def test_a_mesh_that_is_set_for_the_whole_program_serves_as_well():
    with jax.set_mesh(mesh("explicit")):
        assert_as_on_one_device("batch_norm", 4, (0,), "explicit")


def test_features_may_be_sharded_with_their_parameters():
    # As in tensor parallelism: each device holds the scale and the bias of its own channels.
    (x, scale, bias), cotangent, _ = arguments("layer_norm", 3, "whole")
    own = NamedSharding(mesh("explicit"), P(None, None, "a"))
    features = NamedSharding(mesh("explicit"), P("a"))
    given = [jax.device_put(v, s) for v, s in ((x, own), (scale, features), (bias, features))]
    got = program("layer_norm")(given, jax.device_put(cotangent, own), {})
    member, _ = NORMS["layer_norm"]
    expected = expected_output(member, x, scale, bias)
    wanted = expected_gradients(member, x, cotangent, scale, bias)
    for have, want in zip(got, (expected, *wanted), strict=True):
        assert relative_error(have, want) < rounding(np.float32, x.size)
    assert got[2].sharding.is_equivalent_to(features, 1)


MODULES = {
    "BatchNorm": ("batch_norm", {}),
    "LayerNorm": ("layer_norm", {}),
    "RMSNorm": ("rms_norm", {}),
    "GroupNorm": ("group_norm-6", {"num_groups": 6}),
    "InstanceNorm": ("instance_norm", {}),
}


def of_linen(name, x, options):
    norm = getattr(jaxnorm.linen, name)(**options)
    if name == "BatchNorm":
        norm = getattr(jaxnorm.linen, name)(use_running_average=False)
    return norm.init_with_output(jax.random.key(0), x)[0]


def of_nnx(name, x, options):
    return getattr(jaxnorm.nnx, name)(x.shape[-1], rngs=nnx.Rngs(0), **options)(x)


@pytest.mark.parametrize("room", [of_linen, of_nnx])
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("axis", [0, pytest.param(3, marks=pytest.mark.nightly)])
@pytest.mark.sampled(2)
def test_modules_on_an_explicit_mesh_give_the_numbers_of_one_device(name, room, axis):
    norm, options = MODULES[name]
    member, of_function = NORMS[norm]
    (x, *_), cotangent, _ = arguments(norm, 4, "whole")

    @jax.jit
    def both(x, cotangent):
        y, pullback = jax.vjp(lambda x: room(name, x, options), x)
        return y, pullback(cotangent)[0]

    y, dx = both(*placed((x, cotangent), 4, (axis,), "explicit"))
    assert relative_error(y, expected_output(member, x, **of_function)) < rounding("f4", x.size)
    (want,) = expected_gradients(member, x, cotangent, **of_function)
    assert relative_error(dx, want) < rounding("f4", x.size)


class Classifier(nn.Module):
    """Two layers with a batch norm between them."""

    @nn.compact
    def __call__(self, x):
        x = jaxnorm.linen.BatchNorm(use_running_average=False, momentum=0.9)(nn.Dense(12)(x))
        return nn.Dense(3)(jax.nn.relu(x))


def train(batches, everywhere, steps=3):
    """Returns parameters, statistics and losses after some steps, the data lying on `batches`."""
    rng = np.random.default_rng(0)
    data = rng.normal(2, 1, (steps, 24, 6)).astype(np.float32), rng.integers(0, 3, (steps, 24))
    model, optimizer = Classifier(), optax.sgd(0.1)
    variables = model.init(jax.random.key(0), data[0][0])
    variables = jax.device_put(variables, everywhere)
    params, stats = variables["params"], variables["batch_stats"]

    @jax.jit
    def step(params, stats, moved, x, label):
        def loss(params):
            given = {"params": params, "batch_stats": stats}
            logits, updated = model.apply(given, x, mutable=["batch_stats"])
            one_hot = jax.nn.one_hot(label, 3)
            return -jnp.mean(jnp.sum(one_hot * jax.nn.log_softmax(logits), -1)), updated

        (value, updated), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        changes, moved = optimizer.update(gradients, moved)
        return optax.apply_updates(params, changes), updated["batch_stats"], moved, value

    moved, losses = optimizer.init(params), []
    for x, label in zip(*data):
        params, stats, moved, value = step(
            params, stats, moved, *jax.device_put((x, label), batches)
        )
        losses.append(value)
    return params, stats, losses


@pytest.mark.parametrize("kind", TYPES)
def test_data_parallel_training_gives_the_parameters_and_statistics_of_one_device(kind):
    places = [NamedSharding(mesh(kind), P(*names)) for names in ((("a", "b"),), ())]
    spread, alone = train(*places), train(*jax.devices()[:1] * 2)
    # Three steps of sums over 24 examples, in another order; a shard alone would differ by 0.1.
    bound = 3 * rounding(np.float32, 24 * 12)
    chex.assert_trees_all_close(*jax.device_get((spread, alone)), rtol=bound, atol=bound)


@pytest.mark.parametrize("kind", TYPES)
def test_data_parallel_training_of_nnx_gives_the_statistics_of_the_whole_batch(kind):
    (x, *_), _, _ = arguments("batch_norm", 2, "whole")
    norm = jaxnorm.nnx.BatchNorm(24, momentum=0.9, rngs=nnx.Rngs(0))
    place = NamedSharding(mesh(kind), P("a"))

    @nnx.jit
    def step(norm, x):
        return nnx.grad(lambda norm, x: jnp.sum(norm(x) ** 3))(norm, x)

    gradient = step(norm, jax.device_put(x, place))
    wide = x.astype(np.float64)
    xhat = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5)
    bound = rounding(np.float32, x.size)
    assert relative_error(norm.mean[...], 0.1 * wide.mean(0)) < bound
    assert relative_error(norm.var[...], 0.9 + 0.1 * wide.var(0)) < bound
    assert relative_error(gradient["scale"][...], 3 * (xhat**3).sum(0)) < bound
    assert relative_error(gradient["bias"][...], 3 * (xhat**2).sum(0)) < bound
