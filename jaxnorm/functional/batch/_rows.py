"""Rows of the catalogue for norms with statistics over the batch, and how modules call them."""

from jaxnorm.functional._claims import CENTRED
from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional._parameters import all_but_last
from jaxnorm.functional.batch._batch import batch_norm
from jaxnorm.functional.batch._ghost import ghost_batch_norm, ghost_stats_shape

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
)

SPECS: dict[str, Spec] = {
    "batch_norm": Spec("BatchNorm", batch_norm, axes="axis", decay="momentum"),
    "ghost_batch_norm": Spec(
        "GhostBatchNorm",
        ghost_batch_norm,
        axes="axis",
        options=("ghost_batch_size", "epsilon", "variance"),
        decay="decay",
    ),
}
