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
import jax.numpy as jnp
import numpy as np
from jax.core import AbstractValue
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from jaxnorm._partitioning import Spec
from jaxnorm.numerics import together
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


def apart(x: Array, value: Array) -> Array:
    """Returns `value` not sharded over mesh axes that `x` is sharded over along another axis.

    Args:
        x: [*shape].
        value: of the rank of `x`; as it is where it has another.

    Examples:
        >>> import jax.numpy as jnp
        >>> apart(jnp.ones((2, 3)), jnp.ones((1, 3))).shape
        (1, 3)
    """
    if value.ndim != x.ndim or not any(explicit_axes(value)):
        return value
    own = spec_of(x)
    elsewhere = [{n for i, names in enumerate(own) if i != a for n in names} for a in range(x.ndim)]
    met = [axis for axis, names in enumerate(spec_of(value)) if elsewhere[axis] & set(names)]
    return replicated(value, met)


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


def brought_to(x: Array, value: Array) -> Array:
    """Returns `value` on every device of the mesh of `x`, if that is explicit and `value` on none.

    Args:
        x: [*shape].
        value: of any shape.

    Examples:
        >>> import jax.numpy as jnp
        >>> brought_to(jnp.ones((2, 3)), jnp.ones(3)).shape
        (3,)
    """
    mesh = mesh_of(x)
    if mesh is None or mesh_of(value) is not None:
        return value
    # Eagerly and without `jax.set_mesh` the devices of the program are those of its operand x.
    place = jax.jit(lambda _, value: _lying(value, mesh, ((),) * value.ndim), keep_unused=True)
    return place(x, value)


def as_rows(value: Array, other: Array) -> Array:
    """Returns `value` lying as the first axis of another array, if that is sharded explicitly.

    Args:
        value: [N].
        other: [N, *shape].

    Examples:
        >>> import jax.numpy as jnp
        >>> as_rows(jnp.ones(2), jnp.zeros((2, 3))).shape
        (2,)
    """
    mesh = mesh_of(other)
    return value if mesh is None else _lying(value, mesh, spec_of(other)[:1])


def on_shards(
    function: Callable[..., list],
    mesh: AbstractMesh,
    operands: Sequence[Array],
    given: Sequence[Spec],
    results: Sequence[Spec],
    differentiable: bool = False,
) -> list:
    """Returns the results of a function that each shard calls with its parts of the operands.

    Args:
        function: of parts, returns parts.
        mesh: whose axes all are explicit.
        operands: are brought to where `given` says.
        given: how the operands lie.
        results: how the results lie.
        differentiable: whether derivatives may be taken. JAX then has to see that no result differs
            between shards that have the same part of it.
    """
    placed = [_lying(v, mesh, spec) for v, spec in zip(operands, given, strict=True)]
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=tuple(map(_partition_spec, given)),
        out_specs=list(map(_partition_spec, results)),
        check_vma=differentiable,
    )(*placed)


