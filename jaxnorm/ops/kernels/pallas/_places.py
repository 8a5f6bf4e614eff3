"""Where a program of a GPU loads and stores: the rows and the entries of one group, masked."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from jaxnorm.ops.kernels.pallas._blocks import Blocks


class Program(NamedTuple):
    """Where a program of the grid (programs, groups or more, affines) stands.

    It is read once: the interpreter knows it outside of loops only.
    """

    index: Any
    group: Any
    affine: Any


def program() -> Program:
    """Returns where this program stands."""
    return Program(*(pl.program_id(axis) for axis in range(3)))


class Places:
    """Some rows of one group of an array [a, p, g m].

    Args:
        rows: `_rows.Rows`.
        blocks: how many rows and entries.
        program: whose places they are.
        block: which block of rows.
        step: which part of the row.
    """

    def __init__(self, rows: Any, blocks: Blocks, program: Program, block: Any, step: Any = 0):
        self.rows, self.blocks, self.program, self.block = rows, blocks, program, block
        self.affine, self.group = program.affine, program.group
        self.here = pl.ds(block * blocks.rows, blocks.rows)
        index = lax.broadcasted_iota(jnp.int32, (blocks.rows, 1), 0)
        self.row_mask = index + block * blocks.rows < rows.p
        start = step * blocks.length
        entries = lax.broadcasted_iota(jnp.int32, (1, blocks.length), 1) + start
        self.entry_mask = entries < rows.m
        self.entries = pl.ds(self.group * rows.m + start, blocks.length)

    def step(self, step: Any) -> "Places":
        """Returns the places of another part of the same rows."""
        return Places(self.rows, self.blocks, self.program, self.block, step)

    def inside(self, values):
        """Returns the values [rows, length] with zero where there is no entry."""
        return jnp.where(self.row_mask & self.entry_mask, values, 0.0)

    def load(self, ref):
        """Returns entries [rows, length] in float32, zero where there are none."""
        mask = self.row_mask & self.entry_mask
        at = ref.at[self.affine, self.here, self.entries]
        return plt.load(at, mask=mask, other=0.0).astype(jnp.float32)

    def store(self, ref, values) -> None:
        """Stores entries [rows, length]."""
        mask = self.row_mask & self.entry_mask
        at = ref.at[self.affine, self.here, self.entries]
        plt.store(at, values.astype(ref.dtype), mask=mask)

    def channels(self, ref):
        """Returns scale or bias, [1, length]."""
        at = ref.at[pl.ds(self.affine, 1), self.entries]
        return plt.load(at, mask=self.entry_mask, other=0.0)

    def pivot(self, ref):
        """Returns one member of each row, [rows, 1] in float32."""
        member = pl.ds(self.group * self.rows.m + self.rows.member, 1)
        at = ref.at[self.affine, self.here, member]
        return plt.load(at, mask=self.row_mask, other=0.0).astype(jnp.float32)

    def statistic(self, ref):
        """Returns a statistic of each row, [rows, 1]."""
        at = ref.at[self.affine, self.here, pl.ds(self.group, 1)]
        return plt.load(at, mask=self.row_mask, other=0.0)

    def store_statistic(self, ref, values) -> None:
        """Stores a statistic of each row, [rows, 1]."""
        at = ref.at[self.affine, self.here, pl.ds(self.group, 1)]
        plt.store(at, values, mask=self.row_mask)

    def store_partial(self, ref, values) -> None:
        """Stores the sums [1, length] of this program."""
        at = ref.at[self.affine, pl.ds(self.program.index, 1), self.entries]
        plt.store(at, values, mask=self.entry_mask)
