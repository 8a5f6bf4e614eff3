"""What each norm of a model costs in memory."""

import functools
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from jaxnorm._views import Path, aligned
from jaxnorm.surgery._calls import NormCall, norm_calls
from jaxnorm.surgery._kinds import OF_KERNELS, class_name, kind_of


class CostRow(NamedTuple):
    """The memory of one norm.

    Examples:
        >>> CostRow("norm", "jaxnorm.linen.LayerNorm", ((8, 4),), 8, 0, 160).parameters
        8
    """

    path: str  # such as `block_0/norm_1`
    module: str  # its class, such as "flax.linen.BatchNorm"
    inputs: tuple[tuple[int, ...], ...]  # the shape of the input of each call
    parameters: int  # entries that are learned
    state_bytes: int  # of what it keeps in `batch_stats`
    kept_bytes: int  # between the passes, over all calls; of a norm of kernels, its layer's apart


class NormReport(NamedTuple):
    """The memory of the norms of a model.

    Examples:
        >>> NormReport((CostRow("norm", "flax.linen.LayerNorm", ((8, 4),), 8, 0, 160),)).kept_bytes
        160
    """

    rows: tuple[CostRow, ...]  # in the order of the first calls

    @property
    def parameters(self) -> int:
        """The entries that all norms learn."""
        return sum(row.parameters for row in self.rows)

    @property
    def state_bytes(self) -> int:
        """The bytes of the running statistics of all norms."""
        return sum(row.state_bytes for row in self.rows)

    @property
    def kept_bytes(self) -> int:
        """The bytes that all norms keep between the passes."""
        return sum(row.kept_bytes for row in self.rows)

    def to_text(self) -> str:
        """Returns the report as a table of plain text, one line per norm and one for their sum.

        Returns:
            Lines with columns of one width.

        Examples:
            >>> row = CostRow("a", "flax.linen.RMSNorm", ((8, 4),), 4, 0, 160)
            >>> print(NormReport((row,)).to_text().splitlines()[1])
            a      flax.linen.RMSNorm  8x4              4            0         160
        """
        body = [
            [
                row.path or ".",
                row.module,
                ", ".join("x".join(map(str, shape)) for shape in row.inputs),
                str(row.parameters),
                str(row.state_bytes),
                str(row.kept_bytes),
            ]
            for row in self.rows
        ]
        total = ["total", "", "", *map(str, (self.parameters, self.state_bytes, self.kept_bytes))]
        head = [name.replace("_", " ") for name in CostRow._fields]
        return aligned([head, *body, total], left=3)


def report(model: nn.Module | nnx.Module, *args: Any, **kwargs: Any) -> NormReport:
    """Returns the parameters, the state and the bytes kept for the backward pass of each norm.

    One call of the model is traced, which computes nothing. What a norm keeps are the residuals of
    reverse mode for its call alone, at the shapes and dtypes that it is called with and in that
    call's mode; the input counts, also where the layer before keeps the same array. Calls in a scan
    count once per step. A norm of kernels keeps what its layer keeps with it, less what the layer
    keeps alone. Rematerialization around a norm is not taken into account.

    Args:
        model: a linen or nnx module.
        *args: the arguments of a call: arrays or `jax.ShapeDtypeStruct`.
        **kwargs: likewise, such as `train=True`.

    Returns:
        A `NormReport`; `print(found.to_text())` shows it.

    Raises:
        ValueError: no arguments are given.

    Examples:
        >>> from jaxnorm.linen import RMSNorm
        >>> [row] = report(RMSNorm(), jax.ShapeDtypeStruct((8, 4), jnp.bfloat16)).rows
        >>> row.parameters, row.state_bytes, row.kept_bytes
        (4, 0, 112)
    """
    calls: dict[Path, list[NormCall]] = {}
    for call in norm_calls(model, args, kwargs):
        calls.setdefault(call.path, []).append(call)
    return NormReport(tuple(_row(path, found) for path, found in calls.items()))


