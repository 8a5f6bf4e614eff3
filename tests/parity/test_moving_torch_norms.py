"""Every norm of PyTorch: its weights there and back, its evaluation, its running statistics."""

import copy
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnorm
from jaxnorm.interop import from_torch, norm_options, to_torch
from tests.parity.moving import Case, check, distance, in_float64, one_sided, same_bits, template

torch = pytest.importorskip("torch", reason="needs the extra `parity`")
pytestmark = pytest.mark.usefixtures("x64")
tnn = torch.nn


def seeded(module, rng):
    """Returns a module in float64 with random parameters and statistics."""
    module = module.double()
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            draw = (
                rng.uniform(0.5, 2, value.shape) if "var" in name else rng.normal(size=value.shape)
            )
            value.copy_(torch.tensor(draw))
    return module


# Norms over channels, which are second; the input has the rank of the number.
CHANNELS = {
    "batch 1d": (lambda: tnn.BatchNorm1d(6, eps=1e-3, momentum=0.3), 3),
    "batch 1d of vectors": (lambda: tnn.BatchNorm1d(6), 2),
    "batch 2d": (lambda: tnn.BatchNorm2d(6), 4),
    "batch 2d without affine": (lambda: tnn.BatchNorm2d(6, affine=False), 4),
    "batch 2d cumulative": (lambda: tnn.BatchNorm2d(6, momentum=None), 4),
    "batch 3d": (lambda: tnn.BatchNorm3d(6, momentum=0.01), 5),
    "sync batch": (lambda: tnn.SyncBatchNorm(6, momentum=0.2), 4),
    "batch without statistics": (lambda: tnn.BatchNorm2d(6, track_running_stats=False), 4),
    "instance 1d": (lambda: tnn.InstanceNorm1d(6, affine=True), 3),
    "instance 2d": (lambda: tnn.InstanceNorm2d(6), 4),
    "instance 3d": (lambda: tnn.InstanceNorm3d(6, affine=True, eps=1e-2), 5),
    "group": (lambda: tnn.GroupNorm(3, 6), 4),
    "group without affine": (lambda: tnn.GroupNorm(2, 6, affine=False), 3),
    "local response": (lambda: tnn.LocalResponseNorm(3, alpha=0.1), 4),
}
# Norms over the last axes, which are the same there and here.
TRAILING = {
    "layer": (lambda: tnn.LayerNorm(6), 3),
    "layer over two axes": (lambda: tnn.LayerNorm((3, 6)), 3),
    "layer without bias": (lambda: tnn.LayerNorm(6, bias=False), 2),
    "layer without affine": (lambda: tnn.LayerNorm(6, elementwise_affine=False), 2),
    "root mean square": (lambda: tnn.RMSNorm(6), 3),
    "root mean square over two axes": (lambda: tnn.RMSNorm((3, 6), eps=1e-4), 3),
}
SHAPES = {2: (7, 6), 3: (5, 6, 3), 4: (3, 6, 5, 3), 5: (2, 6, 3, 2, 2)}


def batch(rank, rng, channels=True):
    shape = SHAPES[rank]
    shape = shape if channels else (shape[0], *shape[2:], shape[1])
    return torch.tensor(rng.normal(1, 2, shape))


def last(x):
    return np.moveaxis(x.detach().numpy(), 1, -1)


def as_it_is(x):
    return x.detach().numpy()


def moved(theirs, x, ours, laid_out):
    """Returns the case of one norm, after its weights came back bit for bit."""
    like, tracked = template(ours, laid_out(x)), getattr(theirs, "track_running_stats", False)
    unused = "batch_stats" in like and not tracked
    if unused:  # ours has statistics even where the batch always normalizes
        like = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), like)
    done = from_torch(theirs, like, keep=("mean", "var") if unused else ())
    learned = done.variables if tracked else {"params": done.variables.get("params", {})}
    same_bits(to_torch(learned, theirs).variables, theirs.state_dict())
    evaluated = theirs.eval()(x)
    after = None
    if tracked:
        trained = copy.deepcopy(theirs).train()
        trained(x)
        after = from_torch(trained, like).variables
    return Case(ours, done.variables, laid_out(x), laid_out(evaluated), after)


def test_every_norm_evaluates_and_learns_as_in_pytorch():
    rng, cases = np.random.default_rng(0), {}
    for group, laid_out in ((CHANNELS, last), (TRAILING, as_it_is)):
        for name, (make, rank) in group.items():
            theirs = seeded(make(), rng)
            if getattr(theirs, "num_batches_tracked", None) is not None:
                theirs.num_batches_tracked.fill_(3)
            options = norm_options(theirs)
            x = batch(rank, rng, channels=laid_out is last)
            more = {} if options.name == "LocalResponseNorm" else {"param_dtype": jnp.float64}
            cases[name] = moved(theirs, x, options.linen(**more), laid_out)
    check(cases)


def test_an_instance_norm_that_tracks_has_the_outputs_of_two_modules():
    rng = np.random.default_rng(1)
    theirs = seeded(tnn.InstanceNorm2d(6, affine=True, track_running_stats=True), rng)
    with pytest.raises(ValueError, match=r"BatchNorm\(use_running_average=True, epsilon=1e-05\)"):
        norm_options(theirs)
    x = batch(4, rng)
    fields = {"epsilon": theirs.eps, "param_dtype": jnp.float64}
    ours = jaxnorm.linen.BatchNorm(True, **fields)
    done = from_torch(theirs, template(ours, last(x)))
    same_bits(to_torch(done.variables, theirs).variables, theirs.state_dict())
    trained = jaxnorm.linen.GhostBatchNorm(1, False, **fields)
    check(
        {
            "evaluation": Case(ours, done.variables, last(x), last(theirs.eval()(x))),
            "training": Case(trained, done.variables, last(x), last(theirs.train()(x))),
        }
    )


