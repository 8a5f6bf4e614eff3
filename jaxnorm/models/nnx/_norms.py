"""The normalization of an nnx model as an argument: a layer from a factory or a name."""

from typing import Any

from flax import nnx

import jaxnorm.nnx
from jaxnorm.models._norms import (
    NormFactory,
    check_fields,
    is_pointwise,
    names,
    norm_factory,
    takes,
)


def make_norm(
    norm: NormFactory | str | None, num_features: int, *, rngs: nnx.Rngs, **fields: Any
) -> Any:
    """Returns the layer that `norm` makes, or None where `norm` is None.

    The factory gets `num_features`, `rngs` and `use_running_average=False` where it takes them; the
    last only if it has not fixed that already.

    Args:
        norm: a factory such as `jaxnorm.nnx.LayerNorm`,
            `functools.partial(jaxnorm.nnx.BatchNorm, momentum=0.9)` or
            `lambda num_features, rngs: ...`, or a name (see `jaxnorm.models.norm_factory`); None
            for no normalization.
        num_features: C, the size of the last axis of the layer's input.
        rngs: keys.
        **fields: further arguments of the factory, for example `scale_init`.

    Returns:
        A module that is called with x [N, ..., C], or None.

    Raises:
        ValueError: a field is given that the factory does not take, or the name does not fit.

    Examples:
        >>> make_norm("rms_norm", 3, rngs=nnx.Rngs(0)).scale[...]
        Array([1., 1., 1.], dtype=float32)
    """
    factory = norm_factory(norm, room=jaxnorm.nnx)
    check_fields(factory, fields)
    if factory is None:
        return None
    given = {"num_features": num_features, "rngs": rngs}
    given = {name: one for name, one in given.items() if takes(factory, name)}
    chosen = "use_running_average" in getattr(factory, "keywords", {})
    if not chosen and names(factory, "use_running_average"):
        given["use_running_average"] = False
    return factory(**given, **fields)


def make_kernel_norm(
    kernel_norm: NormFactory | str | None, layer: nnx.Module, *, rngs: nnx.Rngs
) -> Any:
    """Returns a layer with its kernels normalized by what `kernel_norm` makes.

    Args:
        kernel_norm: makes a wrapper of the layer, such as `jaxnorm.nnx.WeightStandardization`, or a
            name (see `jaxnorm.models.norm_factory`); None for the layer by itself.
        layer: such as a convolution.
        rngs: keys.

    Returns:
        A module that is called as the layer is.

    Raises:
        ValueError: no norm of kernels has this name.

    Examples:
        >>> import jax.numpy as jnp
        >>> dense = nnx.Linear(2, 1, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
        >>> make_kernel_norm("weight_centralization", dense, rngs=nnx.Rngs(0))(jnp.ones((1, 2)))
        Array([[0.]], dtype=float32)
    """
    factory = norm_factory(kernel_norm, "kernel", room=jaxnorm.nnx)
    if factory is None:
        return layer
    return factory(layer, **({"rngs": rngs} if takes(factory, "rngs") else {}))


def has_own_bias(norm: Any, use_bias: bool | None = None) -> bool:
    """Returns whether the layer before a norm has a bias, as in `jaxnorm.models`.

    Args:
        norm: the layer of `make_norm`.
        use_bias: the user's choice; None for a bias just where the norm has none.

    Returns:
        True for a layer with a bias.

    Examples:
        >>> has_own_bias(make_norm("layer_norm", 2, rngs=nnx.Rngs(0)))
        False
    """
    if use_bias is not None:
        return use_bias
    return not getattr(norm, "use_bias", False) or is_pointwise(type(norm))


def normalized(norm: Any, x: Any) -> Any:
    """Returns x, normalized where there is a norm.

    Args:
        norm: a layer of `make_norm`.
        x: [N, ..., C].

    Returns:
        [N, ..., C].

    Examples:
        >>> normalized(None, 3.0)
        3.0
    """
    return x if norm is None else norm(x)
