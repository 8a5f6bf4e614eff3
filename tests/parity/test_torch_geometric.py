"""Norms of graphs against PyTorch Geometric, where it is installed."""

import numpy as np
import pytest

import jaxnorm
from tests.stats.reference import relative_error, rounding

torch = pytest.importorskip("torch")
geometric = pytest.importorskip("torch_geometric.nn.norm")

IDS = np.array([0, 0, 0, 1, 1, 2, 2, 2], np.int32)
X = np.random.default_rng(0).normal(1, 2, (len(IDS), 5)).astype(np.float32)
BOUND = rounding(np.float32, X.size)


def test_graph_norm_is_theirs():
    theirs = geometric.GraphNorm(5)
    alpha, scale, bias = np.random.default_rng(1).uniform(0.5, 1.5, (3, 5)).astype(np.float32)
    with torch.no_grad():
        for parameter, value in (("mean_scale", alpha), ("weight", scale), ("bias", bias)):
            getattr(theirs, parameter).copy_(torch.tensor(value))
        want = theirs(torch.tensor(X), torch.tensor(IDS, dtype=torch.long)).numpy()
    assert (
        relative_error(jaxnorm.graph_norm(X, IDS, alpha, scale, bias, num_segments=3), want) < BOUND
    )


def test_pair_norm_is_theirs():
    want = geometric.PairNorm(scale=2.0, eps=1e-6)(torch.tensor(X)).numpy()
    assert relative_error(jaxnorm.pair_norm(X, scale=2.0), want) < BOUND


def test_message_norm_is_theirs():
    message = X[::-1].copy()
    with torch.no_grad():
        want = geometric.MessageNorm()(torch.tensor(X), torch.tensor(message)).numpy()
    assert relative_error(jaxnorm.message_norm(X, message), want) < BOUND
