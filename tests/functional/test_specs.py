"""The specifications agree with the functions, the catalogue and the modules of both rooms."""

import dataclasses
import importlib
import inspect

import pytest

from jaxnorm import CATALOGUE
from jaxnorm.functional import SPECS

ROOMS = ("linen", "nnx")
every_spec = pytest.mark.parametrize("member", SPECS)
every_room = pytest.mark.parametrize("room", ROOMS)


def module_of(room, member):
    return getattr(importlib.import_module(f"jaxnorm.{room}"), SPECS[member].module)


def fields(cls):
    """Returns the arguments of the constructor of a module."""
    return {*inspect.signature(cls.__init__).parameters}


def test_each_member_of_the_catalogue_has_a_specification():
    assert {member.name: member.function for member in CATALOGUE} == {
        name: spec.function for name, spec in SPECS.items()
    }


@every_spec
def test_what_a_specification_hands_on_are_arguments_of_the_function(member):
    spec = SPECS[member]
    handed = {*spec.parameters, *spec.options, *spec.fixed, *([spec.axes] if spec.axes else [])}
    handed |= {*spec.sample} | ({"state"} if spec.state else set())
    assert handed <= {*inspect.signature(inspect.unwrap(spec.function)).parameters}


@every_spec
@every_room
def test_each_room_has_a_module_with_the_fields_of_the_specification(room, member):
    spec, found = SPECS[member], fields(module_of(room, member))
    wanted = {*spec.options, "dtype", *(f"use_{name}" for name in spec.parameters)}
    wanted |= {f"{name}_init" for name in spec.parameters}
    wanted |= {spec.decay, "estimator", "param_dtype"} if spec.decay else set()
    assert wanted <= found


@every_spec
@every_room
def test_what_the_function_does_not_default_to_is_a_field_without_a_default(room, member):
    options = {m.name: m.options for m in CATALOGUE}[member]
    cls = module_of(room, member)
    # One of two, as in Flax.
    required = {*options} - ({"num_groups"} if "group_size" in fields(cls) else set())
    lacking = {
        f.name
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    assert required == lacking - {"num_features", "segmentation_features", "layer_instance"}


@every_spec
@every_room
def test_equal_names_have_equal_defaults_in_function_and_module(room, member):
    # Flax's defaults are its own where its test suite or its signature pins them.
    of_flax = {(member, "num_groups"), ("weight_norm", "feature_axes")}
    of_function = inspect.signature(inspect.unwrap(SPECS[member].function)).parameters
    for name, argument in inspect.signature(module_of(room, member).__init__).parameters.items():
        if name in of_function and (member, name) not in of_flax and name in SPECS[member].options:
            assert argument.default == of_function[name].default, name
