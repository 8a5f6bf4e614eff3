"""Other norms in the place of a model's own, without a change of its source."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import unflatten_dict

from jaxnorm._views import Path
from jaxnorm.surgery._calls import norm_calls
from jaxnorm.surgery._find import norm_row
from jaxnorm.surgery._fitting import converted, scale_offset
from jaxnorm.surgery._initial import initialized
from jaxnorm.surgery._intercepted import outside, with_other_norms
from jaxnorm.surgery._kinds import class_name
from jaxnorm.surgery._paths import by_path
from jaxnorm.surgery._replaced_tree import replaced_tree
from jaxnorm.surgery._rules import Rule, frozen_rule, new_norm
from jaxnorm.typing import PyTree


class Replacement(NamedTuple):
    """A model with other norms, and what became of the variables.

    Examples:
        >>> Replacement(nn.Dense(1), None, {}, (), ()).model.features
        1
    """

    model: Any  # linen: a subclass of the model's class; nnx: a changed copy
    variables: dict[str, PyTree] | None  # of the linen model, where its old ones were given
    replaced: dict[str, str]  # path -> "old class -> new class"; of linen with variables only
    fresh: tuple[str, ...]  # collection/path/name of what the new norms start anew
    dropped: tuple[str, ...]  # likewise of what the old norms had and the new have not


def replace_norms(
    model: nn.Module | nnx.Module,
    rule: Rule,
    variables: Mapping[str, PyTree] | None = None,
    *args: Any,
    **kwargs: Any,
) -> Replacement:
    """Returns a model with other norms: Flax's by ours, batch norm by group norm, any by any.

    A rule is a mapping from a class or a name of the catalogue to what makes the new norm: a class,
    a `functools.partial` of one, a function, or a name of the catalogue. `DROP_INS` puts ours in
    the place of Flax's. A rule may also be a function from a `NormRow` to a module, or to None
    where the norm stays. What a mapping makes gets the fields of the old norm that have the same
    meaning in the new one: all of them for the same kind, dtypes and the use and initializers of
    scale and bias for another kind; what the factory fixes is left.

    A norm keeps its path and thereby its variables: those with the same name and shape are kept bit
    for bit (a scale becomes `scale - 1` where the new norm multiplies by `1 + scale`), running
    statistics are dropped where the new norm has none, all else is initialized.

    The norms of a linen model are exchanged when they are called, also in lists, in `nn.scan` and
    under `nn.remat` (whose norm then is not rematerialized by itself). Those of an nnx model are
    exchanged in a copy of its tree; a norm in two places is replaced once.

    Args:
        model: a linen or nnx module.
        rule: which norm takes the place of which.
        variables: of a linen model, to be carried over.
        *args: where `variables` are given, the arguments of a call: arrays or
            `jax.ShapeDtypeStruct`.
        **kwargs: likewise, such as `train=False`.

    Returns:
        A `Replacement`. A linen model has the signature of the old; it can be pickled where model
        and rule can; equal models and rules give equal models.

    Raises:
        ValueError: a key of the rule is no norm; the call of a norm has an argument that the new
            norm does not take, or lacks one that it needs; or `variables` are given without the
            arguments of a call.
        TypeError: the rule is neither a mapping nor a function, or holds what has no hash.

    Examples:
        >>> from jaxnorm.linen import GroupNorm
        >>> model, x = nn.BatchNorm(use_running_average=False), jnp.array([[1.0, 3.0]])
        >>> variables = model.init(jax.random.key(0), x)
        >>> rule = {"batch_norm": functools.partial(GroupNorm, num_groups=1)}
        >>> found = replace_norms(model, rule, variables, x)
        >>> found.model.apply(found.variables, x).round(3), found.dropped
        (Array([[-1.,  1.]], dtype=float32), ('batch_stats/mean', 'batch_stats/var'))
    """
    frozen = frozen_rule(rule)
    if isinstance(model, nnx.Module):
        return Replacement(*replaced_tree(model, frozen))
    new = with_other_norms(model, frozen)
    if variables is None:
        return Replacement(new, None, {}, (), ())
    return _carry(model, new, frozen, variables, args, kwargs)


def _carry(
    model: nn.Module,
    new: nn.Module,
    rule: Any,
    variables: Mapping[str, PyTree],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Replacement:
    replaced, offsets = {}, {}
    for call in norm_calls(model, args, kwargs):
        row = norm_row(call.path, call.norm, call.inner, *call.args[:1])
        other = outside(functools.partial(new_norm, rule, row, call.norm))
        if other is not None:
            replaced[call.path] = f"{row.module} -> {class_name(type(other))}"
            offsets[call.path] = scale_offset(call.norm) - scale_offset(other)
    old = by_path(variables, keep_empty=True)
    made = initialized(new, args, kwargs, None)
    inside = {at: path for at in (*old, *made) if (path := _norm_of(at, replaced)) is not None}
    kept = {
        at
        for at, leaf in made.items()
        if at in inside and at in old and jnp.shape(nn.unbox(old[at])) == leaf.shape
    }
    fresh = [at for at in made if at in inside and at not in kept]
    values = {at: leaf for at, leaf in old.items() if at not in inside}
    for at in made:
        if at in kept:
            offset = offsets[inside[at]] if at[-1] == "scale" else 0
            values[at] = jax.tree.map(functools.partial(converted, offset=offset), old[at])
    values |= initialized(new, args, kwargs, tuple(fresh)) if fresh else {}
    dropped = [at for at in old if at in inside and at not in kept]
    return Replacement(
        new,
        unflatten_dict(values),
        {"/".join(path): change for path, change in replaced.items()},
        tuple("/".join(at) for at in fresh),
        tuple("/".join(at) for at in dropped),
    )


def _norm_of(at: Path, replaced: Mapping[Path, str]) -> Path | None:
    return next((path for path in replaced if at[1 : 1 + len(path)] == path), None)
