"""What a module must know of its normalizer: one specification beside each row of the catalogue."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxnorm.functional._batch import batch_norm
from jaxnorm.functional._filter_response import filter_response_norm
from jaxnorm.functional._ghost import ghost_batch_norm
from jaxnorm.functional._group import group_norm
from jaxnorm.functional._instance import instance_norm
from jaxnorm.functional._layer import layer_norm
from jaxnorm.functional._rms import rms_norm
from jaxnorm.functional._spectral import spectral_norm
from jaxnorm.functional._weight_norm import weight_norm
from jaxnorm.functional._weight_standardization import weight_standardization


class Spec(NamedTuple):
    """The parameters, the state and the arguments of a normalizer that is called by a module.

    A parameter NAME is an argument of the function, of [*features]. The module has the fields
    `use_NAME` and `NAME_init` for it, and in `nnx` also `NAME_metadata`.

    Examples:
        >>> SPECS["layer_norm"].module, SPECS["layer_norm"].parameters
        ('LayerNorm', ('scale', 'bias'))
    """

    module: str  # the class in `jaxnorm.linen` and in `jaxnorm.nnx`
    function: Callable[..., Any]  # what the module calls
    parameters: tuple[str, ...] = ("scale", "bias")  # in the order in which they are made
    axes: str | None = "feature_axes"  # argument and field for the axes of the parameters
    options: tuple[str, ...] = ("epsilon",)  # fields that are handed on as they are
    fixed: Mapping[str, Any] = MappingProxyType({})  # arguments that every module gives
    sampled: bool = True  # whether mask, weights, variance and axis_name are arguments
    decay: str | None = None  # the field for the weight of old running statistics, if it has any


SPECS: Mapping[str, Spec] = MappingProxyType(
    {
        "batch_norm": Spec("BatchNorm", batch_norm, axes="axis", decay="momentum"),
        "ghost_batch_norm": Spec(
            "GhostBatchNorm",
            ghost_batch_norm,
            axes="axis",
            options=("ghost_batch_size", "epsilon", "variance"),
            decay="decay",
        ),
        "layer_norm": Spec("LayerNorm", layer_norm, options=("reduction_axes", "epsilon")),
        "rms_norm": Spec(
            "RMSNorm", rms_norm, parameters=("scale",), options=("reduction_axes", "epsilon")
        ),
        "group_norm": Spec(
            "GroupNorm",
            group_norm,
            axes="axis",
            options=("num_groups", "group_size", "reduction_axes", "epsilon"),
        ),
        "instance_norm": Spec(
            "InstanceNorm", instance_norm, fixed=MappingProxyType({"single_value": "allow"})
        ),
        "filter_response_norm": Spec(
            "FilterResponseNorm",
            filter_response_norm,
            parameters=("scale", "bias", "threshold"),
            options=("epsilon", "variance"),
        ),
        "weight_norm": Spec("WeightNorm", weight_norm, parameters=("scale",), sampled=False),
        "weight_standardization": Spec(
            "WeightStandardization", weight_standardization, parameters=("scale",), sampled=False
        ),
        "spectral_norm": Spec(
            "SpectralNorm",
            spectral_norm,
            parameters=(),
            axes=None,
            options=("n_steps", "epsilon"),
            sampled=False,
        ),
    }
)
"""One entry for each member of the catalogue, by its name."""
