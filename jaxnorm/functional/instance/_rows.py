"""Rows of the catalogue for norms of channels, or groups of them, in each example, with modules."""

from jaxnorm.functional._claims import CENTRED, SAMPLED
from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional.instance._filter_response import filter_response_norm
from jaxnorm.functional.instance._group import group_norm, group_stats_shape
from jaxnorm.functional.instance._instance import instance_norm, instance_stats_shape

MEMBERS: tuple[Member, ...] = (
    Member(
        name="group_norm",
        function=group_norm,
        stats_shape=lambda shape: group_stats_shape(shape, 2),
        claims=CENTRED,
        paper="Wu, He: Group Normalization, arXiv:1803.08494, 2018",
        center=True,
        options={"num_groups": 2},
        elsewhere="Flax, Haiku, Equinox, Keras, PyTorch",
    ),
    Member(
        name="instance_norm",
        function=instance_norm,
        stats_shape=instance_stats_shape,
        claims=CENTRED,
        paper="Ulyanov, Vedaldi, Lempitsky: Instance Normalization, arXiv:1607.08022, 2016",
        center=True,
        elsewhere="Flax, Haiku, PyTorch",
    ),
    Member(
        name="filter_response_norm",
        function=filter_response_norm,
        stats_shape=instance_stats_shape,
        claims=SAMPLED,
        paper="Singh, Krishnan: Filter Response Normalization Layer, arXiv:1911.09737, 2019",
        elsewhere="timm",
    ),
)

SPECS: dict[str, Spec] = {
    "group_norm": Spec(
        "GroupNorm",
        group_norm,
        axes="axis",
        options=("num_groups", "group_size", "reduction_axes", "epsilon"),
    ),
    "instance_norm": Spec("InstanceNorm", instance_norm, fixed={"single_value": "allow"}),
    "filter_response_norm": Spec(
        "FilterResponseNorm",
        filter_response_norm,
        parameters=("scale", "bias", "threshold"),
        options=("epsilon", "variance"),
    ),
}
