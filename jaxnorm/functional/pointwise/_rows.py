"""Rows of the catalogue for pointwise functions, and how modules call them."""

from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional.pointwise._dynamic_erf import dynamic_erf
from jaxnorm.functional.pointwise._dynamic_tanh import dynamic_tanh
from jaxnorm.functional.pointwise._layer_scale import layer_scale
from jaxnorm.functional.pointwise._re_zero import re_zero
from jaxnorm.functional.pointwise._skip_init import skip_init
from jaxnorm.functional.pointwise._thresholded import thresholded_linear_unit

_LIMITS = "no statistics: a mask, weights and shards mean nothing to it"

MEMBERS: tuple[Member, ...] = (
    Member(
        name="dynamic_tanh",
        function=dynamic_tanh,
        stats_shape=None,
        claims=frozenset(),
        paper="Zhu et al.: Transformers without Normalization, arXiv:2503.10622, 2025",
        cost="none",
        elsewhere="timm",
        limits=_LIMITS,
    ),
    Member(
        name="dynamic_erf",
        function=dynamic_erf,
        stats_shape=None,
        claims=frozenset(),
        paper="Chen et al.: Stronger Normalization-Free Transformers, arXiv:2512.10938, 2025",
        cost="none",
        limits=_LIMITS,
    ),
    Member(
        name="thresholded_linear_unit",
        function=thresholded_linear_unit,
        stats_shape=None,
        claims=frozenset({"range"}),
        paper="Singh, Krishnan: Filter Response Normalization Layer, arXiv:1911.09737, 2019",
        cost="none",
        elsewhere="timm, TensorFlow Addons",
        limits=_LIMITS,
    ),
    Member(
        name="layer_scale",
        function=layer_scale,
        stats_shape=None,
        claims=frozenset({"range"}),
        paper="Touvron et al.: Going deeper with Image Transformers, arXiv:2103.17239, 2021",
        cost="none",
        elsewhere="timm, torchvision",
        limits=_LIMITS,
    ),
    Member(
        name="re_zero",
        function=re_zero,
        stats_shape=None,
        claims=frozenset(),
        paper="Bachlechner et al.: ReZero is All You Need, arXiv:2003.04887, 2020",
        cost="none",
        limits=_LIMITS,
    ),
    Member(
        name="skip_init",
        function=skip_init,
        stats_shape=None,
        claims=frozenset({"range"}),
        paper="De, Smith: Batch Normalization Biases Residual Blocks Towards the Identity Function "
        "in Deep Networks, arXiv:2002.10444, 2020",
        cost="none",
        elsewhere="timm",
        limits=_LIMITS,
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
    "dynamic_erf": Spec(
        "DynamicErf",
        dynamic_erf,
        parameters=("alpha", "shift", "scale", "bias"),
        options=(),
        sample=(),
        shapes={name: lambda module, features: () for name in ("alpha", "shift")},
    ),
    "thresholded_linear_unit": Spec(
        "ThresholdedLinearUnit",
        thresholded_linear_unit,
        parameters=("threshold",),
        options=(),
        sample=(),
    ),
    "layer_scale": Spec("LayerScale", layer_scale, parameters=("scale",), options=(), sample=()),
    "re_zero": Spec("ReZero", re_zero, parameters=("alpha",), axes=None, options=(), sample=()),
    "skip_init": Spec(
        "SkipInit", skip_init, parameters=("alpha",), axes=None, options=(), sample=()
    ),
}
