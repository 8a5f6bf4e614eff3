"""Leaves of another framework into the template of a Flax model, or one error that names all."""

import fnmatch
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxnorm.interop._files import array_of, as_kind
from jaxnorm.interop._flax import Place, Variables, variables_of
from jaxnorm.interop._framework import Framework, Leaf, Rules, layout_of, targets
from jaxnorm.interop._layout import KEEPDIMS
from jaxnorm.interop._record import CARRIED, STATE, Record, completed, estimator_state
from jaxnorm.interop._report import Conversion
from jaxnorm.interop._work import DERIVED, HINTS, Work, dtype_of, text_of


def to_flax(theirs: Framework, leaves: list[Leaf], like: Any, rules: Rules) -> Conversion:
    """Returns variables of the form of `like` that hold another framework's leaves.

    Args:
        theirs: the tables of the framework.
        leaves: its arrays.
        like: the variables of a linen or nnx model.
        rules: of the user.

    Returns:
        A `Conversion`.

    Raises:
        ValueError: a leaf does not fit, is missing or is left over; every one is named.
    """
    ours, work = variables_of(like), Work()
    work.faults += rules.unused(leaves, ours.leaves)
    values = _kept(ours, rules.keep, work)
    records: dict[str, Record] = {}
    for leaf in leaves:
        places = targets(theirs, leaf, rules.names)
        if places is None:
            work.dropped[leaf.key] = "names leaves it out"
            continue
        array = array_of(leaf.value)
        place = next((p for p in places if p in ours.leaves), None)
        record = records.setdefault((place or places[0]).layer, {})
        carried = [p.role for p in places if p.role in CARRIED]
        if place is None and carried:
            record[carried[0]] = array
            work.dropped[leaf.key] = CARRIED[carried[0]]
        elif place is None:
            wanted = " or ".join(map(str, places))
            work.faults.append(f"left over: {leaf.key} {list(array.shape)}: like has no {wanted}")
        else:
            slot, layout = ours.leaves[place], layout_of(theirs, leaf, place.role, rules.layouts)
            new = layout.to_ours(array, np.shape(slot))
            fitted = work.fit(leaf.key, array, str(place), slot, new, text_of(layout, array, new))
            # Tied weights are there twice and here once.
            if place in values and not np.array_equal(values[place], fitted):
                work.faults.append(f"twice: {leaf.key} {list(array.shape)} -> {place}: two values")
            values[place], record[place.role] = fitted, new
    _derive(ours, values, records, work, rules.decay)
    return work.done(
        lambda: ours.rebuild({p: as_kind(values[p], like) for p, like in ours.leaves.items()}),
        theirs,
    )


def _kept(ours: Variables, patterns: tuple[str, ...], work: Work) -> dict[Place, np.ndarray]:
    """Returns the leaves of `like` that stay as they are."""
    kept = {}
    for place, leaf in ours.leaves.items():
        if not any(fnmatch.fnmatchcase(str(place), pattern) for pattern in patterns):
            continue
        if isinstance(leaf, jax.ShapeDtypeStruct):
            work.faults.append(f"keep: like has only the shape of {place} {list(leaf.shape)}")
            continue
        kept[place], work.derived[str(place)] = array_of(leaf), "as in like"
    return kept


def _derive(
    ours: Variables,
    values: dict[Place, np.ndarray],
    records: Mapping[str, Record],
    work: Work,
    decay: float | None,
) -> None:
    """Fills the places that no leaf is for: statistics of averages, and estimators' states."""
    for place, slot in ours.leaves.items():
        if place in values:
            continue
        given = {} if decay is None else {"decay": np.asarray(decay)}
        record = completed({**given, **records.get(place.layer, {})})
        if place.role.startswith(f"{STATE}/"):
            siblings = [p.role for p in ours.leaves if p.layer == place.layer and STATE in p.role]
            found = estimator_state(siblings, record)[place.role]
        else:
            found = record.get(place.role)
        if found is None:
            hint = HINTS.get(place.role.rsplit("/", 1)[-1], "")
            work.faults.append(f"missing: nothing becomes {place} {list(np.shape(slot))}{hint}")
            continue
        new = KEEPDIMS.to_ours(np.asarray(found), np.shape(slot))
        if new.ndim == 0:
            new = np.broadcast_to(new, np.shape(slot))
        work.derived[str(place)] = DERIVED
        if new.shape != np.shape(slot):
            work.faults.append(f"shape: {place} {list(np.shape(slot))} would be {list(new.shape)}")
        values[place] = new.astype(dtype_of(slot))
