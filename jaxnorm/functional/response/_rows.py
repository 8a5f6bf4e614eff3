"""Rows of the catalogue for norms by windows and by other channels, and how modules call them."""

from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional.instance._instance import instance_stats_shape
from jaxnorm.functional.response._divisive import divisive_norm
from jaxnorm.functional.response._global_response import global_response_norm
from jaxnorm.functional.response._local_contrast import local_contrast_norm
from jaxnorm.functional.response._local_response import local_response_norm

_WITHIN_A_SHARD = "no axis_name: a window, or a length, ends at the edge of its shard"

MEMBERS: tuple[Member, ...] = (
    Member(
        name="local_response_norm",
        function=local_response_norm,
        stats_shape=lambda shape: shape,
        claims=frozenset({"mask", "range", "offset"}),
        paper=(
            "Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural "
            "Networks, NeurIPS, 2012"
        ),
        cost="log2(size) merges of neighbours",
        elsewhere="PyTorch, TensorFlow, Caffe",
        limits=_WITHIN_A_SHARD,
    ),
    Member(
        name="local_contrast_norm",
        function=local_contrast_norm,
        stats_shape=lambda shape: shape,
        claims=frozenset({"mask", "range", "offset", "scale", "shift"}),
        paper=(
            "Jarrett, Kavukcuoglu, Ranzato, LeCun: What is the Best Multi-Stage Architecture for "
            "Object Recognition?, ICCV, 2009"
        ),
        center=True,
        cost="two windows of as many merges as the window has entries along each axis",
        elsewhere="Torch 7",
        limits=_WITHIN_A_SHARD,
    ),
    Member(
        name="divisive_norm",
        function=divisive_norm,
        stats_shape=lambda shape: shape,
        claims=frozenset({"mask", "range", "offset", "shift"}),
        paper="Ren et al.: Normalizing the Normalizers, arXiv:1611.04520, 2016",
        center=True,
        options={"window": 3},
        cost="two windows of log2(window) merges along each axis",
        limits=_WITHIN_A_SHARD,
    ),
    Member(
        name="global_response_norm",
        function=global_response_norm,
        stats_shape=instance_stats_shape,
        claims=frozenset({"mask", "range", "offset"}),
        paper="Woo et al.: ConvNeXt V2: Co-designing and Scaling ConvNets, arXiv:2301.00808, 2023",
        elsewhere="timm",
        limits=_WITHIN_A_SHARD,
    ),
)

SPECS: dict[str, Spec] = {
    "local_response_norm": Spec(
        "LocalResponseNorm",
        local_response_norm,
        parameters=(),
        axes="axis",
        options=("size", "alpha", "beta", "k", "average"),
        sample=("mask",),
    ),
    "local_contrast_norm": Spec(
        "LocalContrastNorm",
        local_contrast_norm,
        parameters=(),
        axes="axis",
        options=("window", "std", "axes", "epsilon"),
        sample=("mask",),
    ),
    "divisive_norm": Spec(
        "DivisiveNorm",
        divisive_norm,
        options=("window", "suppression", "axes", "smoother"),
        sample=("mask",),
    ),
    "global_response_norm": Spec(
        "GlobalResponseNorm", global_response_norm, axes="axis", sample=("mask",)
    ),
}
