"""The parameters of a linear layer that does what the batch norms beside it did."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxnorm._views import Path
from jaxnorm.numerics import accumulation_dtype
from jaxnorm.surgery._pairs import Chain, Norm
from jaxnorm.typing import Array

_Flat = dict[Path, Any]


def folded(flat: _Flat, chain: Chain, remove: bool) -> _Flat:
    """Returns the variables with the batch norms of one chain in its linear layer.

    Args:
        flat: the variables by collection and path.
        chain: a layer and its norms.
        remove: whether the variables of the norms go, and the layer gets a bias.

    Returns:
        New variables; arrays keep their dtypes.
    """
    kernel_at, bias_at = (("params", *chain.layer, name) for name in ("kernel", "bias"))
    stored = flat[kernel_at]
    kernel = stored.astype(accumulation_dtype(stored.dtype))
    factor, shift = _affine(flat, chain.after)
    kernel = kernel * (factor if chain.kernel_axis == -1 else jnp.asarray(factor)[..., None])
    if bias_at in flat:
        shift = flat[bias_at] * factor + shift
    if chain.before:
        kernel, added = _with_input(kernel, *_affine(flat, chain.before), chain.groups)
        shift = shift + added
    new = {**flat, kernel_at: kernel.astype(stored.dtype)}
    features = (stored.shape[chain.kernel_axis],)
    shift = jnp.broadcast_to(shift, features)
    if bias_at in flat or remove:
        new[bias_at] = shift.astype(flat.get(bias_at, stored).dtype)
        shift = jnp.zeros_like(shift)
    for norm in (*chain.before, *chain.after):
        own = {at: leaf for at, leaf in flat.items() if at[1:-1] == norm.path}
        own = {at: leaf for at, leaf in own.items() if at[0] in ("params", "batch_stats")}
        if remove:
            new = {at: leaf for at, leaf in new.items() if at not in own}
        else:
            # Where the layer has no bias, the last norm adds the shift of all.
            rest = shift if chain.after and norm == chain.after[-1] else jnp.zeros(())
            new |= _passing(own, norm, rest)
    return new


def _affine(flat: _Flat, norms: Sequence[Norm]) -> tuple[Any, Any]:
    """Returns what norms in a row multiply by and what they add, float32 or wider."""
    factor: Any = 1.0
    shift: Any = 0.0
    for norm in norms:
        mean, var = (flat["batch_stats", *norm.path, name] for name in ("mean", "var"))
        var = var.astype(accumulation_dtype(var.dtype))
        own = lax.rsqrt(var + norm.epsilon) * flat.get(("params", *norm.path, "scale"), 1)
        shift = (shift - mean) * own + flat.get(("params", *norm.path, "bias"), 0)
        factor = factor * own
    return factor, shift


def _with_input(kernel: Array, factor: Array, shift: Array, groups: int) -> tuple[Array, Array]:
    """Returns a kernel [..., I / groups, O] whose input is scaled, and what a shift of it adds."""
    *space, inputs, outputs = kernel.shape
    grouped = kernel.reshape(*space, inputs, groups, outputs // groups)
    scale, offset = (v.reshape(groups, inputs).T[:, :, None] for v in (factor, shift))
    added = jnp.sum(grouped * offset, axis=tuple(range(len(space) + 1)))
    return (grouped * scale).reshape(kernel.shape), added.reshape(outputs)


def _passing(own: _Flat, norm: Norm, shift: Array) -> _Flat:
    """Returns the variables of a batch norm that adds `shift` and does nothing else.

    `(1 - epsilon) + epsilon` rounds to one, whose reciprocal root is one: no digit is lost.
    """
    bias_at = ("params", *norm.path, "bias")
    # Without a bias the shift goes into the mean, which is subtracted.
    mean = 0.0 if bias_at in own else -shift
    values = {
        ("params", *norm.path, "scale"): 1.0,
        bias_at: shift,
        ("batch_stats", *norm.path, "mean"): mean,
        ("batch_stats", *norm.path, "var"): 1 - norm.epsilon,
    }
    return {
        at: jnp.broadcast_to(values[at], leaf.shape).astype(leaf.dtype)
        for at, leaf in own.items()
        if at in values
    }
