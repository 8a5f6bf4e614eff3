"""Rows of the catalogue for norms that follow a condition, and how modules call them."""

from jaxnorm.functional._claims import CENTRED, SAMPLED
from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional._parameters import all_but_last
from jaxnorm.functional.conditional._ada_layer import ada_layer_norm
from jaxnorm.functional.conditional._ada_layer_zero import ada_layer_norm_zero
from jaxnorm.functional.conditional._adaptive_instance import adaptive_instance_norm
from jaxnorm.functional.conditional._batch import conditional_batch_norm
from jaxnorm.functional.conditional._film import film
from jaxnorm.functional.conditional._modulated_rms import modulated_rms_norm
from jaxnorm.functional.conditional._spade import spade
from jaxnorm.functional.instance._instance import instance_stats_shape
from jaxnorm.stats import reduced_stats_shape

_LAST_AXIS = "the modules take features on the last axis only; the function takes any axes"

MEMBERS: tuple[Member, ...] = (
    Member(
        name="conditional_batch_norm",
        function=conditional_batch_norm,
        stats_shape=all_but_last,
        claims=CENTRED | {"streaming"},
        paper="de Vries et al.: Modulating early visual processing by language, arXiv:1707.00683, "
        "2017",
        center=True,
        stateful=True,
        elsewhere="Haiku (batch_norm with a scale at the call)",
        limits=f"{_LAST_AXIS}; one layer from the condition to the scale, where the paper has two",
    ),
    Member(
        name="film",
        function=film,
        stats_shape=None,
        claims=frozenset(),
        paper="Perez et al.: FiLM: Visual Reasoning with a General Conditioning Layer, "
        "arXiv:1709.07871, 2017",
        cost="none",
        limits=f"no statistics: a mask, weights and shards mean nothing to it; {_LAST_AXIS}",
    ),
    Member(
        name="adaptive_instance_norm",
        function=adaptive_instance_norm,
        stats_shape=instance_stats_shape,
        claims=CENTRED,
        paper="Huang, Belongie: Arbitrary Style Transfer in Real-time, arXiv:1703.06868, 2017",
        center=True,
        cost="one pass for the statistics, and one over the style",
        limits=f"a style's variance must be representable (its size below 1e18); {_LAST_AXIS}",
    ),
    Member(
        name="spade",
        function=spade,
        stats_shape=all_but_last,
        claims=CENTRED | {"streaming"},
        paper="Park et al.: Semantic Image Synthesis with Spatially-Adaptive Normalization, "
        "arXiv:1903.07291, 2019",
        center=True,
        stateful=True,
        limits=_LAST_AXIS,
    ),
    Member(
        name="ada_layer_norm",
        function=ada_layer_norm,
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        claims=CENTRED,
        paper="Peebles, Xie: Scalable Diffusion Models with Transformers, arXiv:2212.09748, 2022",
        center=True,
        elsewhere="Diffusers",
        limits=_LAST_AXIS,
    ),
    Member(
        name="ada_layer_norm_zero",
        function=ada_layer_norm_zero,
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        claims=CENTRED,
        paper="Peebles, Xie: Scalable Diffusion Models with Transformers, arXiv:2212.09748, 2022",
        center=True,
        elsewhere="Diffusers",
        limits=_LAST_AXIS,
    ),
    Member(
        name="modulated_rms_norm",
        function=modulated_rms_norm,
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        claims=SAMPLED,
        paper="Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019",
        elsewhere="Liger",
        limits=_LAST_AXIS,
    ),
)

SPECS: dict[str, Spec] = {
    "conditional_batch_norm": Spec(
        "ConditionalBatchNorm",
        conditional_batch_norm,
        parameters=(),
        axes="axis",
        decay="decay",
    ),
    "film": Spec("FiLM", film, parameters=(), options=(), fixed={"scale_offset": 1.0}, sample=()),
    "adaptive_instance_norm": Spec(
        "AdaptiveInstanceNorm",
        adaptive_instance_norm,
        parameters=(),
        fixed={"scale_offset": 1.0},
    ),
    "spade": Spec("SPADE", spade, parameters=(), axes="axis", decay="decay"),
    "ada_layer_norm": Spec("AdaLayerNorm", ada_layer_norm, parameters=()),
    "ada_layer_norm_zero": Spec("AdaLayerNormZero", ada_layer_norm_zero, parameters=()),
    "modulated_rms_norm": Spec("ModulatedRMSNorm", modulated_rms_norm, parameters=()),
}
