"""Cases of the norms of graphs: two graphs between padding, one of one node, one empty."""

import functools

import jax.numpy as jnp
import numpy as np

from jaxnorm import graph_norm, message_norm, pair_norm
from tests.zoo.cases import Case

GRAPHS = 4
IDS = np.array([2, 0, 2, -1, 0, 0, 9, 2, 3, 0, 2])


def members(ids):
    """Returns [graphs, nodes], one where a node belongs to a graph."""
    return jnp.asarray(ids[None] == jnp.arange(GRAPHS)[:, None], jnp.result_type(float))


def mean_of(values, w, member):
    """Returns the weighted means of each graph, [graphs, C]."""
    return member @ (w * values) / jnp.maximum(member @ w, 1e-30)


def weights(x, mask):
    return jnp.ones(x.shape) if mask is None else mask.astype(x.dtype)


def graph_norm_oracle(x, segment_ids, alpha, scale, bias, mask=None):
    member, w = members(segment_ids), weights(x, mask)
    rest = x - alpha * (member.T @ mean_of(x, w, member))
    square = member.T @ mean_of(rest**2, w, member)
    y = rest / jnp.sqrt(square + 1e-5) * scale + bias
    return jnp.where(member.sum(0)[:, None] > 0, y, 0)


def pair_norm_oracle(x, segment_ids, mask=None, scale=2.0, individually=False):
    member, w = members(segment_ids), weights(x, mask)
    c = x - member.T @ mean_of(x, w, member)
    if individually:
        square = ((w * c**2).sum(1) / w.sum(1))[:, None]
    else:
        square = (member * (w * c**2).sum(1)).sum(1) / jnp.maximum((member @ w).sum(1), 1e-30)
        square = member.T @ square[:, None]
    y = scale * c / jnp.sqrt(square * x.shape[1] + 1e-6)
    return jnp.where(member.sum(0)[:, None] > 0, y, 0)


def message_norm_oracle(x, message, scale):
    length = jnp.sqrt((message**2).sum(1, keepdims=True) + 1e-24)
    return scale * jnp.sqrt((x**2).sum(1, keepdims=True)) * message / length


def nodes(rng):
    return {"x": rng.normal(size=(len(IDS), 5)), "segment_ids": IDS}


CASES = [
    Case(
        "graph_norm",
        call=functools.partial(graph_norm, num_segments=GRAPHS),
        oracle=graph_norm_oracle,
        arrays=lambda rng: {
            **nodes(rng),
            "alpha": rng.uniform(0.3, 1.2, 5),
            "scale": rng.normal(size=5),
            "bias": rng.normal(size=5),
        },
        module={"num_segments": GRAPHS},
        features=5,
        given=("segment_ids",),
    ),
    Case(
        "pair_norm",
        call=functools.partial(pair_norm, num_segments=GRAPHS, scale=2.0),
        oracle=pair_norm_oracle,
        arrays=nodes,
        module={"num_segments": GRAPHS, "scale": 2.0},
        given=("segment_ids",),
    ),
    Case(
        "pair_norm",
        variant="individually",
        call=functools.partial(pair_norm, num_segments=GRAPHS, scale=2.0, scale_individually=True),
        oracle=functools.partial(pair_norm_oracle, individually=True),
        arrays=nodes,
        module={"num_segments": GRAPHS, "scale": 2.0, "scale_individually": True},
        given=("segment_ids",),
    ),
    Case(
        "message_norm",
        call=message_norm,
        oracle=message_norm_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(6, 5)),
            "message": rng.normal(size=(6, 5)),
            "scale": rng.normal(),
        },
        moved=("x", "message"),
        module={},
        given=("message",),
    ),
]
