"""Rows of the catalogue for the EvoNorms, and how modules call them."""

from typing import Any

from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional._parameters import all_but_last
from jaxnorm.functional.evolved._evo_norm_b0 import evo_norm_b0
from jaxnorm.functional.evolved._evo_norm_b1 import evo_norm_b1
from jaxnorm.functional.evolved._evo_norm_b2 import evo_norm_b2
from jaxnorm.functional.evolved._evo_norm_s0 import evo_norm_s0
from jaxnorm.functional.evolved._evo_norm_s1 import evo_norm_s1
from jaxnorm.functional.evolved._evo_norm_s2 import evo_norm_s2
from jaxnorm.functional.instance._group_shape import group_stats_shape

PAPER = "Liu et al.: Evolving Normalization-Activation Layers, arXiv:2004.02967, 2020"
REAL = "real input only"


def _of_batch(function: Any) -> Member:
    return Member(
        name=function.__name__,
        function=function,
        stats_shape=all_but_last,
        claims=frozenset({"mask", "weights", "shards", "streaming", "offset"}),
        paper=PAPER,
        center=True,
        stateful=True,
        cost="a pass for the size, one for the batch and one for each example",
        elsewhere="timm",
        limits=f"{REAL}; far below the root of epsilon the two deviations are equal in float32",
    )


def _of_group(function: Any, center: bool) -> Member:
    return Member(
        name=function.__name__,
        function=function,
        stats_shape=lambda shape: group_stats_shape(shape, 2),
        claims=frozenset({"mask", "weights", "shards", "offset", "range"}),
        paper=PAPER,
        center=center,
        options={"num_groups": 2},
        cost="a pass for the size, and one for the statistics",
        elsewhere="timm",
        limits=REAL,
    )


MEMBERS: tuple[Member, ...] = (
    _of_batch(evo_norm_b0),
    _of_batch(evo_norm_b1),
    _of_batch(evo_norm_b2),
    _of_group(evo_norm_s0, center=True),
    _of_group(evo_norm_s1, center=True),
    _of_group(evo_norm_s2, center=False),
)

GATED = ("gate", "scale", "bias")
GROUPS = ("num_groups", "group_size", "epsilon", "variance")

SPECS: dict[str, Spec] = {
    "evo_norm_b0": Spec(
        "EvoNormB0",
        evo_norm_b0,
        parameters=GATED,
        axes="axis",
        options=("epsilon", "variance"),
        decay="decay",
    ),
    "evo_norm_b1": Spec(
        "EvoNormB1", evo_norm_b1, axes="axis", options=("epsilon", "variance"), decay="decay"
    ),
    "evo_norm_b2": Spec(
        "EvoNormB2", evo_norm_b2, axes="axis", options=("epsilon", "variance"), decay="decay"
    ),
    "evo_norm_s0": Spec("EvoNormS0", evo_norm_s0, parameters=GATED, axes="axis", options=GROUPS),
    "evo_norm_s1": Spec("EvoNormS1", evo_norm_s1, axes="axis", options=GROUPS),
    "evo_norm_s2": Spec("EvoNormS2", evo_norm_s2, axes="axis", options=GROUPS),
}
