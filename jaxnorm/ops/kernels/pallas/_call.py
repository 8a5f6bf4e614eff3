"""How a Pallas kernel is called: compiled for a GPU or a TPU, or interpreted on any machine.

This file imports Pallas, so it is itself imported only where a kernel is traced.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton as plt

from jaxnorm import _internals
from jaxnorm.ops.kernels.pallas._targets import Target, is_gpu


def call(
    kernel: Callable,
    target: Target,
    *,
    grid: tuple[int, ...],
    in_specs: Sequence[Any],
    out_specs: Sequence[Any],
    out_shape: Sequence[Any],
    scratch_shapes: Sequence[Any] = (),
    warps: int = 4,
    in_turn: tuple[bool, ...] | None = None,
    vmem: int | None = None,
    name: str | None = None,
) -> Callable:
    """Returns the function of arrays that runs a kernel on a target.

    Args:
        kernel: takes a reference to each input, output and scratch.
        target: where it runs.
        grid: the numbers of programs.
        in_specs: the block of each input that a program sees.
        out_specs: the block of each output.
        out_shape: `jax.ShapeDtypeStruct` of each output.
        scratch_shapes: memory of the kernel's own, on a TPU only.
        warps: of 32 threads that run one program on a GPU.
        in_turn: for each axis of the grid whether a TPU must run its programs in order, as it must
            where they add to the same output. Axes run in any order if None.
        vmem: the bytes of fast memory that a TPU may use; the compiler's own limit if None.
        name: by which profilers know the kernel; the function's own if None.

    Returns:
        A function from inputs to the list of outputs.
    """
    if is_gpu(target):
        params = plt.CompilerParams(num_warps=warps, num_stages=1)
        interpret = target == "gpu_interpreted"
    else:
        in_turn = (False,) * len(grid) if in_turn is None else in_turn
        order: Any = tuple("arbitrary" if turn else "parallel" for turn in in_turn)
        params = pltpu.CompilerParams(dimension_semantics=order, vmem_limit_bytes=vmem)
        # Two cores, so that it is noticed if both write where only programs in turn may.
        races = _internals.on_two_cores(pltpu.InterpretParams, detect_races=True)
        interpret = races if target == "tpu_interpreted" else False
    run = pl.pallas_call(
        kernel,
        grid=grid,
        in_specs=in_specs,
        out_specs=out_specs,
        out_shape=out_shape,
        scratch_shapes=scratch_shapes,
        compiler_params=params,
        interpret=interpret,
        name=name,
    )

    def in_32_bits(*arrays):
        # With 64 bits enabled indices would be integers that neither target computes with.
        with jax.enable_x64(False):
            return list(run(*arrays))

    return in_32_bits
