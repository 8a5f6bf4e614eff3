"""Norms of the nodes of graphs, and of the messages between them."""

from ._graph_norm import graph_norm as graph_norm
from ._message_norm import message_norm as message_norm
from ._pair_norm import pair_norm as pair_norm
