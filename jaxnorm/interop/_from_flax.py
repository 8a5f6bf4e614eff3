"""Variables of a Flax model into the template of another framework, or one error that names all."""

from typing import Any

import numpy as np

from jaxnorm.interop._files import array_of
from jaxnorm.interop._flax import Place, Variables, variables_of
from jaxnorm.interop._framework import Framework, Layouts, Leaf, Rules, layout_of, targets
from jaxnorm.interop._layout import KEEPDIMS
from jaxnorm.interop._record import CARRIED, STATE, Record, completed, of_estimator_state
from jaxnorm.interop._report import Conversion
from jaxnorm.interop._work import DERIVED, HINTS, Work, dtype_of, text_of


def from_flax(theirs: Framework, variables: Any, like: list[Leaf], rules: Rules) -> Conversion:
    """Returns another framework's leaves by their keys, of the form of `like`.

    Args:
        theirs: the tables of the framework.
        variables: of a linen or nnx model.
        like: the framework's leaves, whose shapes and dtypes decide.
        rules: of the user.

    Returns:
        A `Conversion` whose `variables` are NumPy arrays by key.

    Raises:
        ValueError: a leaf does not fit, is missing or is left over; every one is named.
    """
    ours, work = variables_of(variables), Work()
    work.faults += rules.unused(like, ours.leaves)
    placed = [(leaf, targets(theirs, leaf, rules.names)) for leaf in like]
    records = _records(ours, placed, rules.decay)
    values: dict[str, Any] = {}
    spent: set[Place] = set()
    for leaf, places in placed:
        if places is None:
            values[leaf.key], work.derived[leaf.key] = array_of(leaf.value), "as in like"
            continue
        role, layer = places[0].role, places[0].layer
        record, place = records.get(layer, {}), next((p for p in places if p in ours.leaves), None)
        if role.startswith("hidden_"):
            spent |= {Place(layer, "mean"), Place(layer, "var")}
        if role == "decay":
            continue
        if place is None:
            values[leaf.key] = _filled(theirs, leaf, places, record, rules.layouts, work)
            continue
        spent.add(place)
        found = array_of(ours.leaves[place])
        layout = layout_of(theirs, leaf, place.role, rules.layouts)
        new = layout.to_theirs(found, np.shape(leaf.value))
        text = text_of(layout, found, new)
        values[leaf.key] = work.fit(str(place), found, leaf.key, leaf.value, new, text)
    for place, value in ours.leaves.items():
        if place in spent:
            continue
        if place.role.startswith(f"{STATE}/"):
            work.dropped[str(place)] = "mean and var are its reading"
        elif place.role in CARRIED:
            work.dropped[str(place)] = CARRIED[place.role]
        else:
            shape = list(np.shape(value))
            work.faults.append(f"left over: {place} {shape}: like has no place for it")
    return work.done(lambda: values, theirs)


def _filled(
    theirs: Framework,
    leaf: Leaf,
    places: list[Place],
    record: Record,
    layouts: Layouts | None,
    work: Work,
) -> np.ndarray | None:
    """Returns what a leaf without a place in Flax holds, by the other entries of its layer."""
    known = [p.role for p in places if p.role in record]
    shape = np.shape(leaf.value)
    if known == ["v"]:
        kernel = leaf._replace(value=record["kernel"])
        layout = layout_of(theirs, kernel, "kernel", layouts)
        new = layout.to_theirs(record["v"], ()).reshape(-1)
    else:
        found = record[known[0]] if known else theirs.fill.get(leaf.name, _nothing)(record, leaf)
        if found is None:
            wanted = " or ".join(map(str, places))
            hint = HINTS.get(places[0].role, "")
            work.faults.append(f"missing: {leaf.key} {list(shape)} needs {wanted}{hint}")
            return None
        new = KEEPDIMS.to_theirs(np.asarray(found), shape)
        new = np.broadcast_to(new, shape) if new.ndim == 0 else new
    work.derived[leaf.key] = DERIVED
    if new.shape != shape:
        work.faults.append(f"shape: {leaf.key} {list(shape)} would be {list(new.shape)}")
    return new.astype(dtype_of(leaf.value))


def _nothing(record: Record, leaf: Leaf) -> None:
    return None


def _records(
    ours: Variables, placed: list[tuple[Leaf, list[Place] | None]], decay: float | None
) -> dict[str, Record]:
    """Returns what is known of each layer, with the options that `like` has among its leaves."""
    records: dict[str, Record] = {}
    states: dict[str, dict[str, np.ndarray]] = {}
    for place, value in ours.leaves.items():
        kept = states if place.role.startswith(f"{STATE}/") else records
        kept.setdefault(place.layer, {})[place.role] = array_of(value)
    for layer, fields in states.items():
        records.setdefault(layer, {}).update(of_estimator_state(fields))
    for record in records.values():
        if decay is not None:
            record["decay"] = np.asarray(decay)
    for leaf, places in placed:
        if places and places[0].role == "decay" and places[0].layer in records:
            records[places[0].layer]["decay"] = np.asarray(leaf.value)
    return {layer: completed(record) for layer, record in records.items()}
