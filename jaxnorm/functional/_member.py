"""What is known of a normalizer: a row of the catalogue, and what a module must know to call it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from jaxnorm.typing import Shape

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Member(NamedTuple):
    """A normalizer and what is known of it.

    The laws in the tests hold each member to what its row claims, and to no more:

    - "mask": what a mask excludes does not enter the statistics, whatever it holds;
    - "weights": an entry of weight two is an entry that stands there twice;
    - "shards": statistics over the shards of a mapped axis are those of the whole;
    - "streaming": running statistics over batches are those of all their examples;
    - "offset": output and gradient keep their digits at every mean / std up to 1e6;
    - "range": output and gradient are right for inputs of every size from 1e-20 to 1e20;
    - "scale": the output of `a x` is that of `x`, for `a > 0` and `epsilon = 0`;
    - "shift": the output of `x + b` is that of `x`.

    Examples:
        >>> from jaxnorm.functional import CATALOGUE
        >>> CATALOGUE[0].name, CATALOGUE[0].theme, CATALOGUE[0].stats_shape((8, 4, 4, 6))
        ('batch_norm', 'batch', (1, 1, 1, 6))
    """

    name: str  # as it is called in `jaxnorm`
    function: Callable[..., Any]  # what computes it
    stats_shape: Callable[[Shape], Shape] | None  # with `options`; None where it has none
    claims: frozenset[str]  # the laws that it takes part in; see above
    paper: str  # authors, title, arXiv id or venue, year
    of: Literal["activations", "kernel"] = "activations"  # what it normalizes
    center: bool = False  # whether the mean is subtracted
    stateful: bool = False  # whether a state goes in and comes out
    options: Mapping[str, Any] = NOTHING  # arguments that have no default, as laws and tables use
    cost: str = "one pass for the statistics"  # beside the pass over x that every member makes
    elsewhere: str = ""  # which other libraries have it
    limits: str = ""  # what it cannot do, and why

    @property
    def theme(self) -> str:
        """The room of `jaxnorm.functional` that holds its function."""
        return self.function.__module__.split(".")[2]


class Spec(NamedTuple):
    """The parameters, the state and the arguments of a normalizer that is called by a module.

    A parameter NAME is an argument of the function, of [*features] where `shapes` says nothing. The
    module has the fields `use_NAME` and `NAME_init` for it, and in `nnx` also `NAME_metadata`.

    Examples:
        >>> from jaxnorm.functional import SPECS
        >>> SPECS["layer_norm"].module, SPECS["layer_norm"].parameters
        ('LayerNorm', ('scale', 'bias'))
    """

    module: str  # the class in `jaxnorm.linen` and in `jaxnorm.nnx`
    function: Callable[..., Any]  # what the module calls
    parameters: tuple[str, ...] = ("scale", "bias")  # in the order in which they are made
    axes: str | None = "feature_axes"  # argument and field for the axes of the parameters
    options: tuple[str, ...] = ("epsilon",)  # fields that are handed on as they are
    fixed: Mapping[str, Any] = NOTHING  # arguments that every module gives
    sample: tuple[str, ...] = ("mask", "weights", "axis_name", "axis_index_groups")  # its arguments
    decay: str | None = None  # the field for the weight of old running statistics, if it has any
    shapes: Mapping[str, Callable[[Any, Shape], Shape]] = NOTHING  # (module, [*features]) -> shape
    running: Callable[[Any, Shape], Shape] | None = None  # likewise for the running statistics
    state: Callable[[Any, Shape], Any] | None = None  # (module, [*features]) -> the first state
    first: Mapping[str, Callable[[Any, Shape], float]] = NOTHING  # a start if NAME_init is None
