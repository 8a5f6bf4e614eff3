"""Rows of the catalogue for pointwise functions, and how modules call them."""

from typing import Any

from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional.pointwise._dynamic_erf import dynamic_erf
from jaxnorm.functional.pointwise._dynamic_tanh import dynamic_tanh
from jaxnorm.functional.pointwise._layer_scale import layer_scale
from jaxnorm.functional.pointwise._re_zero import re_zero
from jaxnorm.functional.pointwise._skip_init import skip_init
from jaxnorm.functional.pointwise._threshold import thresholded_linear_unit
from jaxnorm.typing import Shape


def _row(function: Any, paper: str, elsewhere: str = "", limits: str = "") -> Member:
    return Member(
        name=function.__name__,
        function=function,
        stats_shape=None,
        claims=frozenset(),
        paper=paper,
        cost="none",
        elsewhere=elsewhere,
        limits=f"no statistics, so no mask and no shards{limits}",
    )


MEMBERS: tuple[Member, ...] = (
    _row(
        dynamic_tanh,
        "Zhu et al.: Transformers without Normalization, arXiv:2503.10622, 2025",
        "timm",
    ),
    _row(
        dynamic_erf,
        "Chen et al.: Stronger Normalization-Free Transformers, arXiv:2512.10938, 2025",
        limits="; real input only",
    ),
    _row(
        thresholded_linear_unit,
        "Singh, Krishnan: Filter Response Normalization Layer, arXiv:1911.09737, 2019",
        "timm",
        "; real input only",
    ),
    _row(
        layer_scale,
        "Touvron et al.: Going deeper with Image Transformers, arXiv:2103.17239, 2021",
        "timm, Keras",
    ),
    _row(re_zero, "Bachlechner et al.: ReZero is All You Need, arXiv:2003.04887, 2020"),
    _row(
        skip_init,
        "De, Smith: Batch Normalization Biases Residual Blocks, arXiv:2002.10444, 2020",
        "timm",
    ),
)


def _number(module: Any, features: Shape) -> Shape:
    return ()


SPECS: dict[str, Spec] = {
    "dynamic_tanh": Spec(
        "DynamicTanh",
        dynamic_tanh,
        parameters=("alpha", "scale", "bias"),
        options=(),
        sample=(),
        shapes={"alpha": _number},
    ),
    "dynamic_erf": Spec(
        "DynamicErf",
        dynamic_erf,
        parameters=("alpha", "shift", "scale", "bias"),
        options=(),
        sample=(),
        shapes={"alpha": _number, "shift": _number},
    ),
    "thresholded_linear_unit": Spec(
        "ThresholdedLinearUnit",
        thresholded_linear_unit,
        parameters=("threshold",),
        options=(),
        sample=(),
    ),
    "layer_scale": Spec("LayerScale", layer_scale, parameters=("scale",), options=(), sample=()),
    "re_zero": Spec(
        "ReZero",
        re_zero,
        parameters=("alpha",),
        axes=None,
        options=(),
        sample=(),
        shapes={"alpha": _number},
    ),
    "skip_init": Spec(
        "SkipInit",
        skip_init,
        parameters=("alpha",),
        axes=None,
        options=(),
        sample=(),
        shapes={"alpha": _number},
    ),
}
