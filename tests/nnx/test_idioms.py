"""What people do with nnx models holds with our norms inside: transforms, filters, copies."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from numpy.testing import assert_allclose, assert_array_equal

import jaxnorm.nnx
from jaxnorm.diagnostics import layer_values
from jaxnorm.functional import SPECS
from jaxnorm.models import norm_factory
from jaxnorm.surgery import collect_moments, get_variables, recalibrate
from tests.zoo.every import CASES

EPS = float(jnp.finfo(jnp.float32).eps)
CLOSE = {"rtol": 64 * EPS, "atol": 64 * EPS}
X = jax.random.normal(jax.random.key(0), (8, 4))


class Block(nnx.Module):
    """A residual block with two norms, one of them with running statistics."""

    def __init__(self, rngs):
        self.dense = nnx.Linear(4, 4, rngs=rngs)
        self.norm = jaxnorm.nnx.BatchNorm(4, momentum=0.9, rngs=rngs)
        self.scale = jaxnorm.nnx.RMSNorm(4, rngs=rngs)

    def __call__(self, x):
        return self.scale(x + jnp.tanh(self.norm(self.dense(x))))


@nnx.vmap
def blocks(key):
    return Block(nnx.Rngs(key))


KEYS = jax.random.split(jax.random.key(1), 3)


class Stack(nnx.Module):
    """Blocks under `nnx.scan`, each of them rematerialized."""

    def __init__(self):
        self.blocks = blocks(KEYS)

    def __call__(self, x):
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        def run(block, x):
            return nnx.remat(lambda block, x: block(x))(block, x)

        return run(self.blocks, x)


class Loop(nnx.Module):
    """The same blocks one after the other."""

    def __init__(self):
        self.blocks = nnx.List([Block(nnx.Rngs(key)) for key in KEYS])

    def __call__(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@nnx.jit
def train(model, optimizer):
    loss, gradient = nnx.value_and_grad(lambda model: jnp.mean(model(X) ** 3))(model)
    optimizer.update(model, gradient)
    return loss


def norms_only():
    """Returns the filter of the parameters of norms."""
    return nnx.All(nnx.Param, nnx.Any(nnx.PathContains("norm"), nnx.PathContains("scale")))


def stacked(variables):
    """Returns the variables of a loop as those of a stack."""
    parts = variables["blocks"].values()
    return {"blocks": jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)}


def test_scan_and_remat_over_layers_train_as_a_loop_with_a_filter_on_the_optimizer():
    models = Stack(), Loop()
    kernels = [jnp.copy(block.dense.kernel[...]) for block in models[1].blocks]
    losses = []
    for model in models:
        optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=norms_only())
        losses.append([float(train(model, optimizer)) for _ in range(2)])
    assert_allclose(*losses, rtol=64 * EPS)
    first, second = map(get_variables, models)
    for collection in ("params", "batch_stats"):
        want = stacked(second[collection])
        jax.tree.map(lambda a, b: assert_allclose(a, b, **CLOSE), first[collection], want)
    # Norms moved, which the filter names, and nothing else.
    assert_array_equal(first["params"]["blocks"]["dense"]["kernel"], jnp.stack(kernels))
    assert all((first["params"]["blocks"][n]["scale"] != 1).any() for n in ("norm", "scale"))


def test_moments_and_values_of_scanned_layers_come_stacked():
    stack, loop = Stack(), Loop()
    found, want = (collect_moments(model, X)["blocks"] for model in (stack, loop))
    for i in range(3):
        assert_allclose(found["norm"].mean[i], want[str(i)]["norm"].mean, **CLOSE)
        assert_allclose(found["norm"].var[i], want[str(i)]["norm"].var, **CLOSE)
    values, alone = layer_values(stack, X), layer_values(loop, X)
    assert set(values) == {"blocks/dense", "blocks/norm", "blocks/scale"}
    last = values["blocks/norm"].output[2]
    assert_allclose(last, alone["blocks/2/norm"].output, rtol=1e-5, atol=1e-5)


def test_members_of_an_ensemble_have_statistics_of_their_own():
    ensemble, x = blocks(KEYS), jnp.stack([X, 2 * X, X - 3])

    @nnx.jit
    def step(ensemble, x):
        return nnx.vmap(lambda block, x: block(x))(ensemble, x)

    step(ensemble, x)
    for i, key in enumerate(KEYS):
        dense = Block(nnx.Rngs(key)).dense
        hidden = np.asarray(x[i], np.float64) @ np.asarray(dense.kernel[...], np.float64)
        assert_allclose(ensemble.norm.mean[i], 0.1 * hidden.mean(0), rtol=1e-5, atol=1e-6)
        assert_allclose(ensemble.norm.var[i], 0.9 + 0.1 * hidden.var(0), rtol=1e-5)


def test_statistics_go_from_model_to_model_as_state():
    one, other = Block(nnx.Rngs(0)), Block(nnx.Rngs(1))
    one(X)
    graphdef, params, stats = nnx.split(one, nnx.Param, nnx.BatchStat)
    assert set(nnx.to_flat_state(stats).paths) == {("norm", "mean"), ("norm", "var")}
    nnx.update(other, stats)
    assert_array_equal(other.norm.var[...], one.norm.var[...])
    assert_array_equal(nnx.merge(graphdef, params, stats)(X), one(X))


def test_scale_and_bias_carry_the_names_of_mesh_axes():
    names = {"out_sharding": P("model")}
    with jax.set_mesh(jax.make_mesh((2,), ("model",), axis_types=(AxisType.Auto,))):
        norm = jaxnorm.nnx.BatchNorm(4, scale_metadata=names, bias_metadata=names, rngs=nnx.Rngs(0))
        # The names stay where a function of surgery makes a new model.
        moved = recalibrate(norm, [X])
    for made in (norm, moved):
        specs = nnx.get_partition_spec(nnx.state(made))
        assert [specs[name].get_value() for name in ("scale", "bias")] == [P("model")] * 2
        assert made.scale[...].sharding.spec == P("model")
    assert_allclose(moved.var[...], np.asarray(X, np.float64).var(0), rtol=1e-5)


MADE = [case for case in CASES if case.module is not None]


def make(case):
    """Returns the nnx module of a case of the zoo."""
    kind = getattr(jaxnorm.nnx, SPECS[case.member].module)
    given = {} if case.features is None else {"num_features": case.features}
    rngs = {"rngs": nnx.Rngs(0)} if takes_rngs(kind) else {}
    return kind(**given, **case.module, **rngs)


def takes_rngs(kind):
    return "rngs" in kind.__dataclass_fields__


@pytest.mark.parametrize("case", MADE, ids=lambda case: case.label)
@pytest.mark.sampled(8)
def test_every_norm_is_split_copied_shaped_and_shown(case, capsys):
    norm = make(case)
    graphdef, state = nnx.split(norm)
    others = (copy.deepcopy(norm), nnx.merge(graphdef, state), nnx.clone(norm))
    for other in others:
        assert nnx.graphdef(other) == graphdef
        jax.tree.map(assert_array_equal, get_variables(other), get_variables(norm))
    assert {type(v) for _, v in nnx.to_flat_state(state)} <= {nnx.Param, nnx.BatchStat}
    shapes = nnx.eval_shape(lambda: make(case))
    forms = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), get_variables(norm))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), get_variables(shapes)) == forms
    nnx.display(norm)
    assert type(norm).__name__ in capsys.readouterr().out


def test_a_copy_shares_no_statistics():
    norm = jaxnorm.nnx.BatchNorm(4, rngs=nnx.Rngs(0))
    copy.deepcopy(norm)(X)
    assert_array_equal(norm.mean[...], np.zeros(4))


def test_a_name_of_the_catalogue_stands_for_the_class_of_nnx():
    assert norm_factory("layer_norm", room=jaxnorm.nnx) is jaxnorm.nnx.LayerNorm
    with pytest.raises(ValueError, match=r"needs num_groups; .* jaxnorm\.nnx\.BatchGroupNorm"):
        norm_factory("batch_group_norm", room=jaxnorm.nnx)


def test_nnx_vmap_cannot_share_statistics_that_each_batch_updates():
    batches, share = jnp.stack([X, 3 * X]), (None, 0)

    def normed(norm, x):
        return norm(x)

    norm = jaxnorm.nnx.BatchNorm(4, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"told to share them.*axis_name.*update_stats=False"):
        nnx.vmap(normed, in_axes=share)(norm, batches)
    # The remedies that the error names.
    whole = jaxnorm.nnx.BatchNorm(4, rngs=nnx.Rngs(0))
    want = whole(batches.reshape(-1, 4)).reshape(batches.shape)
    shared = jaxnorm.nnx.BatchNorm(4, axis_name="batches", rngs=nnx.Rngs(0))
    have = nnx.vmap(normed, in_axes=share, axis_name="batches")(shared, batches)
    assert_allclose(have, want, **CLOSE)
    assert_allclose(shared.var[...], whole.var[...], **CLOSE)
    still = nnx.view(jaxnorm.nnx.BatchNorm(4, rngs=nnx.Rngs(0)), update_stats=False)
    have = nnx.vmap(normed, in_axes=share)(still, batches)
    assert_allclose(have[1], whole(batches[1]), **CLOSE)
    axes = nnx.StateAxes({nnx.BatchStat: 0, ...: None})
    each = jaxnorm.nnx.BatchNorm(4, rngs=nnx.Rngs(0))
    nnx.update(each, jax.tree.map(lambda v: jnp.stack([v, v]), nnx.state(each, nnx.BatchStat)))
    nnx.vmap(normed, in_axes=(axes, 0))(each, batches)
    assert_allclose(each.mean[...], 0.01 * batches.mean(1), **CLOSE)


def test_statistics_of_a_sharded_training_are_those_of_one_device():
    """The bias in front of a norm has no gradient, and Adam takes a step along its rounding.

    So with such a bias the running mean differs by what the bias does, and nothing else.
    """
    batch = jax.random.normal(jax.random.key(2), (32, 6))
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(batch, jax.sharding.NamedSharding(mesh, P("data")))

    @nnx.jit
    def step(model, optimizer, x):
        loss, gradient = nnx.value_and_grad(lambda model: jnp.mean((model(x) - 1) ** 2))(model)
        optimizer.update(model, gradient)
        return loss

    def trained(x, use_bias):
        rngs = nnx.Rngs(0)
        dense = nnx.Linear(6, 16, use_bias=use_bias, rngs=rngs)
        norm = jaxnorm.nnx.BatchNorm(16, rngs=rngs, momentum=0.9)
        model = nnx.Sequential(dense, norm, jnp.tanh, nnx.Linear(16, 1, rngs=rngs))
        optimizer = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param)
        losses = [step(model, optimizer, x) for _ in range(6)]
        return np.stack(losses), norm.mean[...], norm.var[...]

    for have, want in zip(trained(sharded, False), trained(batch, False), strict=True):
        assert_allclose(have, want, rtol=1e-4, atol=1e-5)
    have, want = trained(sharded, True), trained(batch, True)
    for i in (0, 2):
        assert_allclose(have[i], want[i], rtol=1e-4, atol=1e-5)
    # In each step both biases move by at most the rate, 0.01; the mean takes a tenth of each.
    assert np.max(np.abs(have[1] - want[1])) < 0.1 * sum(0.02 * (1 + i) for i in range(6))
