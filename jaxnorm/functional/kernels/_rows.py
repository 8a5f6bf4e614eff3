"""Rows of the catalogue for norms of the kernels of a layer, and how modules call them."""

from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional._parameters import all_but_last
from jaxnorm.functional.kernels._spectral import spectral_norm
from jaxnorm.functional.kernels._weight_norm import weight_norm
from jaxnorm.functional.kernels._weight_standardization import weight_standardization

MEMBERS: tuple[Member, ...] = (
    Member(
        name="weight_norm",
        function=weight_norm,
        stats_shape=all_but_last,
        claims=frozenset({"offset", "scale"}),
        paper="Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016",
        of="kernel",
        elsewhere="Flax, Haiku, Equinox, PyTorch",
    ),
    Member(
        name="weight_standardization",
        function=weight_standardization,
        stats_shape=all_but_last,
        claims=frozenset({"offset", "scale", "shift"}),
        paper="Qiao et al.: Weight Standardization, arXiv:1903.10520, 2019",
        of="kernel",
        center=True,
        elsewhere="timm",
    ),
    Member(
        name="spectral_norm",
        function=spectral_norm,
        stats_shape=None,
        claims=frozenset({"scale"}),
        paper="Miyato et al.: Spectral Normalization, arXiv:1802.05957, 2018",
        of="kernel",
        stateful=True,
        cost="two products with a vector for each step",
        elsewhere="Flax, Haiku, Equinox, Keras, PyTorch",
    ),
)

SPECS: dict[str, Spec] = {
    "weight_norm": Spec("WeightNorm", weight_norm, parameters=("scale",), sample=()),
    "weight_standardization": Spec(
        "WeightStandardization", weight_standardization, parameters=("scale",), sample=()
    ),
    "spectral_norm": Spec(
        "SpectralNorm",
        spectral_norm,
        parameters=(),
        axes=None,
        options=("n_steps", "epsilon"),
        sample=(),
    ),
}
