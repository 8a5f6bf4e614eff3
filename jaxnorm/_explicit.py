"""Meshes with explicit axes: what the types of arrays say about how they lie on devices.

`jax.make_mesh` makes axes explicit unless told otherwise. How an array lies is then known while a
program is traced, and so is what each shard has to do: `on_shards` says it, without asking the
compiler to call back.

Tried with jax 0.8.1 and 0.10.2.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.core import AbstractValue
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from jaxnorm._partitioning import Spec
from jaxnorm.typing import Array, DTypeLike, Shape


def mesh_of(value: Array) -> AbstractMesh | None:
    """Returns the mesh that the type of a value names, if all of its axes are explicit.

    Args:
        value: an array, or an aval.

    Returns:
        None where there is no mesh, and where an axis of it is automatic or manual.

    Examples:
        >>> import jax.numpy as jnp
        >>> mesh_of(jnp.ones(3)) is None
        True
    """
    mesh = getattr(_sharding(value), "mesh", None)
    if mesh is None or mesh.empty or set(mesh.axis_types) != {AxisType.Explicit}:
        return None
    return mesh


def is_explicit(value: Array) -> bool:
    """Returns whether the type of a value says how it lies on a mesh.

    Args:
        value: an array, or its shape and dtype.

    Examples:
        >>> import jax.numpy as jnp
        >>> is_explicit(jnp.ones(3))
        False
    """
    return mesh_of(value) is not None or any(explicit_axes(value))


def explicit_axes(value: Array) -> tuple:
    """Returns for each axis the mesh axes that it is explicitly sharded over, or None.

    Args:
        value: an array, or an aval.

    Returns:
        One entry per axis; None where the type of `value` says nothing.

    Examples:
        >>> import jax.numpy as jnp
        >>> explicit_axes(jnp.ones((2, 3)))
        (None, None)
    """
    spec = tuple(getattr(_sharding(value), "spec", ()))
    return (*spec, *(None,) * (value.ndim - len(spec)))


def spec_of(value: Array) -> Spec:
    """Returns for each axis the names of the mesh axes that it is explicitly sharded over.

    Args:
        value: an array, or an aval.

    Examples:
        >>> import jax.numpy as jnp
        >>> spec_of(jnp.ones((2, 3)))
        ((), ())
    """
    return tuple(
        (names,) if isinstance(names, str) else tuple(names or ()) for names in explicit_axes(value)
    )


def shard_counts(value: Array) -> tuple[int, ...]:
    """Returns into how many shards the type of `value` says that each axis is cut.

    Examples:
        >>> import jax.numpy as jnp
        >>> shard_counts(jnp.ones((2, 3)))
        (1, 1)
    """
    return tuple(
        math.prod(_sharding(value).mesh.shape[name] for name in names) for names in spec_of(value)
    )


def why_not(x: Array, others: Sequence[Array]) -> str | None:
    """Returns why `on_shards` does not serve arrays whose types say how they lie, or None.

    Args:
        x: beside which the others lie.
        others: of the rank of `x`.

    Returns:
        A reason for people to read. None also where the types say nothing.

    Examples:
        >>> import jax.numpy as jnp
        >>> why_not(jnp.ones((2, 3)), ()) is None
        True
    """
    values = (x, *others)
    specs = [getattr(_sharding(v), "spec", None) for v in values]
    if any(getattr(s, "unreduced", None) or getattr(s, "reduced", None) for s in specs):
        return "an array waits for its sum over the shards (unreduced, or reduced for one that is)"
    if mesh_of(x) is None and any(explicit_axes(x)):
        return "some axes of the mesh are not explicit"
    if mesh_of(x) is None and any(any(explicit_axes(v)) for v in others):
        return "x lies on no mesh whose axes all are explicit, and what is beside it does"
    return None


def beside(x: Array, value: Array) -> Array:
    """Returns `value` lying as `x` does along the axes that it has in full.

    Args:
        x: [*shape].
        value: of the rank of `x`, broadcasts to it.

    Returns:
        `value` itself where the types say nothing, or something that `why_not` knows.

    Examples:
        >>> import jax.numpy as jnp
        >>> beside(jnp.ones((2, 3)), jnp.ones((1, 3))).shape
        (1, 3)
    """
    if mesh_of(x) is None or mesh_of(value) is None or why_not(x, (value,)) is not None:
        return value
    return _lying(value, mesh_of(x), spec_beside(x, value.shape))


def spec_beside(x: Array, shape: Shape) -> Spec:
    """Returns how an array lies beside `x`: as `x` does along the axes that it has in full.

    Args:
        x: an array, or an aval.
        shape: of the rank of `x`.

    Examples:
        >>> import jax.numpy as jnp
        >>> spec_beside(jnp.ones((2, 3)), (1, 3))
        ((), ())
    """
    axes = zip(shape, x.shape, spec_of(x), strict=True)
    return tuple(names if n == m else () for n, m, names in axes)


def typed(x: Any, shape: Shape, dtype: DTypeLike, spec: Spec) -> Any:
    """Returns the aval of an array on the mesh of `x`, if that has explicit axes.

    Args:
        x: an aval.
        shape: of the array, of the rank of `x`.
        dtype: of the array.
        spec: how it lies.
    """
    if mesh_of(x) is None:
        return x.update(shape=shape, dtype=dtype, weak_type=False)
    sharding = NamedSharding(x.sharding.mesh, _partition_spec(spec))
    return x.update(shape=shape, dtype=dtype, weak_type=False, sharding=sharding)


def like(value: Array, other: Array) -> Array:
    """Returns `value` lying as another array does, if both are on meshes with explicit axes.

    Args:
        value: [*shape].
        other: [*shape].

    Examples:
        >>> import jax.numpy as jnp
        >>> like(jnp.ones(3), jnp.zeros(3)).shape
        (3,)
    """
    if mesh_of(other) is None or mesh_of(value) is None:
        return value
    return _lying(value, mesh_of(other), spec_of(other))


def on_shards(
    function: Callable[..., list],
    mesh: AbstractMesh,
    operands: Sequence[Array],
    given: Sequence[Spec],
    results: Sequence[Spec],
) -> list:
    """Returns the results of a function that each shard calls with its parts of the operands.

    Args:
        function: of parts, returns parts; no derivative of it is taken.
        mesh: whose axes all are explicit.
        operands: are brought to where `given` says.
        given: how the operands lie.
        results: how the results lie.
    """
    placed = [_lying(v, mesh, spec) for v, spec in zip(operands, given, strict=True)]
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=tuple(map(_partition_spec, given)),
        out_specs=list(map(_partition_spec, results)),
        check_vma=False,
    )(*placed)


def reshaped(value: Array, shape: Sequence[int], spec: Sequence) -> Array:
    """Returns `value` reshaped, the axes of the result explicitly sharded as `spec` says.

    JAX asks for the sharding of the result where a reshape splits or merges a sharded axis.
    """
    if not any(explicit_axes(value)):
        return value.reshape(tuple(shape))
    sharding = NamedSharding(_sharding(value).mesh, PartitionSpec(*spec))
    return jax.lax.reshape(value, tuple(shape), out_sharding=sharding)


def repeated(value: Array, times: int, names: Any) -> Array:
    """Returns `value` several times along a new first axis.

    Args:
        value: [*shape].
        times: how often.
        names: the mesh axes that the first axis is explicitly sharded over, or None.

    Returns:
        [times, *shape]; not sharded along the first axis where another one is over `names`.

    Examples:
        >>> import jax.numpy as jnp
        >>> repeated(jnp.ones(2), 3, None).shape
        (3, 2)
    """
    shape, own = (times, *value.shape), explicit_axes(value)
    sharding = None
    if names is not None and mesh_of(value) is not None and names not in own:
        sharding = NamedSharding(_sharding(value).mesh, PartitionSpec(names, *own))
    dims = tuple(range(1, len(shape)))
    return jax.lax.broadcast_in_dim(value, shape, dims, out_sharding=sharding)


def replicated(value: Array, axes: Sequence[int]) -> Array:
    """Returns `value` with `axes` no longer explicitly sharded."""
    spec = explicit_axes(value)
    kept = tuple(None if axis in axes else names for axis, names in enumerate(spec))
    if kept == spec:
        return value
    mesh = _sharding(value).mesh
    return jax.sharding.reshard(value, NamedSharding(mesh, PartitionSpec(*kept)))


def _sharding(value: Any) -> Any:
    """Returns what the type of an array, or an aval, says about how it lies."""
    aval = value if isinstance(value, AbstractValue) else jax.typeof(value)
    return getattr(aval, "sharding", None)


def _lying(value: Array, mesh: Any, spec: Spec) -> Array:
    if mesh_of(value) is not None and spec_of(value) == tuple(spec):
        return value
    return jax.sharding.reshard(value, NamedSharding(mesh, _partition_spec(spec)))


def _partition_spec(spec: Spec) -> PartitionSpec:
    return PartitionSpec(*(names if len(names) > 1 else next(iter(names), None) for names in spec))
