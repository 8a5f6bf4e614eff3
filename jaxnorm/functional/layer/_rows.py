"""Rows of the catalogue for norms of each position over its features, and how modules call them."""

import math

from jaxnorm.functional._claims import CENTRED, SAMPLED
from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional.layer._layer import layer_norm
from jaxnorm.functional.layer._p_rms import p_rms_norm
from jaxnorm.functional.layer._pixel import pixel_norm
from jaxnorm.functional.layer._rms import rms_norm
from jaxnorm.functional.layer._scale import scale_norm
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
    Member(
        name="p_rms_norm",
        function=p_rms_norm,
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        claims=SAMPLED - {"shards"},
        paper="Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019",
        limits="shards of the feature axis would each measure the first of their own features",
    ),
    Member(
        name="scale_norm",
        function=scale_norm,
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        claims=SAMPLED,
        paper="Nguyen, Salazar: Transformers without Tears, arXiv:1910.05895, 2019",
        elsewhere="x-transformers",
    ),
    Member(
        name="pixel_norm",
        function=pixel_norm,
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        claims=SAMPLED,
        paper="Karras et al.: Progressive Growing of GANs, arXiv:1710.10196, 2017",
    ),
)

SPECS: dict[str, Spec] = {
    "layer_norm": Spec(
        "LayerNorm", layer_norm, options=("reduction_axes", "epsilon", "zero_centered")
    ),
    "rms_norm": Spec(
        "RMSNorm",
        rms_norm,
        parameters=("scale",),
        options=("reduction_axes", "epsilon", "zero_centered", "cast"),
    ),
    "p_rms_norm": Spec("PRMSNorm", p_rms_norm, axes="axis", options=("share", "epsilon")),
    "scale_norm": Spec(
        "ScaleNorm",
        scale_norm,
        parameters=("scale",),
        axes="reduction_axes",
        shapes={"scale": lambda module, features: ()},
        first={"scale": lambda module, features: math.sqrt(math.prod(features))},
    ),
    "pixel_norm": Spec(
        "PixelNorm",
        pixel_norm,
        parameters=(),
        axes=None,
        options=("reduction_axes", "epsilon"),
    ),
}
