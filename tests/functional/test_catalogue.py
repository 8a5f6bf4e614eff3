"""The catalogue: its rows agree with the functions that they describe."""

import inspect
import re

import numpy as np
import pytest

import jaxnorm
from jaxnorm import CATALOGUE
from jaxnorm.stats import moments
from tests.laws.members import SAMPLED
from tests.stats.reference import relative_error

SHAPE = (4, 3, 2, 6)

every_member = pytest.mark.parametrize("member", CATALOGUE, ids=lambda m: m.name)


def test_names_are_unique():
    assert len({member.name for member in CATALOGUE}) == len(CATALOGUE)


@every_member
def test_each_member_is_the_public_function_of_its_name(member):
    assert getattr(jaxnorm, member.name) is member.function


@every_member
def test_each_paper_has_authors_a_title_an_arxiv_id_or_a_venue_and_a_year(member):
    assert re.fullmatch(r".+: .+, (arXiv:\d{4}\.\d{4,5}|[A-Z].+), \d{4}", member.paper)


@every_member
def test_each_papers_identifier_stands_in_the_docstring(member):
    identifier = member.paper.split(", ")[-2]
    assert identifier in inspect.unwrap(member.function).__doc__


@every_member
def test_the_options_are_arguments_without_a_default_or_alternatives_of_each_other(member):
    parameters = inspect.signature(inspect.unwrap(member.function)).parameters
    required = {
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind is parameter.KEYWORD_ONLY
        and name != "use_running_average"
    }
    assert required <= set(member.options) <= set(parameters)


@every_member
def test_every_claim_is_explained_in_the_documentation_of_the_row(member):
    explained = re.findall(r'- "(\w+)":', type(member).__doc__)
    assert len(explained) == 8 and member.claims <= set(explained)


@pytest.mark.parametrize("member", SAMPLED, ids=lambda m: m.name)
@pytest.mark.sampled(2)
def test_the_statistics_shape_is_one_of_its_input(member):
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    taken = moments(x, member.stats_shape(SHAPE), center=member.center)
    size = x.size / np.prod(member.stats_shape(SHAPE))
    assert relative_error(taken.count, size) == 0
