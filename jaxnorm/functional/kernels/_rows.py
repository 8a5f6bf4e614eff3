"""Rows of the catalogue for norms of the kernels of a layer, and how modules call them."""

from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional._parameters import all_but_last
from jaxnorm.functional.kernels._scaled_weight_standardization import (
    scaled_weight_standardization,
)
from jaxnorm.functional.kernels._spectral import spectral_norm
from jaxnorm.functional.kernels._weight_centralization import weight_centralization
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
        name="scaled_weight_standardization",
        function=scaled_weight_standardization,
        stats_shape=all_but_last,
        claims=frozenset({"offset", "shift"}),
        paper="Brock, De, Smith: Characterizing signal propagation to close the performance gap in "
        "unnormalized ResNets, arXiv:2101.08692, 2021",
        of="kernel",
        center=True,
        elsewhere="timm",
        limits="kernels of a small deviation are not scaled up: the variance has a lower bound",
    ),
    Member(
        name="weight_centralization",
        function=weight_centralization,
        stats_shape=all_but_last,
        claims=frozenset({"offset", "range", "shift"}),
        paper="Yan et al.: Towards Stabilizing Batch Statistics in Backward Propagation of Batch "
        "Normalization, arXiv:2001.06838, 2020",
        of="kernel",
        center=True,
        limits="the deviation of the kernel stays as it is",
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
    "scaled_weight_standardization": Spec(
        "ScaledWeightStandardization",
        scaled_weight_standardization,
        parameters=("scale",),
        options=("gain", "epsilon"),
        sample=(),
    ),
    "weight_centralization": Spec(
        "WeightCentralization", weight_centralization, parameters=(), options=(), sample=()
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
