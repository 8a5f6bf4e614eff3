"""Rows of the catalogue for norms of each position over its features, and how modules call them."""

import math
from typing import Any

from jaxnorm.functional._claims import CENTRED, SAMPLED
from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional.layer._add_layer import add_layer_norm
from jaxnorm.functional.layer._add_rms import add_rms_norm
from jaxnorm.functional.layer._gated import gated_rms_norm
from jaxnorm.functional.layer._layer import layer_norm
from jaxnorm.functional.layer._p_rms import p_rms_norm
from jaxnorm.functional.layer._pixel import pixel_norm
from jaxnorm.functional.layer._poly import poly_norm
from jaxnorm.functional.layer._positional import positional_norm
from jaxnorm.functional.layer._qk import qk_norm
from jaxnorm.functional.layer._rms import rms_norm
from jaxnorm.functional.layer._scale import scale_norm
from jaxnorm.stats import reduced_stats_shape
from jaxnorm.typing import Shape


def _key_heads(module: Any, features: Shape) -> Shape:
    """Returns all sizes of `k_scale` but the last: keys may have fewer heads than queries."""
    given = module.num_key_heads
    return features[:-1] if given is None or len(features) < 2 else (*features[:-2], given)


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
        cost="one pass, which reads the features beyond the share with weight zero",
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
    Member(
        name="positional_norm",
        function=positional_norm,
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        claims=CENTRED,
        paper="Li, Wu, Weinberger, Belongie: Positional Normalization, arXiv:1907.04312, 2019",
        center=True,
        limits="the variance that it returns overflows in float32 for x above 1e19",
    ),
    Member(
        name="poly_norm",
        function=poly_norm,
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        claims=SAMPLED,
        paper="Zhuo et al.: Polynomial Composition Activations, arXiv:2411.03884, 2024",
        cost="one pass for the size and one for each power",
        elsewhere="Liger, Levanter, vLLM",
    ),
    Member(
        name="qk_norm",
        function=qk_norm,
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        claims=frozenset({"offset", "range", "scale"}),
        paper="Henry et al.: Query-Key Normalization for Transformers, arXiv:2010.04245, 2020",
        elsewhere="timm, x-transformers",
        limits="no mask: a padded position has statistics of its own and disturbs no other",
    ),
    Member(
        name="gated_rms_norm",
        function=gated_rms_norm,
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        claims=SAMPLED,
        paper="Dao, Gu: Transformers are SSMs, arXiv:2405.21060, 2024",
        elsewhere="mamba-ssm, MaxText",
    ),
    Member(
        name="add_rms_norm",
        function=add_rms_norm,
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        claims=SAMPLED - {"offset"},
        paper="Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019",
        cost="the sum is written once; one pass for the statistics",
        elsewhere="Liger, vLLM, quack",
        limits="the sum is rounded to float32 before its statistics are taken",
    ),
    Member(
        name="add_layer_norm",
        function=add_layer_norm,
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        claims=CENTRED - {"offset"},
        paper="Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450, 2016",
        center=True,
        cost="the sum is written once; one pass for the statistics",
        limits="the sum is rounded to float32 before its statistics are taken",
    ),
)

SPECS: dict[str, Spec] = {
    "layer_norm": Spec(
        "LayerNorm",
        layer_norm,
        options=("reduction_axes", "epsilon", "zero_centered", "activation"),
        fixed={"single_value": "allow"},
    ),
    "rms_norm": Spec(
        "RMSNorm",
        rms_norm,
        options=("reduction_axes", "epsilon", "zero_centered", "cast", "activation"),
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
    "positional_norm": Spec(
        "PositionalNorm",
        positional_norm,
        parameters=(),
        axes=None,
        options=("reduction_axes", "epsilon"),
    ),
    "poly_norm": Spec(
        "PolyNorm",
        poly_norm,
        axes=None,
        options=("order", "reduction_axes", "epsilon"),
        shapes={"scale": lambda module, features: (module.order,), "bias": lambda *_: ()},
        first={"scale": lambda module, features: 1 / module.order},
    ),
    "qk_norm": Spec(
        "QKNorm",
        qk_norm,
        parameters=("q_scale", "k_scale", "temperature"),
        options=("kind", "epsilon"),
        sample=(),
        shapes={
            "k_scale": lambda module, features: (*_key_heads(module, features), features[-1]),
            "temperature": lambda module, features: (),
        },
    ),
    "gated_rms_norm": Spec(
        "GatedRMSNorm",
        gated_rms_norm,
        parameters=("scale",),
        axes="axis",
        options=("norm_before_gate", "num_groups", "epsilon"),
    ),
    "add_rms_norm": Spec(
        "AddRMSNorm",
        add_rms_norm,
        parameters=("scale",),
        options=("reduction_axes", "epsilon", "zero_centered", "residual_dtype"),
    ),
    "add_layer_norm": Spec(
        "AddLayerNorm",
        add_layer_norm,
        options=("reduction_axes", "epsilon", "zero_centered", "residual_dtype"),
    ),
}
