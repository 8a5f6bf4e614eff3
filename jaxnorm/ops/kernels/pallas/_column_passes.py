"""What column kernels do with the tiles of a block once the statistics are known."""

import jax.numpy as jnp
from jax import lax

from jaxnorm.ops._activations import activated
from jaxnorm.ops._operands import filled
from jaxnorm.ops.kernels.pallas._around import behind_activation
from jaxnorm.ops.kernels.pallas._column_run import Block
from jaxnorm.typing import Array


def affine_lines(block: Block, has: tuple[bool, ...], refs) -> list:
    """Returns scale and bias, [1, channels], None where there is none.

    Args:
        block: of a kernel that runs.
        has: whether there are a scale and a bias.
        refs: those that are there, each of one line.
    """
    return [None if ref is None else block.line(ref, 0) for ref in filled(has, refs)]


def normalized(block: Block, x_ref, y_ref, location, affine, activation: str | None) -> None:
    """Stores `(x - mean - tail) rstd scale + bias`, activated.

    Args:
        block: of a kernel that runs.
        x_ref: the block of the array.
        y_ref: where it goes.
        location: mean, tail and rstd, each [1, channels].
        affine: scale and bias, likewise, or None.
        activation: behind them, or None.
    """
    (mean, tail, rstd), (scale, bias) = location, affine
    gain = rstd if scale is None else rstd * scale
    bias = 0 if bias is None else bias

    def step(i, _):
        z = ((block.load(x_ref, i) - mean) - tail) * gain + bias
        block.store(y_ref, i, activated(activation, z))

    lax.fori_loop(0, block.grid.tiles, step, None)


def block_sums(
    block: Block, x_ref, ct_ref, location, affine, activation: str | None
) -> tuple[Array, Array]:
    """Returns for each channel of a block the sums of `ct` and of `ct xhat`, [1, channels].

    Args:
        block: of a kernel that runs.
        x_ref: the block of the array.
        ct_ref: the block of the cotangent; of what was activated it is taken here.
        location: mean, tail and rstd, each [1, channels].
        affine: scale and bias, likewise, or None.
        activation: behind them, or None.
    """
    mean, tail, rstd = location

    def step(i, carry):
        xhat = ((block.load(x_ref, i) - mean) - tail) * rstd
        ct = behind_activation(activation, block.load(ct_ref, i), xhat, *affine)
        ct = block.within(i, ct)
        return carry[0] + ct, carry[1] + block.within(i, ct * xhat)

    lanes = lax.fori_loop(0, block.grid.tiles, step, (block.zeros(),) * 2)
    of_ct, of_product = (jnp.sum(v, axis=0, keepdims=True) for v in lanes)
    return of_ct, of_product


def pulled(
    block: Block, x_ref, ct_ref, out_ref, location, affine, pull, activation: str | None
) -> None:
    """Stores `ct rstd scale + xhat slope + start`.

    Args:
        block: of a kernel that runs.
        x_ref: the block of the array.
        ct_ref: the block of the cotangent.
        out_ref: where it goes.
        location: mean, tail and rstd, each [1, channels].
        affine: scale and bias, likewise, or None.
        pull: start and slope, each [1, channels].
        activation: behind scale and bias, or None.
    """
    (mean, tail, rstd), (start, slope) = location, pull
    gain = rstd if affine[0] is None else rstd * affine[0]

    def step(i, _):
        xhat = ((block.load(x_ref, i) - mean) - tail) * rstd
        ct = behind_activation(activation, block.load(ct_ref, i), xhat, *affine)
        block.store(out_ref, i, ct * gain + (xhat * slope + start))

    lax.fori_loop(0, block.grid.tiles, step, None)
