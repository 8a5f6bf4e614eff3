"""Batch norm folded into the layer before it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict
from jax import lax

from jaxnorm.numerics import accumulation_dtype
from jaxnorm.surgery._pairs import Pair, find_pairs
from jaxnorm.surgery._paths import Path, by_path
from jaxnorm.typing import Array, PyTree

_Flat = dict[Path, Any]


class FoldedPair(NamedTuple):
    """A linear layer and the batch norm that went into it, as paths such as `block_0/conv_1`.

    Examples:
        >>> FoldedPair("conv_0", "norm_0").norm
        'norm_0'
    """

    layer: str  # path of the Dense, Conv or ConvTranspose
    norm: str  # path of the batch norm


class Folding(NamedTuple):
    """Variables after folding, and what was folded.

    Examples:
        >>> Folding({}, (), {"norm": "it is called 2 times"}).kept
        {'norm': 'it is called 2 times'}
    """

    variables: dict[str, PyTree]  # the collections of the model, with the changed parameters
    folded: tuple[FoldedPair, ...]  # in the order of the norms' calls
    kept: dict[str, str]  # path of each batch norm that stays as it was -> why


def fold_batch_norm(
    model: nn.Module,
    variables: Mapping[str, PyTree],
    *args: Any,
    remove: bool = False,
    **kwargs: Any,
) -> Folding:
    """Returns variables in which batch norms are part of the linear layers before them.

    In evaluation a batch norm is `y = x * s + t` with `s = scale / sqrt(var + epsilon)` and
    `t = bias - mean * s`, so that the layer before it may have the kernel `kernel * s` and the bias
    `bias * s + t`: equal to rounding, one pass over the activations less.

    Pairs are found by tracing a call of the model. A batch norm is folded where the trace proves
    that its input is the output of one `flax.linen` Dense, Conv or ConvTranspose and that nothing
    else reads this output; every other one stays as it is and is reported.

    Args:
        model: a linen module.
        variables: its variables; `params` and `batch_stats`.
        *args: the arguments of an evaluating call; a `jax.ShapeDtypeStruct` will do for an array.
        remove: false for variables of the same model, in which a folded batch norm passes its
            input (mean 0, var 1 - epsilon, scale 1) and adds the shift if the layer before has no
            bias; true for variables of the model built without the folded norms, whose layers all
            have a bias (in `jaxnorm.models`: `model.clone(norm=None)`, if every norm is folded).
        **kwargs: keyword arguments of the call, such as `train=False`.

    Returns:
        A `Folding`; arrays keep their dtypes.

    Examples:
        >>> import jax
        >>> from jaxnorm.linen import BatchNorm
        >>> model = nn.Sequential([nn.Dense(2), BatchNorm(use_running_average=True)])
        >>> variables = model.init(jax.random.key(0), jnp.ones((1, 3)))
        >>> fold_batch_norm(model, variables, jnp.ones((1, 3))).folded
        (FoldedPair(layer='layers_0', norm='layers_1'),)
    """
    pairs, kept = find_pairs(model, variables, *args, **kwargs)
    flat = by_path(variables, keep_empty=True)
    for pair in pairs:
        flat = _fold(flat, pair, remove)
    return Folding(
        variables=unflatten_dict(flat),
        folded=tuple(FoldedPair("/".join(p.layer), "/".join(p.norm)) for p in pairs),
        kept={"/".join(norm): reason for norm, reason in kept.items()},
    )


def _fold(flat: _Flat, pair: Pair, remove: bool) -> _Flat:
    kernel_at, bias_at = (("params", *pair.layer, name) for name in ("kernel", "bias"))
    factor, shift = _affine(flat, pair)
    kernel = flat[kernel_at]
    wide = factor if pair.kernel_axis == -1 else factor[:, None]
    new = {**flat, kernel_at: (kernel * wide).astype(kernel.dtype)}
    if bias_at in flat:
        shift = flat[bias_at] * factor + shift
    if bias_at in flat or remove:
        new[bias_at] = shift.astype(kernel.dtype)
        shift = jnp.zeros_like(shift)
    norm = {
        path: leaf
        for path, leaf in flat.items()
        if path[1:-1] == pair.norm and path[0] in ("params", "batch_stats")
    }
    if remove:
        return {path: leaf for path, leaf in new.items() if path not in norm}
    return {**new, **_passing(norm, pair, shift)}


def _affine(flat: _Flat, pair: Pair) -> tuple[Array, Array]:
    """Returns what the batch norm multiplies by and what it adds, float32 or wider."""
    mean, var = (flat["batch_stats", *pair.norm, name] for name in ("mean", "var"))
    var = var.astype(accumulation_dtype(var.dtype))
    factor = lax.rsqrt(var + pair.epsilon) * flat.get(("params", *pair.norm, "scale"), 1)
    return factor, flat.get(("params", *pair.norm, "bias"), 0) - mean * factor


def _passing(norm: _Flat, pair: Pair, shift: Array) -> _Flat:
    """Returns the variables of a batch norm that adds `shift` and does nothing else.

    `(1 - epsilon) + epsilon` rounds to one, whose reciprocal root is one: no digit is lost.
    """
    bias_at = ("params", *pair.norm, "bias")
    # Without a bias the shift goes into the mean, which is subtracted.
    mean = jnp.zeros_like(shift) if bias_at in norm else -shift
    values = {
        ("params", *pair.norm, "scale"): jnp.ones_like(shift),
        bias_at: shift,
        ("batch_stats", *pair.norm, "mean"): mean,
        ("batch_stats", *pair.norm, "var"): jnp.full_like(shift, 1 - pair.epsilon),
    }
    return {path: values[path].astype(leaf.dtype) for path, leaf in norm.items()}
