"""Tables of measurements: CSV files that a run appends to and that figures read."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = Mapping[str, Any]
"""A string, a whole number or a number with decimals, by column."""


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Append rows to a CSV file, with a header where the file is new.

    Reading gives the same floats back.

    Args:
        path: the file.
        rows: at least one row. All rows have the same keys.

    Raises:
        ValueError: the keys differ from the file's columns.
    """
    columns = list(rows[0])
    new = not path.exists() or path.stat().st_size == 0
    if not new:
        with path.open(newline="") as file:
            present = next(csv.reader(file))
        if set(present) != set(columns):
            raise ValueError(f"{path} has the columns {present}, and the new rows {columns}")
        columns = present
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)


def drop_rows_after(path: Path, step: int, where: Mapping[str, str | int]) -> None:
    """Drop the rows after `step`. A run that resumes from a checkpoint measures them again.

    Args:
        path: a CSV file with a column `step`. The file may be missing.
        step: the last step to keep.
        where: values by column that a row must have to be dropped.
    """
    if not path.exists():
        return
    header, *lines = path.read_text().splitlines(keepends=True)
    columns = header.rstrip("\n").split(",")
    kept = [header]
    for line in lines:
        values = next(csv.reader([line]))
        complete = line.endswith("\n") and len(values) == len(columns)
        row = dict(zip(columns, values, strict=False))
        concerned = all(row.get(name) == str(value) for name, value in where.items())
        if complete and not (concerned and int(row["step"]) > step):
            kept.append(line)
    _rewrite(path, kept)


def drop_last_group(path: Path, columns: Sequence[str]) -> set[tuple[str, ...]]:
    """Drop the rows of the group that was written last, which an interruption may have cut off.

    Args:
        path: a CSV file whose rows were appended group by group. The file may be missing.
        columns: those whose values tell one group from another.

    Returns:
        The values `columns` of the groups that stay.
    """
    header, *lines = path.read_text().splitlines(keepends=True) if path.exists() else ("",)
    names = header.rstrip("\n").split(",")
    if not header.endswith("\n") or not {*columns} <= {*names}:
        path.unlink(missing_ok=True)
        return set()
    rows = [(line, next(csv.reader([line]))) for line in lines]
    whole = [(line, row) for line, row in rows if line.endswith("\n") and len(row) == len(names)]
    groups = [tuple(row[names.index(column)] for column in columns) for _, row in whole]
    kept = [line for (line, _), group in zip(whole, groups, strict=True) if group != groups[-1]]
    _rewrite(path, [header, *kept])
    return {group for group in groups if group != groups[-1]}


def _rewrite(path: Path, lines: Sequence[str]) -> None:
    """Write a file anew. An interruption leaves the old one whole."""
    partial = path.with_suffix(".partial")
    partial.write_text("".join(lines))
    os.replace(partial, path)


def read_table(path: Path) -> dict[str, np.ndarray]:
    """Read a CSV file as one array per column. Columns of numbers are float64, others strings.

    Args:
        path: a CSV file with a header.

    Returns:
        Arrays [rows] by column name.
    """
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return {name: _column([row[i] for row in rows]) for i, name in enumerate(header)}


def select(table: dict[str, np.ndarray], **where: str | float) -> dict[str, np.ndarray]:
    """Return the rows whose columns have the given values.

    Examples:
        >>> select({"norm": np.array(["batch", "none"]), "loss": np.array([0.1, 0.4])}, norm="none")
        {'norm': array(['none'], dtype='<U5'), 'loss': array([0.4])}
    """
    keep = np.ones(len(next(iter(table.values()))), bool)
    for name, value in where.items():
        keep &= table[name] == value
    return {name: column[keep] for name, column in table.items()}


def ordered(values: np.ndarray) -> list[str]:
    """Return the distinct entries in the order of their first appearance."""
    return list(dict.fromkeys(values.tolist()))


def _column(entries: list[str]) -> np.ndarray:
    try:
        return np.array([float(entry) for entry in entries])
    except ValueError:
        return np.array(entries)
