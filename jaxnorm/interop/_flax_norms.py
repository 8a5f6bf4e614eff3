"""flax.linen and flax.nnx: their norms have our names and arguments."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxnorm.interop._options import NormOptions

SHARED = (
    *("epsilon", "momentum", "axis", "use_bias", "use_scale", "use_running_average"),
    *("num_groups", "group_size", "reduction_axes", "feature_axes", "n_steps"),
    *("dtype", "param_dtype", "axis_name", "axis_index_groups"),
)


def _same(norm: Any) -> NormOptions:
    options = {name: getattr(norm, name) for name in SHARED if hasattr(norm, name)}
    if options.get("group_size") is not None:
        options["num_groups"] = None  # nnx keeps both, and either one is given
    return NormOptions(type(norm).__name__, options)


NAMES = ("BatchNorm", "LayerNorm", "RMSNorm", "GroupNorm", "InstanceNorm")
NORMS: Mapping[str, Callable[[Any], NormOptions]] = dict.fromkeys(
    (*NAMES, "WeightNorm", "SpectralNorm"), _same
)
