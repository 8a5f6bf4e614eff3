"""An nnx model whose norms are exchanged in a copy of its tree."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxnorm.surgery._find import norm_row
from jaxnorm.surgery._fitting import converted, scale_offset
from jaxnorm.surgery._kinds import class_name, kind_of
from jaxnorm.surgery._nnx_tree import own_variables, variable_name
from jaxnorm.surgery._rules import new_norm
from jaxnorm.typing import Array, Shape


def replaced_tree(
    model: nnx.Module, rule: Any
) -> tuple[nnx.Module, None, dict[str, str], tuple[str, ...], tuple[str, ...]]:
    """Returns the parts of a `Replacement` of an nnx model.

    Args:
        model: an nnx module, which stays as it is.
        rule: of `frozen_rule`.

    Returns:
        The changed copy, None, and what was replaced, is fresh and is lost.
    """
    replaced: dict[str, str] = {}
    fresh: list[str] = []
    dropped: list[str] = []

    def exchange(path: Any, node: Any) -> Any:
        if kind_of(type(node)) is None:
            return node
        at = tuple(map(str, path))
        row = norm_row(at, node, own_variables(node))
        new = new_norm(rule, row, node)
        if new is None:
            return node
        replaced[row.path] = f"{row.module} -> {class_name(type(new))}"
        lists = _carry_nnx(node, new)
        for names, found in zip((fresh, dropped), lists, strict=True):
            names += ["/".join([*at, name]) for name in found]
        return new

    # A copy of its own: `recursive_map` would go on to share the variables.
    copy = nnx.recursive_map(exchange, nnx.clone(model))
    return copy, None, replaced, tuple(fresh), tuple(dropped)


def _carry_nnx(old: Any, new: Any) -> tuple[list[str], list[str]]:
    """Puts the variables of an old norm into a new one; returns what is fresh and what is lost."""
    before, after = (
        {name: v for part in own_variables(norm).values() for name, v in part.items()}
        for norm in (old, new)
    )
    stack = _stack(before, after)
    kept = [n for n, v in after.items() if n in before and before[n].shape == stack + v.shape]
    offset = scale_offset(old) - scale_offset(new)
    for name in kept:
        own, other = vars(old).get(name), vars(new).get(name)
        changed = name == "scale" and offset != 0
        if isinstance(own, nnx.Variable) and isinstance(other, nnx.Variable) and not changed:
            # The same variable: one that is tied to another stays so, with its metadata.
            setattr(new, name, own)
        else:
            _write(new, name, converted(before[name], offset if changed else 0))
    fresh = [name for name in after if name not in kept]
    for name in fresh if stack else ():
        _write(new, name, jnp.broadcast_to(after[name], stack + after[name].shape))
    return fresh, [name for name in before if name not in kept]


def _stack(before: Mapping[str, Array], after: Mapping[str, Array]) -> Shape:
    """Returns the leading axes of norms that `nnx.vmap` has stacked, as for a scan over layers."""
    for name in before.keys() & after.keys():
        old, new = before[name].shape, after[name].shape
        if len(old) > len(new):
            if old[len(old) - len(new) :] != new:
                raise ValueError(
                    f"{name} {list(old)} of a stack of norms does not end in the features "
                    f"{list(new)}; replace the norms before they are stacked, or stack along axis 0"
                )
            return old[: len(old) - len(new)]
    return ()


def _write(norm: nnx.Module, name: str, value: Any) -> None:
    for path, variable in nnx.to_flat_state(nnx.state(norm)):
        if path[0] != "layer_instance" and variable_name(path) == name:
            nnx.update(norm, nnx.from_flat_state([(path, variable.replace(value))]))