def _row(path: Path, calls: list[NormCall]) -> CostRow:
    first = calls[0]
    kept = _kept_beside_layer if kind_of(type(first.norm)) in OF_KERNELS else _kept
    return CostRow(
        "/".join(path),
        class_name(type(first.norm)),
        tuple(_input_shape(call) for call in calls),
        sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(first.variables.get("params", {}))),
        _bytes(first.variables.get("batch_stats", {})),
        sum(call.times * kept(call) for call in calls),
    )


def _input_shape(call: NormCall) -> tuple[int, ...]:
    return tuple(
        next(
            leaf.shape
            for leaf in jax.tree.leaves((call.args, call.kwargs))
            if hasattr(leaf, "shape")
        )
    )


def _kept_beside_layer(call: NormCall) -> int:
    """Returns the bytes that a norm of kernels adds to the residuals of one call of its layer."""
    layer = call.norm.layer_instance
    of_layer = {name: value for name, value in call.kwargs.items() if name != "update_stats"}
    if isinstance(call.norm, nnx.Module):
        both, one = _variables(call.norm), _variables(layer)
    else:
        # The variables of a layer may lie beside the norm, where its call does not see them.
        both, one = (
            jax.eval_shape(functools.partial(module.init, **options), jax.random.key(0), *call.args)
            for module, options in ((call.norm, call.kwargs), (layer, of_layer))
        )
    alone = call._replace(norm=layer, inner=one, kwargs=of_layer)
    return _kept(call._replace(inner=both)) - _kept(alone)


def _variables(module: nnx.Module) -> dict[str, dict[str, Any]]:
    """Returns all variables of an nnx module as `_runner` takes them, parameters apart."""
    found: dict[str, dict[str, Any]] = {"params": {}, "batch_stats": {}}
    for path, variable in nnx.to_flat_state(nnx.state(module)):
        learned = isinstance(variable, nnx.Param) or not isinstance(variable, nnx.Variable)
        found["params" if learned else "batch_stats"]["/".join(map(str, path))] = variable[...]
    return found


def _kept(call: NormCall) -> int:
    """Returns the bytes of the residuals of one call."""
    params = call.inner.get("params", {})
    leaves, structure = jax.tree.flatten((params, call.args, call.kwargs))
    moving = {i: leaf for i, leaf in enumerate(leaves) if _is_differentiable(leaf)}
    still = {i: leaf for i, leaf in enumerate(leaves) if hasattr(leaf, "dtype") and i not in moving}
    run = _runner(call)

    def pull(moving: dict[int, Any], still: dict[int, Any], state: Any) -> Any:
        def output(moving: dict[int, Any]) -> Any:
            values = [{**moving, **still}.get(i, leaf) for i, leaf in enumerate(leaves)]
            return run(*jax.tree.unflatten(structure, values), state)

        return jax.vjp(output, moving)[1]

    return _bytes(jax.eval_shape(pull, moving, still, call.inner.get("batch_stats", {})))


def _runner(call: NormCall) -> Any:
    """Returns a pure function (params, args, kwargs, batch_stats) -> output of the norm's call."""
    norm = call.norm
    shared = getattr(norm, "axis_name", None) is not None
    # The statistics of other shards are small, and their axis is not bound here.
    if not isinstance(norm, nnx.Module):
        linen = norm.clone(axis_name=None) if shared else norm

        def apply(params: Any, args: Any, kwargs: Any, stats: Any) -> Any:
            variables = {"params": params, "batch_stats": stats}
            return linen.apply(variables, *args, mutable=["batch_stats"], **kwargs)[0]

        return apply
    alone: Any = nnx.clone(norm)
    if shared:
        alone.axis_name = None
    graphdef, state = nnx.split(alone)

    def merged(params: Any, args: Any, kwargs: Any, stats: Any) -> Any:
        values = {**params, **stats}
        flat = nnx.to_flat_state(state)
        new = [(path, v, values["/".join(map(str, path))]) for path, v in flat]
        # Flax's weight norm leaves a plain array where the kernel was.
        filled = [(p, v.replace(n) if isinstance(v, nnx.Variable) else n) for p, v, n in new]
        return nnx.merge(graphdef, nnx.from_flat_state(filled))(*args, **kwargs)

    return merged


def _is_differentiable(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _bytes(tree: Any) -> int:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
