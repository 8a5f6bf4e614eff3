"""The catalogue: one row for each normalizer, which the laws, the docs and the modules read."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from jaxnorm.functional._batch import batch_norm
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
    """A normalizer and what is known of it."""

    name: str
    function: Callable[..., Any]
    of: Literal["activations", "kernel"]
    stats_shape: (
        Callable[[Shape], Shape] | None
    )  # with `options`; None where there is no such shape
    center: bool  # whether the mean is subtracted
    stateful: bool  # whether running statistics go in and come out
    invariances: frozenset[str]  # of the output: "scale" x -> a x, "shift" x -> x + b
    options: Mapping[str, Any]  # arguments that have no default, as the laws and tables use them
    paper: str


def _all_but_last(shape: Shape) -> Shape:
    return reduced_stats_shape(shape, range(len(shape) - 1))


_BOTH = frozenset({"scale", "shift"})
_SCALE = frozenset({"scale"})

CATALOGUE: tuple[Member, ...] = (
    Member(
        "batch_norm",
        batch_norm,
        "activations",
        _all_but_last,
        True,
        True,
        _BOTH,
        {},
        "Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015",
    ),
    Member(
        "layer_norm",
        layer_norm,
        "activations",
        lambda shape: reduced_stats_shape(shape, -1),
        True,
        False,
        _BOTH,
        {},
        "Ba, Kiros, Hinton: Layer Normalization, arXiv:1607.06450, 2016",
    ),
    Member(
        "rms_norm",
        rms_norm,
        "activations",
        lambda shape: reduced_stats_shape(shape, -1),
        False,
        False,
        _SCALE,
        {},
        "Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019",
    ),
    Member(
        "group_norm",
        group_norm,
        "activations",
        lambda shape: group_stats_shape(shape, 2),
        True,
        False,
        _BOTH,
        {"num_groups": 2},
        "Wu, He: Group Normalization, arXiv:1803.08494, 2018",
    ),
    Member(
        "instance_norm",
        instance_norm,
        "activations",
        instance_stats_shape,
        True,
        False,
        _BOTH,
        {},
        "Ulyanov, Vedaldi, Lempitsky: Instance Normalization, arXiv:1607.08022, 2016",
    ),
    Member(
        "ghost_batch_norm",
        ghost_batch_norm,
        "activations",
        lambda shape: ghost_stats_shape(shape, 2),
        True,
        True,
        _BOTH,
        {"ghost_batch_size": 2},
        "Hoffer, Hubara, Soudry: Train longer, generalize better, arXiv:1705.08741, 2017",
    ),
    Member(
        "weight_norm",
        weight_norm,
        "kernel",
        _all_but_last,
        False,
        False,
        _SCALE,
        {},
        "Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016",
    ),
    Member(
        "weight_standardization",
        weight_standardization,
        "kernel",
        _all_but_last,
        True,
        False,
        _BOTH,
        {},
        "Qiao et al.: Weight Standardization, arXiv:1903.10520, 2019",
    ),
    Member(
        "spectral_norm",
        spectral_norm,
        "kernel",
        None,
        False,
        True,
        _SCALE,
        {},
        "Miyato et al.: Spectral Normalization, arXiv:1802.05957, 2018",
    ),
)
"""Every member of the library."""
