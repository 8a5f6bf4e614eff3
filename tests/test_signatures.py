"""The drop-in classes are called as Flax's are: the same arguments, order and defaults."""

import dataclasses
import inspect
from typing import NamedTuple

import pytest
from flax import linen, nnx
from jax.nn import initializers

import jaxnorm.linen
import jaxnorm.nnx
from tests.flax_suite.differences import CLASSES

WRAPPERS = ("WeightNorm", "SpectralNorm")
RMS = ("zero_centered", "cast", "use_bias", "bias_init")
# What ours take beyond Flax's, after all that Flax's take by position.
OURS = {
    "BatchNorm": ("estimator", "activation"),
    "BatchNorm.set_view": ("update_stats",),
    "LayerNorm": ("zero_centered", "activation"),
    "RMSNorm": (*RMS, "activation"),
    "nnx.RMSNorm": (*RMS, "bias_metadata", "activation"),
    "GroupNorm": ("activation",),
    "InstanceNorm": ("activation",),
}
# What leaves the module as Flax's is.
NEUTRAL = (None, False, "after", initializers.zeros, {})
# What linen adds to the fields of every module.
OF_EVERY_MODULE = ("parent", "name")


class Argument(NamedTuple):
    """What a caller can see of an argument."""

    name: str
    kind: str
    default: object


def arguments(function) -> list[Argument]:
    """Returns the arguments of a function or of a class's constructor, in order."""
    parameters = inspect.signature(function).parameters.values()
    return [Argument(p.name, p.kind.name, p.default) for p in parameters]


def fields(cls: type) -> list[Argument]:
    """Returns the fields of a dataclass in order, default factories called."""
    found = []
    for field in dataclasses.fields(cls):
        made = field.default_factory is not dataclasses.MISSING
        default = field.default_factory() if made else field.default
        found.append(Argument(field.name, f"init={field.init} {field.kw_only}", default))
    return found


def flaxs_then_ours(found: list[Argument], name: str) -> list[Argument]:
    """Returns what Flax has too, after asserting that ours stand behind it and have defaults."""
    own = [a for a in found if a.name not in OF_EVERY_MODULE]
    ours = OURS.get(name) or OURS.get(name.removeprefix("nnx."), ())
    extra = own[len(own) - len(ours) :]
    assert tuple(a.name for a in extra) == ours and all(a.default in NEUTRAL for a in extra)
    return [a for a in found if a not in extra]


@pytest.mark.parametrize("name", CLASSES)
def test_linen_fields_have_flaxs_names_order_and_defaults(name):
    ours, theirs = fields(getattr(jaxnorm.linen, name)), fields(getattr(linen, name))
    assert flaxs_then_ours(ours, name) == theirs


@pytest.mark.parametrize("name", CLASSES)
def test_linen_constructors_take_what_flaxs_take(name):
    ours, theirs = arguments(getattr(jaxnorm.linen, name)), arguments(getattr(linen, name))
    assert flaxs_then_ours(ours, name) == theirs


@pytest.mark.parametrize("name", CLASSES)
def test_linen_calls_take_what_flaxs_take(name):
    ours, theirs = getattr(jaxnorm.linen, name).__call__, getattr(linen, name).__call__
    assert arguments(ours) == arguments(theirs)


@pytest.mark.parametrize("name", CLASSES)
def test_nnx_constructors_take_what_flaxs_take(name):
    ours, theirs = getattr(jaxnorm.nnx, name).__init__, getattr(nnx, name).__init__
    # Of the class itself, the metaclass of nnx would show `*args, **kwargs` only.
    taken = flaxs_then_ours(arguments(ours), f"nnx.{name}")
    assert taken == arguments(theirs) and "rngs" in str(taken)


@pytest.mark.parametrize("name", CLASSES)
def test_nnx_calls_take_what_flaxs_take(name):
    ours, theirs = getattr(jaxnorm.nnx, name).__call__, getattr(nnx, name).__call__
    assert arguments(ours) == arguments(theirs)


def test_nnx_batch_norm_is_switched_to_evaluation_as_flaxs_is():
    ours, theirs = jaxnorm.nnx.BatchNorm.set_view, nnx.BatchNorm.set_view
    assert flaxs_then_ours(arguments(ours), "BatchNorm.set_view") == arguments(theirs)


def instance(room, name: str):
    """Returns an nnx norm of four features, around a linear layer where it wraps one."""
    rngs = nnx.Rngs(0)
    first = nnx.Linear(3, 4, rngs=rngs) if name == "SpectralNorm" else 4
    groups = {"num_groups": 2} if name == "GroupNorm" else {}
    return getattr(room, name)(first, rngs=rngs, **groups)


@pytest.mark.parametrize("name", [name for name in CLASSES if name not in WRAPPERS])
def test_nnx_instances_have_flaxs_public_attributes(name):
    ours, theirs = ({*vars(instance(room, name))} for room in (jaxnorm.nnx, nnx))
    assert {attribute for attribute in theirs - ours if not attribute.startswith("_")} == set()


# The scales of Flax's WeightNorm are plain arrays, which no optimizer sees; ours are parameters.
@pytest.mark.parametrize("name", [name for name in CLASSES if name != "WeightNorm"])
def test_nnx_states_have_flaxs_paths_types_and_values(name):
    ours, theirs = (
        {
            path: (type(leaf), leaf[...].dtype, leaf[...].tolist())
            for path, leaf in nnx.to_flat_state(nnx.state(instance(room, name)))
        }
        for room in (jaxnorm.nnx, nnx)
    )
    assert ours == theirs


@pytest.mark.parametrize("name", CLASSES)
def test_linen_classes_keep_flaxs_names_from_which_parameter_paths_are_made(name):
    assert getattr(jaxnorm.linen, name).__name__ == getattr(linen, name).__name__


def test_a_changed_default_is_noticed():
    def ours(x, *, epsilon=1e-6):
        return x

    def theirs(x, *, epsilon=1e-5):
        return x

    assert arguments(ours) != arguments(theirs)


def test_a_changed_order_of_fields_is_noticed():
    ours = dataclasses.make_dataclass("Norm", [("axis", int, -1), ("epsilon", float, 1e-5)])
    theirs = dataclasses.make_dataclass("Norm", [("epsilon", float, 1e-5), ("axis", int, -1)])
    assert fields(ours) != fields(theirs)
