"""Rows of the catalogue for norms of each position over its features, and how modules call them."""

from jaxnorm.functional._claims import CENTRED, SAMPLED
from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional.layer._layer import layer_norm
from jaxnorm.functional.layer._rms import rms_norm
from jaxnorm.stats import reduced_stats_shape

MEMBERS: tuple[Member, ...] = (
    Member(
        name="layer_norm",
        function=layer_norm,
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        claims=CENTRED,
        paper="Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450, 2016",
        center=True,
        elsewhere="all",
    ),
    Member(
        name="rms_norm",
        function=rms_norm,
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        claims=SAMPLED,
        paper="Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019",
        elsewhere="Flax, Haiku, Equinox, Keras, PyTorch",
    ),
)

SPECS: dict[str, Spec] = {
    "layer_norm": Spec("LayerNorm", layer_norm, options=("reduction_axes", "epsilon")),
    "rms_norm": Spec(
        "RMSNorm", rms_norm, parameters=("scale",), options=("reduction_axes", "epsilon")
    ),
}
