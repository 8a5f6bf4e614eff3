"""Rows of the catalogue for norms that see their samples one after another, with modules."""

from jaxnorm.functional._claims import CENTRED
from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional.streaming._cumulative_group import cumulative_group_norm
from jaxnorm.functional.streaming._cumulative_layer import cumulative_layer_norm

# Variances that are kept for later steps are in the units of x.
PREFIXES = CENTRED - {"range"}

MEMBERS: tuple[Member, ...] = (
    Member(
        name="cumulative_layer_norm",
        function=cumulative_layer_norm,
        stats_shape=None,
        claims=PREFIXES,
        paper="Luo, Mesgarani: Conv-TasNet, arXiv:1809.07454, 2018",
        center=True,
        cost="one pass for the statistics of each step, and a scan over these",
        elsewhere="Asteroid, ESPnet",
        limits="variances must be representable in float32",
    ),
    Member(
        name="cumulative_group_norm",
        function=cumulative_group_norm,
        stats_shape=None,
        claims=PREFIXES,
        paper="Luo, Mesgarani: Conv-TasNet, arXiv:1809.07454, 2018",
        center=True,
        options={"num_groups": 2},
        cost="one pass for the statistics of each step, and a scan over these",
        elsewhere="Lingvo, Praxis, with squares about the mean at each step",
        limits="variances must be representable in float32",
    ),
)

SPECS: dict[str, Spec] = {
    "cumulative_layer_norm": Spec(
        "CumulativeLayerNorm",
        cumulative_layer_norm,
        axes="axis",
        options=("epsilon", "variance"),
    ),
    "cumulative_group_norm": Spec(
        "CumulativeGroupNorm",
        cumulative_group_norm,
        axes="axis",
        options=("num_groups", "epsilon", "variance"),
    ),
}
