"""Rows of the catalogue for the norms that whiten, and how modules call them."""

from typing import Any

import jax.numpy as jnp

from jaxnorm.functional._dtypes import stats_dtype
from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional.whitening._complex import complex_batch_norm
from jaxnorm.functional.whitening._decorrelated import decorrelated_batch_norm
from jaxnorm.functional.whitening._iterative import iterative_norm
from jaxnorm.functional.whitening._parts import WhiteningState
from jaxnorm.typing import Shape

WHITE = frozenset({"mask", "weights", "shards", "offset", "range", "scale", "shift"})
VECTORS = "real input; a mask takes out whole vectors of a group; running covariances are float32"

MEMBERS: tuple[Member, ...] = (
    Member(
        name="iterative_norm",
        function=iterative_norm,
        stats_shape=None,
        claims=WHITE,
        paper="Huang, Zhou, Zhu, Liu, Shao: Iterative Normalization, arXiv:1904.03441, 2019",
        center=True,
        stateful=True,
        cost="one pass for the means, one for the covariances; T steps of C^3 / G^2",
        limits=VECTORS,
    ),
    Member(
        name="decorrelated_batch_norm",
        function=decorrelated_batch_norm,
        stats_shape=None,
        claims=WHITE,
        paper="Huang, Yang, Lang, Deng: Decorrelated Batch Normalization, arXiv:1804.08450, 2018",
        center=True,
        stateful=True,
        cost="one pass for the means, one for the covariances; eigenvectors of each group",
        limits=VECTORS,
    ),
    Member(
        name="complex_batch_norm",
        function=complex_batch_norm,
        stats_shape=None,
        claims=WHITE,
        paper="Trabelsi et al.: Deep Complex Networks, arXiv:1705.09792, 2017",
        center=True,
        stateful=True,
        cost="one pass for the means, one for the covariances",
        limits="complex input; running covariances are float32",
    ),
)


def _start(module: Any, features: Shape) -> WhiteningState:
    kept, groups = stats_dtype(module), module.num_groups
    identity = jnp.eye(features[0] // groups, dtype=kept)
    return WhiteningState(jnp.zeros(features, kept), jnp.tile(identity, (groups, 1, 1)))


def _complex_start(module: Any, features: Shape) -> WhiteningState:
    kept = stats_dtype(module)
    # The paper starts both variances where it starts the scales.
    half = jnp.eye(2, dtype=kept) * 0.5**0.5
    return WhiteningState(jnp.zeros((*features, 2), kept), jnp.tile(half, (*features, 1, 1)))


SPECS: dict[str, Spec] = {
    "iterative_norm": Spec(
        "IterativeNorm",
        iterative_norm,
        axes="axis",
        options=("num_groups", "iterations", "decay", "epsilon", "variance"),
        state=_start,
    ),
    "decorrelated_batch_norm": Spec(
        "DecorrelatedBatchNorm",
        decorrelated_batch_norm,
        axes="axis",
        options=("num_groups", "decay", "epsilon", "variance"),
        state=_start,
    ),
    "complex_batch_norm": Spec(
        "ComplexBatchNorm",
        complex_batch_norm,
        parameters=("scale", "cross", "bias"),
        axes="axis",
        options=("decay", "epsilon", "variance"),
        shapes={
            "scale": lambda module, features: (*features, 2),
            "bias": lambda module, features: (*features, 2),
        },
        first={"scale": lambda module, features: 0.5**0.5},
        state=_complex_start,
    ),
}
