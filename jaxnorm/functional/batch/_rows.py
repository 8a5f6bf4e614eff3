"""Rows of the catalogue for norms with statistics over the batch, and how modules call them."""

from jaxnorm.functional._claims import CENTRED
from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional._parameters import all_but_last
from jaxnorm.functional.batch._batch import batch_norm
from jaxnorm.functional.batch._ema import ema_batch_norm
from jaxnorm.functional.batch._ghost import ghost_batch_norm, ghost_stats_shape
from jaxnorm.functional.batch._mean_only import mean_only_batch_norm
from jaxnorm.functional.batch._renorm import batch_renorm

# What holds for norms over the batch whose output also depends on the running statistics.
POOLED = frozenset({"mask", "weights", "shards"})

MEMBERS: tuple[Member, ...] = (
    Member(
        name="batch_norm",
        function=batch_norm,
        stats_shape=all_but_last,
        claims=CENTRED | {"streaming"},
        paper="Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015",
        center=True,
        stateful=True,
        elsewhere="Flax, Haiku, Equinox, Keras, PyTorch",
    ),
    Member(
        name="ghost_batch_norm",
        function=ghost_batch_norm,
        stats_shape=lambda shape: ghost_stats_shape(shape, 2),
        claims=CENTRED | {"streaming"},
        paper="Hoffer, Hubara, Soudry: Train longer, generalize better, arXiv:1705.08741, 2017",
        center=True,
        stateful=True,
        options={"ghost_batch_size": 2},
        elsewhere="init2winit",
    ),
    Member(
        name="batch_renorm",
        function=batch_renorm,
        stats_shape=all_but_last,
        claims=POOLED | {"offset", "range"},
        paper="Ioffe: Batch Renormalization, arXiv:1702.03275, 2017",
        center=True,
        stateful=True,
        elsewhere="Keras, sbx",
        limits="real inputs: the bounds order the corrections",
    ),
    Member(
        name="ema_batch_norm",
        function=ema_batch_norm,
        stats_shape=all_but_last,
        claims=POOLED,
        paper="Kidger, Garcia: Equinox: neural networks in JAX via callable PyTrees, "
        "arXiv:2111.00254, 2021",
        center=True,
        stateful=True,
        elsewhere="Equinox",
        limits="the running mean that normalizes is one float32, so offsets cost digits",
    ),
    Member(
        name="mean_only_batch_norm",
        function=mean_only_batch_norm,
        stats_shape=all_but_last,
        claims=POOLED | {"offset", "range", "shift"},
        paper="Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016",
        center=True,
        stateful=True,
        elsewhere="",
        limits="no scale: it goes with weight normalization",
    ),
)

RUNNING = ("epsilon", "variance")

SPECS: dict[str, Spec] = {
    "batch_norm": Spec("BatchNorm", batch_norm, axes="axis", decay="momentum"),
    "ghost_batch_norm": Spec(
        "GhostBatchNorm",
        ghost_batch_norm,
        axes="axis",
        options=("ghost_batch_size", "epsilon", "variance"),
        decay="decay",
    ),
    "batch_renorm": Spec("BatchRenorm", batch_renorm, axes="axis", options=RUNNING, decay="decay"),
    "ema_batch_norm": Spec(
        "EMABatchNorm", ema_batch_norm, axes="axis", options=RUNNING, decay="decay"
    ),
    "mean_only_batch_norm": Spec(
        "MeanOnlyBatchNorm",
        mean_only_batch_norm,
        parameters=("bias",),
        axes="axis",
        options=("variance",),
        decay="decay",
    ),
}
