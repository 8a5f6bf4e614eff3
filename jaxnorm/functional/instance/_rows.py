"""Rows of the catalogue for norms of channels, or groups of them, in each example, with modules."""

from jaxnorm.functional._claims import CENTRED, SAMPLED
from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional.instance._act_norm import act_norm
from jaxnorm.functional.instance._batch_instance import batch_instance_norm
from jaxnorm.functional.instance._filter_response import filter_response_norm
from jaxnorm.functional.instance._group import group_norm
from jaxnorm.functional.instance._group_shape import group_stats_shape
from jaxnorm.functional.instance._instance import instance_norm, instance_stats_shape
from jaxnorm.functional.instance._rev_in import rev_in
from jaxnorm.functional.instance._switchable import switchable_norm

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
    Member(
        name="batch_instance_norm",
        function=batch_instance_norm,
        stats_shape=instance_stats_shape,
        claims=CENTRED - {"range"},
        paper="Nam, Kim: Batch-Instance Normalization, arXiv:1805.07925, 2018",
        center=True,
        stateful=True,
        cost="two passes for the statistics",
        elsewhere="the authors' PyTorch code",
        limits="running variances above 3e38 do not exist in float32, so x must stay below 1e19",
    ),
    Member(
        name="switchable_norm",
        function=switchable_norm,
        stats_shape=instance_stats_shape,
        claims=CENTRED - {"range"},
        paper=(
            "Luo et al.: Differentiable Learning-to-Normalize via Switchable Normalization, "
            "arXiv:1806.10779, 2018"
        ),
        center=True,
        stateful=True,
        elsewhere="the authors' PyTorch code",
        limits="mixed variances have no unit of scale, so x must stay below 1e19 in float32",
    ),
    Member(
        name="rev_in",
        function=rev_in,
        stats_shape=instance_stats_shape,
        claims=CENTRED,
        paper=(
            "Kim et al.: Reversible Instance Normalization for Accurate Time-Series Forecasting, "
            "ICLR, 2022"
        ),
        center=True,
        elsewhere="the authors' PyTorch code",
        limits="the inverse takes the variance without a unit of scale, so x must stay below "
        "1e19 in float32",
    ),
    Member(
        name="act_norm",
        function=act_norm,
        stats_shape=None,
        claims=frozenset(),
        paper=(
            "Kingma, Dhariwal: Glow: Generative Flow with Invertible 1x1 Convolutions, "
            "arXiv:1807.03039, 2018"
        ),
        cost="none; one pass over the first batch",
        elsewhere="nflows, normflows",
        limits="its bias is one float32 number: after a start at mean / std 1e6 x is off by 0.06",
    ),
)

SPECS: dict[str, Spec] = {
    "group_norm": Spec(
        "GroupNorm",
        group_norm,
        axes="axis",
        options=("num_groups", "group_size", "reduction_axes", "epsilon", "activation"),
        fixed={"single_value": "allow"},
    ),
    "instance_norm": Spec(
        "InstanceNorm",
        instance_norm,
        options=("epsilon", "activation"),
        fixed={"single_value": "allow"},
    ),
    "filter_response_norm": Spec(
        "FilterResponseNorm",
        filter_response_norm,
        parameters=("scale", "bias", "threshold"),
        options=("epsilon", "variance"),
    ),
    "batch_instance_norm": Spec(
        "BatchInstanceNorm",
        batch_instance_norm,
        parameters=("gate", "scale", "bias"),
        axes="axis",
        options=("epsilon", "variance"),
        decay="decay",
    ),
    "switchable_norm": Spec(
        "SwitchableNorm",
        switchable_norm,
        parameters=("mean_logits", "var_logits", "scale", "bias"),
        axes="axis",
        options=("candidates", "epsilon", "variance"),
        decay="decay",
        shapes={
            "mean_logits": lambda module, features: (len(module.candidates),),
            "var_logits": lambda module, features: (len(module.candidates),),
        },
    ),
    "rev_in": Spec("RevIN", rev_in),
    "act_norm": Spec("ActNorm", act_norm, options=(), sample=()),
}
