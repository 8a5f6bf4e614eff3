"""What column kernels do with the tiles of a block once the statistics are known."""

import jax.numpy as jnp
from jax import lax

from jaxnorm.ops.kernels.pallas._column_run import Block
from jaxnorm.typing import Array


def normalized(block: Block, x_ref, y_ref, mean, tail, rstd, has, affine_refs) -> None:
    """Stores `(x - mean - tail) rstd scale + bias`.

    Args:
        block: of a kernel that runs.
        x_ref: the block of the array.
        y_ref: where it goes.
        mean: [1, channels].
        tail: likewise.
        rstd: likewise.
        has: whether there are a scale and a bias.
        affine_refs: those that are there, each of one line.
    """
    gain = rstd * block.line(affine_refs[0], 0) if has[0] else rstd
    bias = block.line(affine_refs[-1], 0) if has[1] else 0

    def step(i, _):
        block.store(y_ref, i, ((block.load(x_ref, i) - mean) - tail) * gain + bias)

    lax.fori_loop(0, block.grid.tiles, step, None)


def block_sums(block: Block, x_ref, ct_ref, mean, tail, rstd) -> tuple[Array, Array]:
    """Returns for each channel of a block the sums of `ct` and of `ct xhat`, [1, channels].

    Args:
        block: of a kernel that runs.
        x_ref: the block of the array.
        ct_ref: the block of the cotangent.
        mean: [1, channels].
        tail: likewise.
        rstd: likewise.
    """

    def step(i, carry):
        ct = block.within(i, block.load(ct_ref, i))
        xhat = ((block.load(x_ref, i) - mean) - tail) * rstd
        return carry[0] + ct, carry[1] + block.within(i, ct * xhat)

    lanes = lax.fori_loop(0, block.grid.tiles, step, (block.zeros(),) * 2)
    of_ct, of_product = (jnp.sum(v, axis=0, keepdims=True) for v in lanes)
    return of_ct, of_product


def pulled(block: Block, x_ref, ct_ref, out_ref, lines: tuple[Array, ...]) -> None:
    """Stores `ct gain + xhat slope + start`.

    Args:
        block: of a kernel that runs.
        x_ref: the block of the array.
        ct_ref: the block of the cotangent.
        out_ref: where it goes.
        lines: mean, tail, rstd, gain, slope and start, each [1, channels].
    """
    mean, tail, rstd, gain, slope, start = lines

    def step(i, _):
        xhat = ((block.load(x_ref, i) - mean) - tail) * rstd
        block.store(out_ref, i, block.load(ct_ref, i) * gain + (xhat * slope + start))

    lax.fori_loop(0, block.grid.tiles, step, None)
