"""Each row claims just what its function can be asked for, and each member has an oracle."""

import inspect

import pytest

from tests.laws.members import CORE, oracle, over, taken

ARGUMENTS = {"mask": "mask", "weights": "weights", "shards": "axis_name", "streaming": "estimator"}


@over(CORE)
@pytest.mark.parametrize("claim", ARGUMENTS)
def test_a_member_claims_the_laws_of_the_arguments_that_it_takes(member, claim):
    assert (claim in member.claims) == (ARGUMENTS[claim] in taken(member))


@over(CORE)
def test_the_defaults_of_a_member_are_those_of_its_oracle(member):
    parameters = inspect.signature(oracle(member)).parameters
    assert taken(member)["epsilon"].default == parameters["epsilon"].default
    assert set(member.options) <= set(parameters)
    assert ("weights" in member.claims) == ("weights" in parameters)
