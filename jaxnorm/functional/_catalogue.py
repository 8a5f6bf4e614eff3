"""The catalogue: one row for each normalizer, which the laws, the docs and the modules read."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from jaxnorm.functional._batch import batch_norm
from jaxnorm.functional._filter_response import filter_response_norm
from jaxnorm.functional._ghost import ghost_batch_norm, ghost_stats_shape
from jaxnorm.functional._group import group_norm, group_stats_shape
from jaxnorm.functional._instance import instance_norm, instance_stats_shape
from jaxnorm.functional._layer import layer_norm
from jaxnorm.functional._rms import rms_norm
from jaxnorm.functional._spectral import spectral_norm
from jaxnorm.functional._weight_norm import weight_norm
from jaxnorm.functional._weight_standardization import weight_standardization
from jaxnorm.stats import reduced_stats_shape
from jaxnorm.typing import Shape


class Member(NamedTuple):
    """A normalizer and what is known of it.

    The laws in the tests hold each member to what its row claims, and to no more:

    - "mask": what a mask excludes does not enter the statistics, whatever it holds;
    - "weights": an entry of weight two is an entry that stands there twice;
    - "shards": statistics over the shards of a mapped axis are those of the whole;
    - "streaming": running statistics over batches are those of all their examples;
    - "offset": output and gradient keep their digits at every mean / std up to 1e6;
    - "scale": the output of `a x` is that of `x`, for `a > 0` and `epsilon = 0`;
    - "shift": the output of `x + b` is that of `x`.

    Examples:
        >>> CATALOGUE[0].name, CATALOGUE[0].stats_shape((8, 4, 4, 6))
        ('batch_norm', (1, 1, 1, 6))
    """

    name: str  # as it is called in `jaxnorm`
    function: Callable[..., Any]  # what computes it
    of: Literal["activations", "kernel"]  # what it normalizes
    stats_shape: Callable[[Shape], Shape] | None  # with `options`; None where it has none
    center: bool  # whether the mean is subtracted
    stateful: bool  # whether running statistics go in and come out
    claims: frozenset[str]  # the laws that it takes part in; see above
    options: Mapping[str, Any]  # arguments that have no default, as the laws and tables use them
    paper: str  # authors, title, arXiv id, year


def _all_but_last(shape: Shape) -> Shape:
    return reduced_stats_shape(shape, range(len(shape) - 1))


_SAMPLED = frozenset({"mask", "weights", "shards", "offset", "scale"})
_CENTRED = _SAMPLED | {"shift"}

CATALOGUE: tuple[Member, ...] = (
    Member(
        name="batch_norm",
        function=batch_norm,
        of="activations",
        stats_shape=_all_but_last,
        center=True,
        stateful=True,
        claims=_CENTRED | {"streaming"},
        options={},
        paper="Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015",
    ),
    Member(
        name="layer_norm",
        function=layer_norm,
        of="activations",
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        center=True,
        stateful=False,
        claims=_CENTRED,
        options={},
        paper="Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450, 2016",
    ),
    Member(
        name="rms_norm",
        function=rms_norm,
        of="activations",
        stats_shape=lambda shape: reduced_stats_shape(shape, -1),
        center=False,
        stateful=False,
        claims=_SAMPLED,
        options={},
        paper="Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019",
    ),
    Member(
        name="group_norm",
        function=group_norm,
        of="activations",
        stats_shape=lambda shape: group_stats_shape(shape, 2),
        center=True,
        stateful=False,
        claims=_CENTRED,
        options={"num_groups": 2},
        paper="Wu, He: Group Normalization, arXiv:1803.08494, 2018",
    ),
    Member(
        name="instance_norm",
        function=instance_norm,
        of="activations",
        stats_shape=instance_stats_shape,
        center=True,
        stateful=False,
        claims=_CENTRED,
        options={},
        paper="Ulyanov, Vedaldi, Lempitsky: Instance Normalization, arXiv:1607.08022, 2016",
    ),
    Member(
        name="ghost_batch_norm",
        function=ghost_batch_norm,
        of="activations",
        stats_shape=lambda shape: ghost_stats_shape(shape, 2),
        center=True,
        stateful=True,
        claims=_CENTRED | {"streaming"},
        options={"ghost_batch_size": 2},
        paper="Hoffer, Hubara, Soudry: Train longer, generalize better, arXiv:1705.08741, 2017",
    ),
    Member(
        name="filter_response_norm",
        function=filter_response_norm,
        of="activations",
        stats_shape=instance_stats_shape,
        center=False,
        stateful=False,
        claims=_SAMPLED,
        options={},
        paper="Singh, Krishnan: Filter Response Normalization Layer, arXiv:1911.09737, 2019",
    ),
    Member(
        name="weight_norm",
        function=weight_norm,
        of="kernel",
        stats_shape=_all_but_last,
        center=False,
        stateful=False,
        claims=frozenset({"offset", "scale"}),
        options={},
        paper="Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016",
    ),
    Member(
        name="weight_standardization",
        function=weight_standardization,
        of="kernel",
        stats_shape=_all_but_last,
        center=True,
        stateful=False,
        claims=frozenset({"offset", "scale", "shift"}),
        options={},
        paper="Qiao et al.: Weight Standardization, arXiv:1903.10520, 2019",
    ),
    Member(
        name="spectral_norm",
        function=spectral_norm,
        of="kernel",
        stats_shape=None,
        center=False,
        stateful=True,
        claims=frozenset({"scale"}),
        options={},
        paper="Miyato et al.: Spectral Normalization, arXiv:1802.05957, 2018",
    ),
)
"""Every member of the library."""
