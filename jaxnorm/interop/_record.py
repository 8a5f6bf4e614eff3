"""What is known of one layer, by role, in the names and the layouts of Flax.

The roles of arrays are `kernel`, `bias`, `scale`, `embedding`, `mean` and `var`; `length` of weight
norm, the `u` and `sigma` of spectral norm. What no Flax module keeps has a role as well: `count`,
the batches so far; `hidden_mean` and `hidden_var`, averages that started elsewhere and are divided
by their `weight`, `1 - decay ** hidden_count`, to be read; and `v`, the other vector of spectral
norm.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Record = dict[str, np.ndarray]
"""Arrays of one layer by role."""

STATE = "estimator_state"

UNKNOWN_COUNT = 2**30
"""Batches behind an average that has forgotten its start, so that debiasing changes nothing."""

CARRIED = {
    "count": "the batches so far matter to estimators that count them",
    "hidden_mean": "mean has it debiased",
    "hidden_var": "var has it debiased",
    "hidden_count": "mean and var are debiased",
    "first_time": "it says only whether there was a batch",
    "decay": "an option of the norm, see norm_options",
    "u": "the kernel is divided already",
    "sigma": "it follows from u and the kernel",
    "v": "it follows from u and the kernel",
}
"""Roles that may have no leaf on the other side, and why nothing is lost."""


def forgotten_count(record: Record, leaf: Any) -> np.ndarray | None:
    """Returns the counter of an average that has forgotten its start, unless it has not.

    Args:
        record: of the layer.
        leaf: where the counter goes, which does not matter.

    Returns:
        [], or None where the record has the weight of the start.

    Examples:
        >>> int(forgotten_count({}, None)) == UNKNOWN_COUNT
        True
    """
    return None if "weight" in record else np.asarray(UNKNOWN_COUNT)


def completed(record: Record) -> Record:
    """Returns the record with what follows from its entries.

    Args:
        record: of one layer.

    Returns:
        `mean` and `var` of hidden averages, `hidden_count` or `weight` of one another by `decay`,
        `sigma` and `v` of `u`.

    Examples:
        >>> half = {"hidden_mean": np.array([1.0]), "hidden_var": np.array([2.0])}
        >>> completed({**half, "hidden_count": np.array(1), "decay": np.array(0.5)})["var"]
        array([4.])
    """
    new = dict(record)
    if "weight" not in new and {"decay", "hidden_count"} <= new.keys():
        batches = new["hidden_count"].astype(np.float64)
        new["weight"] = np.asarray(1 - np.float64(new["decay"]) ** batches)
    if {"weight", "decay"} <= new.keys() and "hidden_count" not in new:
        count = _batches(float(np.max(new["weight"])), float(new["decay"]))
        new["hidden_count"] = np.asarray(count)
    for name in ("mean", "var"):
        if name not in new and {"weight", f"hidden_{name}"} <= new.keys():
            share = np.where(np.asarray(new["weight"]) > 0, new["weight"], 1)
            new[name] = new[f"hidden_{name}"] / share
    if {"u", "kernel"} <= new.keys():
        *inputs, outputs = new["kernel"].shape
        image = new["kernel"].reshape(-1, outputs).astype(np.float64) @ _unit(new["u"])
        new.setdefault("sigma", np.asarray(np.linalg.norm(image)))
        # Of a kernel's shape, so that a kernel's layout turns it too.
        new.setdefault("v", _unit(image).reshape(*inputs, 1))
    return new


def estimator_state(fields: Iterable[str], record: Record) -> dict[str, np.ndarray | None]:
    """Returns what the leaves of an estimator's state hold, None where that is not known.

    Args:
        fields: their paths in the state, such as "mean" or "inner/var".
        record: of the layer, completed; `mean` and `var` are the reading.

    Returns:
        Arrays of no particular shape by field.

    Examples:
        >>> estimator_state(["mean", "batches"], {"mean": np.zeros(2), "count": np.array(7)})
        {'mean': array([0., 0.]), 'batches': array(7)}
    """
    names = {field: field.rsplit("/", 1)[-1] for field in fields}
    hidden = "weight" in names.values() and "hidden_mean" in record
    known = {
        "mean": record.get("hidden_mean" if hidden else "mean"),
        "var": record.get("hidden_var" if hidden else "var"),
        # An average without hidden ones has forgotten its start.
        "weight": record.get("weight") if hidden else np.ones(()),
        "batches": record.get("count", record.get("hidden_count")),
        "skipped": np.zeros((), np.int32),
    }
    return {field: known.get(name) for field, name in names.items()}


def of_estimator_state(fields: Mapping[str, np.ndarray]) -> Record:
    """Returns what an estimator's state says beside the running mean and variance.

    Args:
        fields: the arrays of the state by their paths.

    Returns:
        `count`, or hidden averages and their weight, or nothing.

    Examples:
        >>> of_estimator_state({"mean": np.zeros(2), "batches": np.full(2, 7.0)})
        {'count': array(7.)}
    """
    by_name = {path.rsplit("/", 1)[-1]: array for path, array in fields.items()}
    if "batches" in by_name:
        return {"count": np.asarray(np.max(by_name["batches"]))}
    if "weight" in by_name:
        hidden = {f"hidden_{name}": by_name[name] for name in ("mean", "var")}
        return {**hidden, "weight": by_name["weight"]}
    return {}


def _batches(weight: float, decay: float) -> int:
    """Returns t of `weight = 1 - decay^t`, or what stands for many where rounding hides it."""
    if weight <= 0 or not 0 < decay < 1:
        return 0 if weight <= 0 else 1
    if weight >= 1:
        return UNKNOWN_COUNT
    return round(math.log1p(-weight) / math.log(decay))


def _unit(vector: Any) -> np.ndarray:
    vector = np.asarray(vector, np.float64).ravel()
    return vector / max(np.linalg.norm(vector), np.finfo(np.float64).tiny)
