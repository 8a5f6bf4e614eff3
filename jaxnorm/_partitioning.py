"""What jaxnorm uses of JAX to say how XLA partitions a primitive, beyond the documented interface.

`jax.experimental.custom_partitioning` is a decorator of functions. The primitives are lowered to
what it lowers to, without the decorator: it would want the devices of a program as that is lowered,
which JAX tells only to programs all of whose arrays lie on one and the same mesh.

Tried with jax 0.8.1 and 0.10.2.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax._src import config, custom_partitioning, sharding_impls
from jax._src.custom_partitioning_sharding_rule import (
    sdy_sharding_rule_to_mlir,
    str_to_sdy_sharding_rule,
)
from jax._src.interpreters import mlir
from jax._src.named_sharding import SdyArray, SdyDim
from jax.extend.core import Primitive
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec
from jaxlib.mlir import ir

from jaxnorm.typing import Array

CALLING_BACK = ("cpu", "cuda", "rocm", "gpu")
"""Platforms whose compiler asks Python how to partition; libtpu knows no custom partitioning."""

gathered_p = Primitive("jaxnorm_gathered")

Spec = Sequence[tuple[str, ...]]
"""For each axis of an array the mesh axes that cut it, the slowest first."""

Plan = Callable[[Spec, Mapping[str, int]], tuple[Callable, Sequence[Spec], Sequence[Spec]]]
"""(spec, sizes of the mesh axes) -> (function of shards, specs of operands, specs of results)."""


def why_not(platform: str) -> str | None:
    """Returns why primitives do not say themselves how they are partitioned, or None.

    Args:
        platform: of the program, for example "cpu".

    Examples:
        >>> why_not("tpu")
        'the compiler for tpu does not call back'
    """
    if platform not in CALLING_BACK:
        return f"the compiler for {platform} does not call back"
    if not config.use_shardy_partitioner.value:
        return "jax_use_shardy_partitioner is off"
    return None


def devices_to_partition(ctx: Any) -> int:
    """Returns over how many devices XLA partitions the code that is lowered.

    One within `shard_map`; on TPU, and where a program is exported, whose compiler cannot call
    Python; and where float64 is on in a part of the program only.

    Args:
        ctx: the context of a lowering rule.
    """
    module = ctx.module_context
    if module.lowering_parameters.for_export or any(map(why_not, module.platforms)):
        return 1
    # XLA calls back in another thread, in which `with jax.enable_x64(True)` is not on.
    if not config.enable_x64.get_global() and any(v.dtype.itemsize > 4 for v in ctx.avals_in):
        return 1
    return getattr(module.axis_context, "num_devices", 1)


def partitioned(
    ctx: Any, operands: Sequence, rule: tuple[str, dict[str, Any]], plan: Plan, leader: int
) -> Any:
    """Returns the results of an operation that says itself how it is partitioned.

    Args:
        ctx: the context of the lowering rule of the operation's primitive.
        operands: as they are lowered.
        rule: which axes are sharded alike, in the notation of `custom_partitioning`, and the sizes
            of the factors that stand in compound axes only.
        plan: called as XLA partitions the program. The mesh is that of all devices, each axis a
            prime number of them, and not that of the program.
        leader: the operand whose spec is given to `plan`.
    """
    devices = devices_to_partition(ctx)

    def partition(_, given, results):
        mesh, spec = given[leader].sharding.mesh, given[leader].sharding.spec
        spec = [(names,) if isinstance(names, str) else names or () for names in spec]
        spec = [_even(n, names, mesh.shape) for n, names in zip(given[leader].shape, spec)]
        local, own, out = plan(spec, mesh.shape)
        own, out = ([NamedSharding(mesh, PartitionSpec(*s)) for s in side] for side in (own, out))
        return mesh, local, out, tuple(own)

    info = custom_partitioning._ShardingCallbackInfo(
        propagate_user_sharding=None,
        partition=partition,
        to_mesh_pspec_sharding=lambda hlo, rank: _named(hlo, rank, devices),
        in_tree=jax.tree.structure(tuple(operands)),
        out_tree=jax.tree.structure([0] * len(ctx.avals_out)),
        infer_sharding_from_operands=None,
        module_context=ctx.module_context,
        mesh=None,
        static_args=(),
    )
    key = str(id(info))
    custom_partitioning._sharding_callbacks[key.encode()] = info
    ctx.module_context.add_keepalive(info)
    given: list[ir.Type] = [v.type for v in operands]
    results: list[ir.Type] = [
        ir.RankedTensorType.get(aval.shape, mlir.dtype_to_ir_type(aval.dtype))
        for aval in ctx.avals_out
    ]
    text, sizes = rule
    written = sdy_sharding_rule_to_mlir(str_to_sdy_sharding_rule(text, **sizes), given, results)
    return mlir.custom_call(
        custom_partitioning._CUSTOM_PARTITIONING_CALL_NAME,
        result_types=results,
        operands=list(operands),
        backend_config=key,
        extra_attributes={"sdy.sharding_rule": written},
    ).results


def blocks_of_batch(ctx: Any, shape: Sequence[int], stats_shape: Sequence[int]) -> int:
    """Returns into how many blocks a batch is cut for a compiler that does not call back.

    Every mesh axis or product of axes that cuts the first axis of an array evenly divides this
    number, so no block lies on two shards. One where nothing is cut: on one device, within
    `shard_map`, where a program is exported, and where the first axis is not reduced whole.

    Args:
        ctx: the context of a lowering rule.
        shape: of the array.
        stats_shape: of its statistics.
    """
    module = ctx.module_context
    if module.lowering_parameters.for_export or any(p in CALLING_BACK for p in module.platforms):
        return 1
    if not shape or stats_shape[0] != 1:
        return 1
    return math.gcd(shape[0], getattr(module.axis_context, "num_devices", 1))


def gathered(value: Array, axis: int) -> Array:
    """Returns `value`, of which XLA is told to have an axis whole on every device.

    Other axes lie as they do. To be used where a primitive is lowered: no mesh is known there, and
    none is needed.

    Args:
        value: [*shape].
        axis: not negative.
    """
    return gathered_p.bind(value, axis=axis)


def _lower_gathered(ctx: Any, value: ir.Value, *, axis: int) -> list[ir.Value]:
    (aval,) = ctx.avals_out
    others = {other for other in range(aval.ndim) if other != axis}
    if config.use_shardy_partitioner.value:
        # A mesh without axes cuts nothing, and goes with whatever mesh the rest of the program has.
        cuts = (SdyDim(axes=(), is_open=other in others) for other in range(aval.ndim))
        where = SdyArray(mesh_shape=(), dim_shardings=tuple(cuts))
    else:
        where = sharding_impls.replicated_hlo_sharding.to_proto()
    return [mlir.wrap_with_sharding_op(ctx, value, aval, where, unspecified_dims=others)]


gathered_p.def_abstract_eval(lambda value, *, axis: value)
mlir.register_lowering(gathered_p, _lower_gathered)


def primes(n: int) -> list[int]:
    """Returns the prime factors of a number.

    Args:
        n: at least one.

    Examples:
        >>> primes(12)
        [2, 2, 3]
    """
    divisor = next((d for d in range(2, n + 1) if n % d == 0), None)
    return [] if divisor is None else [divisor, *primes(n // divisor)]


def _named(sharding: Any, rank: int, devices: int) -> NamedSharding:
    """Returns how XLA has sharded an array, on a mesh of prime axes.

    The axes of any mesh of so many devices, and the parts of axes that Shardy may cut an array
    along, are products of such axes in one order or another. An array on a mesh that has its
    devices in another order than the program has them is taken for one that is not sharded.
    """
    orders = _orders(primes(devices))
    specs = [None] if sharding.is_replicated() else [_spec(sharding, sizes) for sizes in orders]
    found, sizes = next(((v, n) for v, n in zip(specs, orders) if v), ([()] * rank, orders[0]))
    mesh = AbstractMesh(sizes, tuple(f"p{axis}" for axis in range(len(sizes))))
    return NamedSharding(mesh, PartitionSpec(*found[:rank]))


def _orders(factors: Sequence[int]) -> list[tuple[int, ...]]:
    """Returns the different orders of some numbers.

    Examples:
        >>> _orders([2, 2, 3])
        [(2, 2, 3), (2, 3, 2), (3, 2, 2)]
    """
    if not factors:
        return [()]
    orders = []
    for first in dict.fromkeys(factors):
        rest = list(factors)
        rest.remove(first)
        orders += [(first, *order) for order in _orders(rest)]
    return orders


def _spec(sharding: Any, sizes: Sequence[int]) -> list[tuple[str, ...]] | None:
    """Returns for each axis the mesh axes p0, p1, ... that cut it, or None if no such mesh fits."""
    numbers = np.arange(math.prod(sizes)).reshape(sizes)
    strides = [numbers.strides[axis] // numbers.itemsize for axis in range(len(sizes))]
    tiles = np.array(sharding.tile_assignment_devices())
    tiles = tiles.reshape(sharding.tile_assignment_dimensions())
    order, spec = [], []
    for dimension, count in enumerate(tiles.shape):
        along = np.moveaxis(tiles, dimension, -1).reshape(-1, count)[0]
        start = len(order)
        while count > 1:
            steps = ((a, n) for a, n in enumerate(sizes) if a not in order and count % n == 0)
            fits = [(a, n) for a, n in steps if along[count // n] - along[0] == strides[a]]
            if not fits:
                return None
            order.append(fits[0][0])
            count //= fits[0][1]
        spec.append(tuple(f"p{axis}" for axis in order[start:]))
    order += [axis for axis in range(len(sizes)) if axis not in order]
    same = np.array_equal(numbers.transpose(order).reshape(tiles.shape), tiles)
    return spec if same else None


def _even(size: int, names: tuple[str, ...], mesh: Mapping[str, int]) -> tuple[str, ...]:
    """Returns the first mesh axes that cut an array's axis into parts of one size."""
    while size % math.prod(mesh[name] for name in names):
        names = names[:-1]
    return names
