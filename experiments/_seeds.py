"""Numbers over seeds: taken from tables, and said in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._tables import select

Table = dict[str, np.ndarray]


def over_seeds(values: Any, form: str, unit: str = "", *, of: str = "over seeds") -> str:
    """Return the mean of values and, in brackets, the least and the greatest.

    Examples:
        >>> over_seeds([0.5, 0.52], ".1%")
        '51.0% (50.0% to 52.0% over seeds)'
        >>> over_seeds([1.0, 2.0], "+.1f", " points", of="")
        '+1.5 points (+1.0 to +2.0)'
        >>> over_seeds([0.5], ".1%")
        '50.0% (one seed)'
    """
    if np.size(values) == 1:
        return f"{np.mean(values):{form}}{unit} (one seed)"
    low, high = f"{np.min(values):{form}}", f"{np.max(values):{form}}"
    return f"{np.mean(values):{form}}{unit} ({low} to {high} {of}".rstrip() + ")"


def mean(values: Any, form: str) -> str:
    """Return the mean of values in words."""
    return f"{np.mean(values):{form}}"


def points(one: Any, other: Any) -> np.ndarray:
    """Return for each seed by how many points of a hundred a share is above another."""
    return 100 * np.subtract(one, other)


def listed(values: Sequence[Any]) -> str:
    """Return a number per seed in words, None as never.

    Examples:
        >>> listed([3, None])
        '3, never'
    """
    return ", ".join("never" if value is None else str(value) for value in values)


def sentence(words: str) -> str:
    """Return words with their first letter in upper case.

    Examples:
        >>> sentence("with ReLU")
        'With ReLU'
    """
    return words[0].upper() + words[1:]


def per_seed(table: Table, column: str, **where: str | float) -> list[np.ndarray]:
    """Return a column of the rows with the values `where`: an array [points] per seed.

    Examples:
        >>> table = {"norm": np.array(["a", "a"]), "seed": np.arange(2.0), "loss": np.ones(2)}
        >>> [loss.tolist() for loss in per_seed(table, "loss", norm="a")]
        [[1.0], [1.0]]
    """
    rows = select(table, **where)
    return [rows[column][rows["seed"] == seed] for seed in np.unique(rows["seed"])]


def last_rows(table: Table, **where: str | float) -> Table:
    """Return the rows with the values `where` at the last of their steps."""
    rows = select(table, **where)
    return select(rows, step=rows["step"].max())


def last(table: Table, column: str, **where: str | float) -> list[float]:
    """Return a column [S] of the rows with the values `where` at the last of their steps."""
    return last_rows(table, **where)[column].tolist()


def verdict(claims: Mapping[str, bool]) -> str:
    """Return in one line which claims the numbers show.

    Examples:
        >>> verdict({"it learns": True, "it learns faster": False})
        '**Shown in part.** Shown: it learns. Not shown at this size: it learns faster.'
        >>> verdict({"it learns": True})
        '**Shown.** It learns.'
    """
    if not claims:
        return "**A measurement.** Nothing is claimed."
    shown = "; ".join(claim for claim, is_so in claims.items() if is_so)
    missing = "; ".join(claim for claim, is_so in claims.items() if not is_so)
    if not missing:
        return f"**Shown.** {sentence(shown)}."
    if not shown:
        return f"**Not shown at this size.** The claim: {missing}."
    return f"**Shown in part.** Shown: {shown}. Not shown at this size: {missing}."
