"""The one function over the tables of norms of all frameworks."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxnorm.interop import _equinox_norms, _flax_norms, _haiku_norms, _keras_norms, _torch_norms
from jaxnorm.interop._options import NormOptions

# Package -> name of a class -> what makes the options of one of its objects.
TABLES: Mapping[str, Mapping[str, Callable[[Any], NormOptions]]] = {
    "torch": _torch_norms.NORMS,
    "haiku": _haiku_norms.NORMS,
    "equinox": _equinox_norms.NORMS,
    "keras": _keras_norms.NORMS,
    "flax": _flax_norms.NORMS,
}


def norm_options(layer: Any) -> NormOptions:
    """Returns the class and the arguments of ours that do what a norm of another framework does.

    Weights do not say what they are for: epsilon, the direction of momentum and the correction of
    the running variance are in the code. PyTorch's momentum 0.1 is our 0.9, its running variance
    is unbiased (`estimator=ema(0.9, unbiased=True)`), its `momentum=None` an average over batches.

    Args:
        layer: a norm of PyTorch, Flax, Haiku (inside of `transform`), Equinox or Keras; for weight
            and spectral norm of PyTorch the parametrization, `module.parametrizations.weight[0]`.

    Returns:
        The name and the arguments; features are on the last axis here.

    Raises:
        ValueError: no module of ours does the same, with the reason.
        TypeError: the object is no norm that is known.

    Examples:
        >>> import flax.linen as nn
        >>> norm_options(nn.GroupNorm(num_groups=4, use_bias=False)).options["num_groups"]
        4
    """
    packages = [cls.__module__.split(".")[0] for cls in type(layer).__mro__]
    for cls, package in zip(type(layer).__mro__, packages, strict=True):
        if cls.__name__ in TABLES.get(package, {}):
            return TABLES[package][cls.__name__](layer)
    known = next((p for p in packages if p in TABLES), None)
    if known is None:
        raise TypeError(
            f"{type(layer).__name__} is no norm of {', '.join(TABLES)}; give a layer of one of them"
        )
    raise TypeError(
        f"{type(layer).__name__} is no norm of {known} that is known; those that are known are "
        f"{', '.join(TABLES[known])}"
    )