def with_neighbours(
    values: Sequence[Array],
    axis: int,
    names: tuple[str, ...],
    mesh: AbstractMesh,
    reach: tuple[int, int],
) -> list[Array]:
    """Returns a shard's part of arrays with what its neighbours have next to it, in `on_shards`.

    One exchange in each direction, or more where a neighbour has less than is asked for.

    Args:
        values: of one shape, this shard's part of each.
        axis: that grows.
        names: the mesh axes that cut it.
        mesh: their mesh.
        reach: how many entries are asked for below and above.

    Returns:
        As many arrays, each with so many more entries; zero beyond the edges of the whole array.

    Examples:
        >>> import jax.numpy as jnp
        >>> mesh = jax.sharding.AbstractMesh((), ())
        >>> with_neighbours([jnp.ones(2)], 0, (), mesh, (1, 2))
        [Array([0., 1., 1., 0., 0.], dtype=float32)]
    """
    n, shards = values[0].shape[axis], math.prod(mesh.shape[name] for name in names)
    below, above = ([min(n, most - n * i) for i in range(-(-most // n))] for most in reach)
    # JAX counts shards in the order of the mesh's axes, whatever the order of the names.
    ordered = tuple(name for name in mesh.axis_names if name in names)
    numbers = np.arange(shards).reshape([mesh.shape[name] for name in ordered])
    shard = numbers.transpose([ordered.index(name) for name in names]).reshape(-1).tolist()

    def sent(start: int, size: int, way: list) -> list[Array]:
        edges = [jax.lax.slice_in_dim(v, start, start + size, axis=axis) for v in values]
        return together(lambda packed: jax.lax.ppermute(packed, ordered, way), edges)

    pieces = [list(values)]
    for hop, size in zip(range(1, shards), below):
        pieces.insert(0, sent(n - size, size, list(zip(shard, shard[hop:]))))
    for hop, size in zip(range(1, shards), above):
        pieces.append(sent(0, size, list(zip(shard[hop:], shard))))
    edges = [(0, 0)] * values[0].ndim
    edges[axis] = (sum(below[shards - 1 :]), sum(above[shards - 1 :]))
    return [jnp.pad(jnp.concatenate(part, axis), edges) for part in zip(*pieces)]


def reshaped(value: Array, shape: Sequence[int], spec: Sequence) -> Array:
    """Returns `value` reshaped, the axes of the result explicitly sharded as `spec` says.

    JAX asks for the sharding of the result where a reshape splits or merges a sharded axis.
    """
    sharding = out_sharding(value, spec)
    if sharding is None:
        return value.reshape(tuple(shape))
    return jax.lax.reshape(value, tuple(shape), out_sharding=sharding)


def out_sharding(value: Array, spec: Sequence) -> NamedSharding | None:
    """Returns how to say to JAX that what is made of `value` lies as `spec` says.

    Args:
        value: an operand.
        spec: the mesh axes of each axis of the result.

    Returns:
        What operations take as `out_sharding`; None where no axis of `value` is sharded explicitly.

    Examples:
        >>> import jax.numpy as jnp
        >>> out_sharding(jnp.ones(3), [None]) is None
        True
    """
    if not any(explicit_axes(value)):
        return None
    return _on_mesh_of(value, spec)


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
        sharding = _on_mesh_of(value, (names, *own))
    dims = tuple(range(1, len(shape)))
    return jax.lax.broadcast_in_dim(value, shape, dims, out_sharding=sharding)


def replicated(value: Array, axes: Sequence[int]) -> Array:
    """Returns `value` with `axes` no longer explicitly sharded."""
    spec = explicit_axes(value)
    kept = tuple(None if axis in axes else names for axis, names in enumerate(spec))
    return value if kept == spec else jax.sharding.reshard(value, _on_mesh_of(value, kept))


def gathered(values: Sequence[Array], axes: Sequence[int]) -> list[Array]:
    """Returns arrays with `axes` no longer explicitly sharded, with one exchange for all of them.

    Args:
        values: of one shape, floating or complex.
        axes: of each of them.

    Returns:
        As many arrays; where an axis is sharded all lie as the first that is.

    Examples:
        >>> import jax.numpy as jnp
        >>> gathered([jnp.ones(2)], [0])
        [Array([1., 1.], dtype=float32)]
    """
    first = next((v for v in values if any(explicit_axes(v)[axis] for axis in axes)), None)
    if first is None:
        return list(values)
    alike = [_lying(v, _sharding(first).mesh, spec_of(first)) for v in values]
    return together(lambda packed: replicated(packed, [axis + 1 for axis in axes]), alike)


def whole_groups(value: Array, groups: int, axis: int) -> Array:
    """Returns `value` lying so that no explicit shard of an axis cuts through a group.

    Args:
        value: [*shape].
        groups: into which the axis is cut, contiguous.
        axis: not sharded in the result where shards do not end with groups.

    Examples:
        >>> import jax.numpy as jnp
        >>> whole_groups(jnp.ones((2, 6)), 3, 1).shape
        (2, 6)
    """
    return replicated(value, [axis]) if groups % shard_counts(value)[axis] else value


def left_to_xla(function: Callable[..., Any], spec: Sequence, *values: Any) -> Any:
    """Returns what a function makes of values whose axes are automatic in it.

    For operations of which JAX does not say how their results lie: slices and gathers along sharded
    axes. XLA partitions them, and exchanges between neighbours what a window reaches.

    Args:
        function: of arrays, or trees of them.
        spec: the mesh axes of each axis of all results.
        *values: on one mesh, or on none.

    Returns:
        `function(*values)`, sharded as `spec` says where an axis of a value is sharded explicitly.

    Examples:
        >>> import jax.numpy as jnp
        >>> left_to_xla(jnp.cumsum, [None], jnp.ones(3))
        Array([1., 2., 3.], dtype=float32)
    """
    shardings = (out_sharding(value, spec) for value in jax.tree.leaves(values))
    sharding = next((s for s in shardings if s is not None), None)
    if sharding is None:
        return function(*values)
    return jax.sharding.auto_axes(function, out_sharding=sharding)(*values)


def _sharding(value: Any) -> Any:
    """Returns what the type of an array, or an aval, says about how it lies."""
    aval = value if isinstance(value, AbstractValue) else jax.typeof(value)
    return getattr(aval, "sharding", None)


def _on_mesh_of(value: Array, spec: Sequence) -> NamedSharding:
    return NamedSharding(_sharding(value).mesh, PartitionSpec(*spec))


def _lying(value: Array, mesh: Any, spec: Spec) -> Array:
    if mesh_of(value) is not None and spec_of(value) == tuple(spec):
        return value
    return jax.sharding.reshard(value, NamedSharding(mesh, _partition_spec(spec)))


def _partition_spec(spec: Spec) -> PartitionSpec:
    return PartitionSpec(*(names if len(names) > 1 else next(iter(names), None) for names in spec))
