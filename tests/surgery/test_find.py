"""The table of a model's norms, and what each of them costs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxnorm
from jaxnorm.linen import BatchNorm, RMSNorm, WeightStandardization
from jaxnorm.surgery import find_norms, report

X = jax.ShapeDtypeStruct((2, 8), jnp.float32)


class Step(nn.Module):
    """The body of a scan."""

    train: bool

    @nn.compact
    def __call__(self, x, _):
        return BatchNorm(use_running_average=not self.train, name="norm")(x), None


class Mixed(nn.Module):
    """Norms in a scan, rematerialized, shared, around kernels, in lists: ours and Flax's."""

    def setup(self):
        self.blocks = [nn.Dense(8), nn.LayerNorm(use_bias=False)]
        self.shared = nn.GroupNorm(num_groups=2, epsilon=0.25)

    @nn.compact
    def __call__(self, x, *, train):
        axes = {"params": 0, "batch_stats": 0}
        scan = nn.scan(Step, variable_axes=axes, split_rngs={"params": True}, length=3)
        x, _ = scan(train, name="steps")(x, None)
        x = nn.remat(RMSNorm)(name="remat")(x)
        for block in self.blocks:
            x = block(x)
        x = self.shared(self.shared(x))
        x = WeightStandardization(nn.Dense(8, name="dense"), name="kernel")(x)
        return nn.SpectralNorm(nn.Dense(3), name="spectral")(x, update_stats=False)


def test_every_norm_of_a_linen_model_is_a_row():
    rows = {row.path: row[1:] for row in find_norms(Mixed(), X, train=False).rows}
    both = ("scale", "bias")
    assert rows == {
        "steps/norm": (
            *("batch_norm", "jaxnorm.linen.BatchNorm", (8,), both, ("mean", "var")),
            {"use_running_average": True},
        ),
        "remat": ("rms_norm", "jaxnorm.linen.RMSNorm", (8,), ("scale",), (), {}),
        "blocks_1": (
            *("layer_norm", "flax.linen.LayerNorm", (8,), ("scale",), ()),
            {"use_bias": False},
        ),
        "shared": (
            *("group_norm", "flax.linen.GroupNorm", (8,), both, ()),
            {"num_groups": 2, "epsilon": 0.25},
        ),
        "kernel": (
            *("weight_standardization", "jaxnorm.linen.WeightStandardization", (), (), ()),
            {},
        ),
        "spectral": ("spectral_norm", "flax.linen.SpectralNorm", (), (), ("Dense_0",), {}),
    }


def test_every_norm_of_an_nnx_model_is_a_row_and_a_shared_one_only_once():
    rngs = nnx.Rngs(0)
    shared = jaxnorm.nnx.LayerNorm(4, rngs=rngs)
    norm = nnx.BatchNorm(4, momentum=0.5, use_bias=False, rngs=rngs)
    model = nnx.Sequential(
        shared, norm, shared, nnx.WeightNorm(nnx.Linear(4, 3, rngs=rngs), rngs=rngs)
    )
    rows = [row[:6] for row in find_norms(model).rows]
    assert rows == [
        ("layers/0", "layer_norm", "jaxnorm.nnx.LayerNorm", (4,), ("scale", "bias"), ()),
        ("layers/1", "batch_norm", "flax.nnx.BatchNorm", (4,), ("scale",), ("mean", "var")),
        ("layers/3", "weight_norm", "flax.nnx.WeightNorm", (), ("scales/kernel",), ()),
    ]
    assert find_norms(model).rows[1].options["momentum"] == 0.5


def test_a_linen_model_without_arguments_is_refused():
    with pytest.raises(ValueError, match="got Mixed and no arguments.*give the arguments"):
        find_norms(Mixed())


def test_costs_are_those_that_are_counted_by_hand():
    found = {row.path: row for row in report(Mixed(), X, train=True).rows}
    norm, remat, shared = found["steps/norm"], found["remat"], found["shared"]
    assert (norm.parameters, norm.state_bytes) == (3 * 16, 3 * 2 * 8 * 4)
    # The input, three numbers per statistic, and the scale, in each of three steps.
    assert norm.kept_bytes == 3 * (16 + 3 * 8 + 8) * 4
    assert (remat.parameters, remat.state_bytes) == (8, 0)
    assert len(shared.inputs) == 2
    assert shared.parameters == 16
    assert found["kernel"].kept_bytes >= 8 * 8 * 4
    # Flax's spectral norm keeps a vector of three and a singular value.
    total = report(Mixed(), X, train=True).to_text().splitlines()[-1].split()
    assert total[:3] == ["total", str(48 + 8 + 8 + 16), str(192 + 16)]


def test_an_nnx_norm_costs_what_the_linen_norm_costs():
    linen = BatchNorm(use_running_average=False, axis_name="data")
    norm = jaxnorm.nnx.BatchNorm(8, axis_name="data", rngs=nnx.Rngs(0))
    x = jax.ShapeDtypeStruct((2, 8), jnp.bfloat16)
    costs = [report(model, x).rows[0][2:] for model in (linen, norm)]
    assert costs[0] == costs[1] == (((2, 8),), 16, 64, 2 * 16 + 4 * 8 * 4)
    assert norm.axis_name == "data"
    assert jnp.array_equal(norm.mean[...], jnp.zeros(8))


@pytest.mark.parametrize("norm", ["WeightNorm", "WeightStandardization", "SpectralNorm"])
def test_a_norm_of_kernels_costs_what_it_adds_to_its_layer_in_either_room(norm):
    rngs = nnx.Rngs(0)
    in_linen = getattr(jaxnorm.linen, norm)(nn.Dense(6))
    in_nnx = getattr(jaxnorm.nnx, norm)(nnx.Linear(4, 6, rngs=rngs), rngs=rngs)
    options = {"update_stats": True} if norm == "SpectralNorm" else {}
    x = jax.ShapeDtypeStruct((8, 4), jnp.float32)
    first, second = (report(model, x, **options).rows[0].kept_bytes for model in (in_linen, in_nnx))
    # The layer keeps the kernel that was made, and the norm the one that is learned.
    assert first == second >= 4 * 6 * 4
    flax = nnx.WeightNorm(nnx.Linear(4, 6, rngs=rngs), rngs=rngs)
    assert report(flax, x).rows[0].kept_bytes >= 4 * 6 * 4
