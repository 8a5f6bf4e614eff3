"""The plan for many chips: the exchanges of whole models, and when they cost little."""

import math
from collections.abc import Mapping
from typing import Any

from ._large import large_model
from ._scale import CHIPS, DATA_PARALLEL, hops, seconds_of

SHARE = 0.05  # of a step that exchanges may take to count as free


def compiled_table(rows: list[dict[str, Any]]) -> str:
    """Return the exchanges of the short models, as they were counted in the compiled programs."""
    lines = [
        "| short model | layout | chips | norms one after another | of norms, forward: number, "
        "kB | of norms, backward: number, kB | others: number, MB | begin and end apart |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        apart = row["apart"] + row["others_apart"]
        between = row["between"] + row["others_between"]
        cells = [
            f"{row['forward']}, {row['forward_bytes'] / 1e3:.0f}",
            f"{row['backward']}, {row['backward_bytes'] / 1e3:.1f}",
            f"{row['others']}, {row['others_bytes'] / 1e6:.1f}",
            f"{apart}, {between} programs between" if apart else "none",
        ]
        head = f"| {row['model']} | {row['layout']} | {row['chips']} | {row['compiled_norms']} | "
        lines.append(head + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plan(target: str, row: Mapping[str, Any], flops: float, chips: int) -> dict[str, Any]:
    """Return what a step of the whole model exchanges, and the time that takes at least.

    Numbers grow with the norms that stand one after another and with those beside them, bytes of
    norms with their channels, other bytes with the parameters. The moments that are gathered grow
    with the chips.

    Args:
        target: the chip.
        row: as `counted` returns it.
        flops: operations of a step for each image.
        chips: of the slice, another one than that of the row perhaps.
    """
    count = sum(whole_count(row["model"], row[way]) for way in ("forward", "backward"))
    grown = chips / row["chips"]
    size = row["channels_ratio"] * (grown * row["forward_bytes"] + row["backward_bytes"])
    others = row["parameters_ratio"] * row["others_bytes"]
    norms_s = seconds_of(target, chips, count, size)
    others_s = seconds_of(target, chips, 0, others)
    image_s = flops / CHIPS[target].flops
    return {
        "model": row["model"],
        "layout": row["layout"],
        "chips": chips,
        "compiled": row["chips"],
        "norm_exchanges": round(count),
        "norm_bytes": size,
        "other_bytes": others,
        "norm_seconds": norms_s,
        "other_seconds": others_s,
        "image_seconds": image_s,
        "free_from": math.ceil(norms_s * (1 - SHARE) / SHARE / image_s),
    }


def whole_count(name: str, found: int) -> float:
    """Return how often the norms of a whole model exchange in one pass.

    Args:
        name: of the model.
        found: exchanges of the short model, where those beyond its chain are of norms beside it.
    """
    model = large_model(name)
    (short, whole), (few, all_) = model.chain, model.beside
    return min(found, short) * whole / short + max(found - short, 0) * all_ / few


def plan_table(target: str, plans: list[dict[str, Any]]) -> str:
    """Return the documentation's table of whole models."""
    lines = [
        "| model | layout | chips (compiled for) | hops | exchanges of norms | of norms, MB | of "
        "parameters and gradients, MB | norms, ms | parameters and gradients, ms | an image, ms | "
        "norms take at most 5% from |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for found in plans:
        free = f"{found['free_from']} images a chip"
        # Gradients of scale and bias meet once, whenever; a step does not wait for each of them.
        waits = found["model"].startswith("ResNet")
        cells = [
            found["model"],
            found["layout"],
            f"{found['chips']} ({found['compiled']})",
            str(hops(target, found["chips"])),
            str(found["norm_exchanges"]),
            f"{found['norm_bytes'] / 1e6:.1f}",
            f"{found['other_bytes'] / 1e6:.0f}",
            f"{1e3 * found['norm_seconds']:.2f}" if waits else "-",
            f"{1e3 * found['other_seconds']:.2f}",
            f"{1e3 * found['image_seconds']:.3f}",
            free if waits else "-",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def sentences(plans: list[dict[str, Any]]) -> list[str]:
    """Say from how many images on batch norm's exchanges take a twentieth of a step at most."""
    return [
        f"{found['model']}, {found['layout']}, {found['chips']} chips: "
        f"{found['norm_exchanges']} exchanges of norms take {1e3 * found['norm_seconds']:.2f} ms "
        f"at least, 5% of a step from {found['free_from']} images a chip on."
        for found in plans
        if found["layout"] == DATA_PARALLEL and found["model"].startswith("ResNet")
    ]