def test_a_layer_norm_over_channels_and_positions_moves_its_axes():
    rng = np.random.default_rng(2)
    theirs = seeded(tnn.LayerNorm((6, 5, 3)), rng)
    x = batch(4, rng)
    ours = norm_options(theirs).linen(param_dtype=jnp.float64)
    like, layouts = template(ours, last(x)), {"": "channels_first"}
    with pytest.raises(ValueError, match=r"weight \[6, 5, 3\] -> scale \[5, 3, 6\]"):
        from_torch(theirs, like)
    done = from_torch(theirs, like, layouts=layouts)
    check({"layer": Case(ours, done.variables, last(x), last(theirs(x)))})
    same_bits(to_torch(done.variables, theirs, layouts=layouts).variables, theirs.state_dict())


def test_the_count_of_batches_is_that_of_the_estimator_or_of_the_template():
    theirs = seeded(tnn.BatchNorm1d(6, momentum=None), np.random.default_rng(3))
    theirs.num_batches_tracked.fill_(7)
    fresh = tnn.BatchNorm1d(6).double()
    x = np.ones((2, 6))
    counting = norm_options(theirs).linen(use_running_average=True)
    variables = from_torch(theirs, template(counting, x)).variables
    assert np.all(variables["batch_stats"]["estimator_state"].batches == 7)
    assert to_torch(variables, fresh).variables["num_batches_tracked"] == 7
    plain = jaxnorm.linen.BatchNorm(use_running_average=True)
    variables = from_torch(theirs, template(plain, x)).variables
    assert to_torch(variables, theirs).variables["num_batches_tracked"] == 7
    assert to_torch(variables, fresh).variables["num_batches_tracked"] == 0


def test_a_pickle_is_read_as_weights_and_never_run(tmp_path):
    theirs = tnn.BatchNorm1d(6).bfloat16()
    like = template(jaxnorm.linen.BatchNorm(), np.ones((2, 6), np.float32))
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), like)
    torch.save(theirs.state_dict(), tmp_path / "norm.pt")
    variables = from_torch(tmp_path / "norm.pt", like).variables
    assert variables["batch_stats"]["var"].dtype == jnp.bfloat16
    back = to_torch(variables, theirs).variables
    for key, value in theirs.state_dict().items():
        assert back[key].dtype == value.dtype and torch.equal(back[key], value)
    torch.save(theirs, tmp_path / "module.pt")
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        from_torch(tmp_path / "module.pt", like)
    torch.save({"state_dict": theirs.state_dict(), "epoch": 3}, tmp_path / "more.pt")
    with pytest.raises(ValueError, match="not arrays of numbers: state_dict; pass the dictionary"):
        from_torch(tmp_path / "more.pt", like)


LINEAR, CONV = lambda: tnn.Linear(4, 5), lambda: tnn.Conv2d(4, 5, (3, 2))
NEW = tnn.utils.parametrizations
KERNELS = {
    "weight norm of a linear layer": (LINEAR, NEW.weight_norm),
    "weight norm of a convolution": (CONV, NEW.weight_norm),
    "weight norm of the whole": (CONV, lambda layer: NEW.weight_norm(layer, dim=None)),
    "weight norm by its old name": (CONV, tnn.utils.weight_norm),
    "spectral norm of a linear layer": (LINEAR, NEW.spectral_norm),
    "spectral norm of a convolution": (CONV, NEW.spectral_norm),
    "spectral norm by its old name": (CONV, tnn.utils.spectral_norm),
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_norms_of_kernels_by_their_old_and_new_names():
    torch.manual_seed(0)
    rng, cases = np.random.default_rng(4), {}
    for name, (make, normed) in KERNELS.items():
        layer, flat = make().double(), make is LINEAR
        matrix = one_sided((5, layer.weight[0].numel()))
        layer.weight.data.copy_(torch.tensor(matrix).reshape(layer.weight.shape))
        theirs = normed(layer)
        x = torch.tensor(rng.normal(size=(3, 4) if flat else (3, 4, 6, 5)))
        layer = nn.Dense(5) if flat else nn.Conv(5, (3, 2), padding="VALID")
        if "spectral" in name:
            for _ in range(8):  # until the vectors have converged
                theirs.train()(x)
        ours = norm_options(normalizer(theirs)).linen(layer)
        call = {"update_stats": False} if "spectral" in name else {}
        theirs, out = theirs.eval(), as_it_is if flat else last
        done = from_torch(theirs, in_float64(template(ours, out(x), **call)))
        back = to_torch(done.variables, theirs).variables
        learned = {key: as_it_is(value) for key, value in theirs.named_parameters()}
        same_bits({key: back[key].numpy() for key in learned}, learned)
        again = normed(make()).double()
        again.load_state_dict(back)
        again.eval()
        assert distance(as_it_is(again(x)), as_it_is(theirs(x))) <= 4, name
        cases[name] = Case(ours, done.variables, out(x), out(theirs(x)), call=call)
    check(cases)


def normalizer(module):
    """Returns what normalizes the kernel of a module: its parametrization, or the older hook."""
    if hasattr(module, "parametrizations"):
        return module.parametrizations.weight[0]
    return next(iter(module._forward_pre_hooks.values()))
