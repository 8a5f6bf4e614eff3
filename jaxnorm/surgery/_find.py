"""Every norm of a model, as a table."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
from flax import nnx

from jaxnorm._views import Path, aligned
from jaxnorm.surgery._calls import norm_calls
from jaxnorm.surgery._kinds import OF_KERNELS, class_name, input_features, kind_of, options_of
from jaxnorm.surgery._nnx_tree import nnx_norms, own_variables
from jaxnorm.typing import PyTree, Shape


class NormRow(NamedTuple):
    """What is known of one norm of a model.

    Examples:
        >>> NormRow("norm", "layer_norm", "flax.linen.LayerNorm", (8,), ("scale",), (), {}).kind
        'layer_norm'
    """

    path: str  # such as `block_0/norm_1`
    kind: str  # its name in the catalogue, such as "batch_norm"
    module: str  # its class, such as "flax.linen.BatchNorm" or "jaxnorm.nnx.GroupNorm"
    features: Shape  # [*features], of its parameters or statistics, else of its input
    parameters: tuple[str, ...]  # names of what it learns
    statistics: tuple[str, ...]  # names of what it keeps in `batch_stats`
    options: Mapping[str, Any]  # its fields that are not at their defaults


class NormTable(NamedTuple):
    """The norms of a model.

    Examples:
        >>> len(NormTable(()).rows)
        0
    """

    rows: tuple[NormRow, ...]  # in the order of the calls, for nnx in that of the tree

    def to_text(self) -> str:
        """Returns the norms as a table of plain text, one line each.

        Returns:
            Lines with columns of one width, a dash where there is nothing.

        Examples:
            >>> row = NormRow("a", "rms_norm", "jaxnorm.nnx.RMSNorm", (8,), ("scale",), (), {})
            >>> print(NormTable((row,)).to_text())
            path  kind      module               features  parameters  statistics  options
            a     rms_norm  jaxnorm.nnx.RMSNorm  8         scale       -           -
        """
        body = [
            (
                row.path or ".",
                row.kind,
                row.module,
                " x ".join(map(str, row.features)) or "-",
                ", ".join(row.parameters) or "-",
                ", ".join(row.statistics) or "-",
                ", ".join(f"{name}={_shown(v)}" for name, v in row.options.items()) or "-",
            )
            for row in self.rows
        ]
        return aligned([NormRow._fields, *body], left=len(NormRow._fields))


def find_norms(model: nn.Module | nnx.Module, *args: Any, **kwargs: Any) -> NormTable:
    """Returns every norm of a model, ours and Flax's own, with what is known of it.

    The norms of an nnx model are in its tree. Those of a linen model exist while it is called, so
    an initializing call is traced, which computes nothing.

    Args:
        model: a linen or nnx module.
        *args: of a linen model, the arguments of a call: arrays or `jax.ShapeDtypeStruct`.
        **kwargs: likewise, such as `train=False`.

    Returns:
        A `NormTable`, a shared norm once in it; `print(table.to_text())` shows it.

    Raises:
        ValueError: a linen model without the arguments of a call.

    Examples:
        >>> import jax.numpy as jnp
        >>> model = nn.Sequential([nn.Dense(3), nn.BatchNorm(use_running_average=True)])
        >>> [row] = find_norms(model, jnp.ones((1, 2))).rows
        >>> row.path, row.kind, row.features, row.statistics
        ('layers_1', 'batch_norm', (3,), ('mean', 'var'))
    """
    if isinstance(model, nnx.Module):
        return NormTable(
            tuple(norm_row(path, norm, own_variables(norm)) for path, norm in nnx_norms(model))
        )
    rows = {}
    for call in norm_calls(model, args, kwargs):
        x = next(iter((*call.args, *call.kwargs.values())), None)
        rows.setdefault(call.path, norm_row(call.path, call.norm, call.inner, x))
    return NormTable(tuple(rows.values()))


def norm_row(path: Path, norm: Any, variables: Mapping[str, PyTree], x: Any = None) -> NormRow:
    """Returns the row of one norm.

    Args:
        path: of the norm.
        norm: the module.
        variables: its own: collection -> nested by name.
        x: its input, if known.

    Returns:
        A `NormRow`.

    Examples:
        >>> norm_row(("a",), nn.LayerNorm(use_scale=False), {}).options
        {'use_scale': False}
    """
    kind = kind_of(type(norm)) or ""
    params, stats = (variables.get(name, {}) for name in ("params", "batch_stats"))
    sized = [params.get("scale"), params.get("bias"), stats.get("mean")]
    features = next((tuple(leaf.shape) for leaf in sized if leaf is not None), ())
    if not features and kind not in OF_KERNELS and hasattr(x, "shape"):
        features = input_features(norm, x.shape)
    return NormRow(
        "/".join(path),
        kind,
        class_name(type(norm)),
        features,
        tuple(sorted(params, key=lambda name: (name != "scale", name))),
        tuple(dict.fromkeys(name.split("/")[0] for name in sorted(stats))),
        options_of(norm),
    )


def _shown(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)
