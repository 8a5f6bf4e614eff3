"""Batch norm folded into the linear layers beside it."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import flax.linen as nn
from flax import nnx
from flax.traverse_util import unflatten_dict

from jaxnorm._views import NnxApply, Path, modules_of
from jaxnorm.surgery._folded import folded
from jaxnorm.surgery._pairs import Chain, find_chains
from jaxnorm.surgery._paths import by_path
from jaxnorm.typing import PyTree


class FoldedPair(NamedTuple):
    """A linear layer and a batch norm that went into it, as paths such as `block_0/conv_1`.

    Examples:
        >>> FoldedPair("conv_0", "norm_0").norm
        'norm_0'
    """

    layer: str  # path of the Dense, Linear, Conv or ConvTranspose
    norm: str  # path of the batch norm
    side: Literal["after", "before"] = "after"  # where the norm stood, seen from the layer


class Folding(NamedTuple):
    """Variables after folding, and what was folded.

    Examples:
        >>> Folding({}, (), {"norm": "it is called 2 times"}).kept
        {'norm': 'it is called 2 times'}
    """

    variables: dict[str, PyTree]  # the collections of the model, with the changed parameters
    folded: tuple[FoldedPair, ...]  # in the order of the layers' calls
    kept: dict[str, str]  # path of each batch norm that stays as it was -> why
    model: nnx.Module | None = None  # the folded copy of an nnx model


class Passing(nnx.Module):
    """Returns its input, in the place of a norm that was folded.

    Examples:
        >>> Passing()(3, use_running_average=True)
        3
    """

    def __init__(self) -> None:
        pass

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the input.

        Args:
            x: anything.
            *args: what the norm took.
            **kwargs: likewise.

        Returns:
            `x`.
        """
        return x


def fold_batch_norm(
    model: nn.Module | nnx.Module,
    variables: Any = None,
    *args: Any,
    remove: bool = False,
    **kwargs: Any,
) -> Folding:
    """Returns variables in which batch norms are part of the linear layers beside them.

    In evaluation a batch norm is `y = x * s + t` with `s = scale / sqrt(var + epsilon)` and
    `t = bias - mean * s`. The layer before it may have the kernel `kernel * s` and the bias
    `bias * s + t` (Jacob et al., arXiv:1712.05877, 2017, section 3.2), or the layer behind it the
    kernel `s * kernel` and the bias `bias + t @ kernel`: equal to rounding, one pass over the
    activations less. Norms in a row fold together.

    Places are found by tracing a call of the model. A batch norm is folded where the trace proves
    that its input is the output of one Dense, Linear, Conv (depthwise and grouped too) or
    ConvTranspose and that nothing else reads this output. One that has no such layer before it is
    folded into the layer behind it, if only this one reads its output and no zeros are added to it:
    a shift does not reach the zeros with which a convolution pads. Every other one stays as it is
    and is reported.

    Args:
        model: a linen or nnx module.
        variables: of a linen model, `params` and `batch_stats`. An nnx model holds its variables:
            the arguments of the call follow at once.
        *args: the arguments of an evaluating call; a `jax.ShapeDtypeStruct` will do for an array.
        remove: false for a model of the same structure, in which a folded batch norm passes its
            input (mean 0, var 1 - epsilon, scale 1) and adds the shift if the layer before has no
            bias. True for variables of the linen model built without the folded norms, whose layers
            all have a bias (in `jaxnorm.models`: `model.clone(norm=None)`, if every norm is
            folded); in an nnx model `Passing` stands for a folded norm, and layers get a bias.
        **kwargs: keyword arguments of the call, such as `train=False`.

    Returns:
        A `Folding`; arrays keep their dtypes. An nnx model is called in eval mode, and its folded
        copy is in that mode.

    Raises:
        TypeError: a linen model without its variables.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxnorm.linen import BatchNorm
        >>> model = nn.Sequential([nn.Dense(2), BatchNorm(use_running_average=True)])
        >>> variables = model.init(jax.random.key(0), jnp.ones((1, 3)))
        >>> fold_batch_norm(model, variables, jnp.ones((1, 3))).folded
        (FoldedPair(layer='layers_0', norm='layers_1', side='after'),)
    """
    apply: Callable[..., Any]
    if isinstance(model, nnx.Module):
        args = args if variables is None else (variables, *args)
        copy = nnx.clone(model)
        copy.eval()
        apply, variables = NnxApply.of(copy)
    else:
        copy, apply = None, model.apply
        if not isinstance(variables, Mapping):
            raise TypeError(
                f"variables of {type(model).__name__} are a {type(variables).__name__}; call "
                "fold_batch_norm(model, variables, x), since a linen model holds none"
            )
    chains, kept = find_chains(apply, variables, args, kwargs, bias_may_be_made=remove)
    flat = by_path(variables, keep_empty=True)
    for chain in chains:
        flat = folded(flat, chain, remove)
    if copy is not None:
        copy = _folded_tree(copy, flat, chains, remove)
    return Folding(
        variables=unflatten_dict(flat),
        folded=tuple(pair for chain in chains for pair in _pairs(chain)),
        kept={"/".join(norm): reason for norm, reason in kept.items()},
        model=copy,
    )


def _pairs(chain: Chain) -> list[FoldedPair]:
    layer = "/".join(chain.layer)
    before = [FoldedPair(layer, "/".join(norm.path), "before") for norm in chain.before]
    return before + [FoldedPair(layer, "/".join(norm.path)) for norm in chain.after]


def _folded_tree(
    model: nnx.Module, flat: Mapping[Path, Any], chains: list[Chain], remove: bool
) -> nnx.Module:
    """Returns an nnx model with folded variables, folded norms and missing biases exchanged."""
    apply, variables = NnxApply.of(model)
    values = {path: flat.get(path, leaf) for path, leaf in by_path(variables).items()}
    new: Any = apply.model(unflatten_dict(values))
    if not remove:
        return new
    modules = dict(modules_of(new))
    for chain in chains:
        layer: Any = modules[chain.layer]
        if layer.bias is None:
            layer.bias = nnx.Param(flat["params", *chain.layer, "bias"])
            layer.use_bias = True
        for norm in (*chain.before, *chain.after):
            # An attribute: `recursive_map` works on a copy, in which a shared norm has one path.
            modules[norm.path].was_folded = True
    return nnx.recursive_map(_passing_if_folded, new)


def _passing_if_folded(path: Any, node: Any) -> Any:
    return Passing() if getattr(node, "was_folded", False) else node
