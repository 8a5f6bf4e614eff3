"""Norms of graphs as nnx modules."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import InitVar
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from jaxnorm.functional import SPECS, Spec, run
from jaxnorm.nnx._base import Store, make_parameters
from jaxnorm.typing import ArrayLike, Axes, DTypeLike


class _NormOfGraphs(nnx.Module):
    """Normalizes the nodes of each graph by the statistics of the graph; the base of such."""

    spec: ClassVar[Spec]
    num_segments: int | None

    def __post_init__(self, *given: Any) -> None:
        make_parameters(self, self.spec, given)

    def __call__(
        self,
        x: ArrayLike,
        segment_ids: ArrayLike | None = None,
        *,
        num_segments: int | None = None,
        mask: ArrayLike | None = None,
    ) -> jax.Array:
        """Returns the nodes of each graph normalized, and zero for padding.

        Args:
            x: [N, C], the nodes of all graphs.
            segment_ids: [N], the graph of each node; negative, or not below the number of graphs,
                for padding. None for one graph.
            num_segments: how many graphs there are, static; the attribute if None.
            mask: broadcastable to `x`; true or not zero where an entry takes part in the
                statistics, or its weight if floating.

        Returns:
            The shape of `x`.
        """
        number = self.num_segments if num_segments is None else num_segments
        given = {"segment_ids": segment_ids, "num_segments": number}
        return run(self.spec, self, Store(self), x, mask=mask, **given)


@nnx.dataclass(eq=False)
class GraphNorm(_NormOfGraphs):
    """Normalizes each feature over the nodes of a graph, less a learned share of the mean.

    Cai et al.: GraphNorm, arXiv:2009.03294, 2020. One statistic per graph and feature, in float32
    or wider.

    Examples:
        >>> layer, ids = GraphNorm(1, num_segments=2, rngs=nnx.Rngs(0)), jnp.array([0, 0, 1, 1])
        >>> layer(jnp.array([[1.0], [3.0], [50.0], [70.0]]), ids).ravel().round(2)
        Array([-1.,  1., -1.,  1.], dtype=float32)
    """

    spec = SPECS["graph_norm"]

    num_features: int | Sequence[int]  # the size of the feature axis, or one for each of several
    _: dataclasses.KW_ONLY
    num_segments: int | None = None  # graphs in a batch, padding not counted; here or at the call
    epsilon: float = 1e-5  # added to the mean square
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_alpha: bool = True  # whether a share of the mean is learned; all of it goes if not
    use_scale: bool = True  # whether a scale is learned
    use_bias: bool = True  # whether a bias is learned
    alpha_init: InitVar[initializers.Initializer] = initializers.ones  # of the share of the mean
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    feature_axes: Axes = -1  # the axes that the parameters belong to
    rngs: InitVar[nnx.Rngs]  # keys
    alpha_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of alpha
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias


@nnx.dataclass(eq=False)
class PairNorm(_NormOfGraphs):
    """Centres the nodes of each graph, and gives them a constant mean squared length.

    Zhao, Akoglu: PairNorm: Tackling Oversmoothing in GNNs, arXiv:1909.12223, 2019. Nothing is
    learned. Statistics in float32 or wider.

    Examples:
        >>> PairNorm(scale=2.0)(jnp.array([[1.0, 0.0], [3.0, 0.0]])).round(2)
        Array([[-2.,  0.],
               [ 2.,  0.]], dtype=float32)
    """

    spec = SPECS["pair_norm"]

    _: dataclasses.KW_ONLY
    num_segments: int | None = None  # graphs in a batch, padding not counted; here or at the call
    scale: float = 1.0  # the length that is kept
    scale_individually: bool = False  # whether each node gets this length, as in PairNorm-SI
    epsilon: float = 1e-6  # added to the squared length
    dtype: DTypeLike | None = None  # the output's dtype; that of the input if None
    rngs: InitVar[nnx.Rngs | None] = None  # without effect, as nothing is learned


@nnx.dataclass(eq=False)
class MessageNorm(nnx.Module):
    """Gives the message that reaches a node the length of the node's features, times a scale.

    Li, Xiong, Thabet, Ghanem: DeeperGCN: All You Need to Train Deeper GCNs, arXiv:2006.07739, 2020.
    Lengths in float32 or wider.

    Examples:
        >>> layer, x = MessageNorm(rngs=nnx.Rngs(0)), jnp.array([[3.0, 4.0]])
        >>> layer(x, jnp.array([[0.0, 0.1]])).round(3)
        Array([[0., 5.]], dtype=float32)
    """

    spec = SPECS["message_norm"]

    _: dataclasses.KW_ONLY
    epsilon: float = 1e-24  # added to the squared length of the message
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and scale give
    param_dtype: DTypeLike = jnp.float32  # of the scale
    use_scale: bool = True  # whether a scale is learned
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale []
    reduction_axes: Axes = -1  # the axes that lengths are taken over
    rngs: InitVar[nnx.Rngs]  # keys
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale

    def __post_init__(self, *given: Any) -> None:
        make_parameters(self, self.spec, given)

    def __call__(self, x: ArrayLike, message: ArrayLike) -> jax.Array:
        """Returns the message of each node at the length of its features.

        Args:
            x: [N, C], the nodes.
            message: [N, C], what reaches each of them.

        Returns:
            The shape of `x`.
        """
        return run(self.spec, self, Store(self), x, message=message)
