"""Rows of the catalogue for pointwise functions, and how modules call them."""

from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional.pointwise._dynamic_tanh import dynamic_tanh

MEMBERS: tuple[Member, ...] = (
    Member(
        name="dynamic_tanh",
        function=dynamic_tanh,
        stats_shape=None,
        claims=frozenset(),
        paper="Zhu et al.: Transformers without Normalization, arXiv:2503.10622, 2025",
        cost="none",
        elsewhere="timm",
        limits="no statistics: a mask, weights and shards mean nothing to it",
    ),
)

SPECS: dict[str, Spec] = {
    "dynamic_tanh": Spec(
        "DynamicTanh",
        dynamic_tanh,
        parameters=("alpha", "scale", "bias"),
        options=(),
        sample=(),
        shapes={"alpha": lambda module, features: ()},
    ),
}
