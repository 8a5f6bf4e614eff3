"""Rules that say which norm takes the place of which."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from flax import nnx

import jaxnorm.linen
import jaxnorm.nnx
from jaxnorm.functional import CATALOGUE, SPECS
from jaxnorm.surgery._find import NormRow
from jaxnorm.surgery._kinds import OF_KERNELS, activation_of, arguments_of, kind_of, options_of

Factory = Callable[..., Any] | str | None
"""A module class, a `functools.partial` of one, a function, a catalogue name; None to keep."""

Rule = Mapping[type | str, Factory] | Callable[[NormRow], Any]
"""New norms by class or catalogue name of the old, or a function of the old norm's row."""

RUNNING = tuple(m.name for m in CATALOGUE if m.stateful and m.of == "activations")
"""The names of the norms that keep statistics of batches."""

# What means the same in every norm, and what means the same where there are running statistics.
_COMMON = ("dtype", "param_dtype", "use_scale", "use_bias", "scale_init", "bias_init")
_OF_BATCHES = ("axis", "axis_name", "axis_index_groups", "estimator", "use_running_average")
_DECAYS = ("momentum", "decay")


@dataclasses.dataclass(frozen=True)
class Partial:
    """A `functools.partial` that equals and hashes by what it holds.

    Examples:
        >>> Partial(max, (), (("default", 1),))([])
        1
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    keywords: tuple[tuple[str, Any], ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*self.args, *args, **{**dict(self.keywords), **kwargs})


@dataclasses.dataclass(frozen=True)
class Table:
    """A mapping of norms to factories that equals and hashes by what it holds.

    Examples:
        >>> Table((("batch_norm", "group_norm"),)) == frozen_rule({"batch_norm": "group_norm"})
        True
    """

    items: tuple[tuple[type | str, Factory], ...]


@dataclasses.dataclass(frozen=True)
class Edit:
    """Other values of some fields, for norms of the given kinds that have all these fields.

    Examples:
        >>> import flax.linen as nn
        >>> Edit(("batch_norm",), (("axis_name", "data"),))(nn.BatchNorm()).axis_name
        'data'
    """

    kinds: tuple[str, ...]
    changes: tuple[tuple[str, Any], ...]

    def __call__(self, norm: Any) -> Any:
        own = vars(norm)
        if kind_of(type(norm)) not in self.kinds or not all(n in own for n, _ in self.changes):
            return None
        if not isinstance(norm, nnx.Module):
            return norm.clone(parent=None, name=None, **dict(self.changes))
        changed = nnx.clone(norm, variables=False)
        for name, value in self.changes:
            setattr(changed, name, value)
        return changed


def frozen_rule(rule: Rule) -> Any:
    """Returns a rule that can be hashed.

    Args:
        rule: a mapping or a function.

    Returns:
        A `Table`, or the function as it is.

    Raises:
        ValueError: a key is the name of no norm.
        TypeError: neither a mapping nor a function, or something in it has no hash.

    Examples:
        >>> frozen_rule({"batch_norm": "group_norm"}).items
        (('batch_norm', 'group_norm'),)
    """
    if isinstance(rule, Mapping):
        for key in rule:
            _require_norm(key)
        table = Table(tuple((key, _frozen(factory)) for key, factory in rule.items()))
        try:
            hash(table)
        except TypeError as error:
            raise TypeError(
                f"the rule has to be hashable: {error}; give tuples, not lists"
            ) from None
        return table
    if not callable(rule):
        raise TypeError(
            f"rule is a {type(rule).__name__}; give a mapping such as {{'batch_norm': GroupNorm}}, "
            "or a function from a NormRow to a module or None"
        )
    return rule


def new_norm(rule: Any, row: NormRow, norm: Any) -> Any:
    """Returns what takes the place of a norm, or None where it stays.

    Args:
        rule: of `frozen_rule`.
        row: of the norm.
        norm: the norm.

    Returns:
        A linen module, unbound if this is called outside of modules, or an nnx module with
        parameters of its own.

    Raises:
        ValueError: a norm of kernels for one of activations, or the other way round.

    Examples:
        >>> import flax.linen as nn
        >>> from jaxnorm.surgery._find import norm_row
        >>> norm = nn.BatchNorm(use_scale=False, momentum=0.9)
        >>> rule = frozen_rule({nn.BatchNorm: jaxnorm.linen.RMSNorm})
        >>> options_of(new_norm(rule, norm_row((), norm, {}), norm))
        {'use_scale': False}
    """
    if isinstance(rule, Edit):
        return rule(norm)
    if not isinstance(rule, Table):
        new = rule(row)
    else:
        factory = _chosen(rule, row, norm)
        new = None if factory is None else _made(factory, row, norm)
    if new is None:
        return None
    if (kind_of(type(new)) in OF_KERNELS) != (row.kind in OF_KERNELS):
        raise ValueError(
            f"{row.path or 'the model'} is a {row.kind}, and {type(new).__name__} would take its "
            "place, but one normalizes kernels, the other activations; leave it out of the rule"
        )
    return new


def _require_norm(key: Any) -> None:
    known = key in SPECS or (isinstance(key, type) and kind_of(key) is not None)
    is_path = isinstance(key, str) and "." in key
    if not known and not is_path:
        raise ValueError(
            f"{key!r} is no norm; the keys of a rule are classes such as flax.linen.BatchNorm, or "
            "names of the catalogue such as 'batch_norm'"
        )


def _frozen(factory: Factory) -> Factory:
    if isinstance(factory, functools.partial):
        return Partial(factory.func, factory.args, tuple(sorted(factory.keywords.items())))
    return factory


def _chosen(rule: Table, row: NormRow, norm: Any) -> Factory:
    given = dict(rule.items)
    for key in (*type(norm).__mro__, row.module, row.kind):
        if key in given:
            return given[key]
    return None


def _made(factory: Any, row: NormRow, norm: Any) -> Any:
    is_nnx = isinstance(norm, nnx.Module)
    if isinstance(factory, str):
        _require_norm(factory)
        factory = getattr(jaxnorm.nnx if is_nnx else jaxnorm.linen, SPECS[factory].module)
    is_partial = isinstance(factory, Partial)
    taken = arguments_of(factory.function if is_partial else factory)
    fixed = {name for name, _ in factory.keywords} if is_partial else set()
    fields = {
        name: value
        for name, value in _carried(factory, row.kind, norm).items()
        if name in taken and name not in fixed
    }
    activation = activation_of(norm)
    if activation is not None and "activation" not in {*fields, *fixed}:
        raise ValueError(
            f"{row.path or 'the model'} is a {row.kind} with activation={activation!r}, which "
            f"{getattr(factory, '__name__', factory)} does not take; put a norm in its place that "
            "does, or a module of norm and activation"
        )
    if row.kind in OF_KERNELS:
        fields["layer_instance"] = norm.layer_instance
    if not is_nnx:
        return factory(**fields)
    if "num_features" in taken:
        fields["num_features"] = getattr(norm, "num_features", row.features)
    if "rngs" in taken:
        fields["rngs"] = nnx.Rngs(0)
    return factory(**fields)


def _carried(factory: Any, kind: str, norm: Any) -> Mapping[str, Any]:
    """Returns the options of a norm that a norm of another kind has too, all for the same kind."""
    options = options_of(norm)
    made = factory.function if isinstance(factory, Partial) else factory
    other = kind_of(made) if isinstance(made, type) else None
    if other == kind:
        return options
    names = (*_COMMON, *(_OF_BATCHES if {kind, other} <= {*RUNNING} else ()))
    carried = {name: value for name, value in options.items() if name in names}
    if other is None or "activation" in SPECS[other].options:
        carried["activation"] = activation_of(norm)
    decays = [options[name] for name in _DECAYS if name in options]
    if decays and {kind, other} <= {*RUNNING}:
        carried |= dict.fromkeys(_DECAYS, decays[0])
    return MappingProxyType(carried)
