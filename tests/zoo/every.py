"""All cases of all themes."""

import importlib
from pathlib import Path

import pytest

from tests.zoo.cases import Case

ROOT = Path(__file__).parents[2]
# A theme's file of cases has the name of its room in `jaxnorm.functional`, and holds `CASES`.
ROOMS = [p.parent.name for p in (ROOT / "jaxnorm/functional").glob("*/_rows.py")]
THEMES = sorted(room for room in ROOMS if (ROOT / f"tests/zoo/{room}.py").exists())
CASES: list[Case] = [
    case for theme in THEMES for case in importlib.import_module(f"tests.zoo.{theme}").CASES
]


def labelled(label):
    """Returns the case of a label."""
    return next(case for case in CASES if case.label == label)


def over(cases):
    """Parametrizes a test by case."""
    return pytest.mark.parametrize("case", cases, ids=[case.label for case in cases])


def claiming(*claims):
    """Returns the cases of the members whose rows make all of `claims`."""
    return [case for case in CASES if case.row.claims.issuperset(claims)]
