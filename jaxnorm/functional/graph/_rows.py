"""Rows of the catalogue for norms of graphs, and how modules call them."""

from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional.graph._graph_norm import graph_norm
from jaxnorm.functional.graph._message_norm import message_norm
from jaxnorm.functional.graph._pair_norm import pair_norm

_ONE_SHARD = "the nodes of a graph must be on one shard: there is no axis_name"

MEMBERS: tuple[Member, ...] = (
    Member(
        name="graph_norm",
        function=graph_norm,
        stats_shape=None,
        claims=frozenset({"mask", "weights", "offset", "range", "scale"}),
        paper="Cai et al.: GraphNorm, arXiv:2009.03294, 2020",
        center=True,
        cost="two passes for the statistics of segments",
        elsewhere="PyTorch Geometric",
        limits=_ONE_SHARD,
    ),
    Member(
        name="pair_norm",
        function=pair_norm,
        stats_shape=None,
        claims=frozenset({"mask", "weights", "offset", "range", "scale", "shift"}),
        paper="Zhao, Akoglu: PairNorm: Tackling Oversmoothing in GNNs, arXiv:1909.12223, 2019",
        center=True,
        cost="two passes for the statistics of segments",
        elsewhere="PyTorch Geometric",
        limits=_ONE_SHARD,
    ),
    Member(
        name="message_norm",
        function=message_norm,
        stats_shape=None,
        claims=frozenset({"offset", "range"}),
        paper="Li, Xiong, Thabet, Ghanem: DeeperGCN: All You Need to Train Deeper GCNs, "
        "arXiv:2006.07739, 2020",
        cost="two passes for the statistics, of the nodes and of the messages",
        elsewhere="PyTorch Geometric",
        limits="no mask: each node is normalized by itself",
    ),
)

SPECS: dict[str, Spec] = {
    "graph_norm": Spec(
        "GraphNorm",
        graph_norm,
        parameters=("alpha", "scale", "bias"),
        sample=("mask", "weights"),
    ),
    "pair_norm": Spec(
        "PairNorm",
        pair_norm,
        parameters=(),
        axes=None,
        options=("scale", "scale_individually", "epsilon"),
        sample=("mask", "weights"),
    ),
    "message_norm": Spec(
        "MessageNorm",
        message_norm,
        parameters=("scale",),
        axes=None,
        options=("reduction_axes", "epsilon"),
        sample=(),
        shapes={"scale": lambda module, features: ()},
    ),
}
