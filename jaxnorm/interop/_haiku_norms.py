"""Haiku: what each of its norms is here."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxnorm.interop._options import NormOptions, affine, refused
from jaxnorm.stats import debiased


def _batch(norm: Any) -> NormOptions:
    if norm.axis is not None:
        raise refused(norm, "has axis=, the axes that it reduces; give those it keeps as axis")
    decay = norm.mean_ema.decay
    options = {
        "epsilon": norm.eps,
        "axis": norm.channel_index,
        **affine(norm.create_scale, norm.create_offset),
    }
    averages = {"momentum": decay, "estimator": debiased(decay)}
    return NormOptions("BatchNorm", {**options, **averages})


def _axes(axes: Any) -> Any:
    """Returns axes without a slice, which would need the rank of the input."""
    if isinstance(axes, slice):
        raise ValueError(f"axis={axes} depends on the rank of the input; give the axes as numbers")
    return axes


def _layer(norm: Any) -> NormOptions:
    over = {"reduction_axes": _axes(norm.axis), "feature_axes": _axes(norm.param_axis)}
    learned = affine(norm.create_scale, norm.create_offset)
    return NormOptions("LayerNorm", {"epsilon": norm.eps, **learned, **over})


def _instance(norm: Any) -> NormOptions:
    learned = affine(norm.create_scale, norm.create_offset)
    features = {"feature_axes": _axes(norm.param_axis)}
    return NormOptions("InstanceNorm", {"epsilon": norm.eps, **learned, **features})


def _rms(norm: Any) -> NormOptions:
    over = {"reduction_axes": _axes(norm.axis), "feature_axes": _axes(norm.param_axis)}
    return NormOptions("RMSNorm", {"epsilon": norm.eps, "use_scale": norm.create_scale, **over})


def _group(norm: Any) -> NormOptions:
    learned = affine(norm.create_scale, norm.create_offset)
    return NormOptions("GroupNorm", {"num_groups": norm.groups, "epsilon": norm.eps, **learned})


def _spectral(norm: Any) -> NormOptions:
    return NormOptions("SpectralNorm", {"n_steps": norm.n_steps, "epsilon": norm.eps})


NORMS: Mapping[str, Callable[[Any], NormOptions]] = {
    "BatchNorm": _batch,
    "LayerNorm": _layer,
    "InstanceNorm": _instance,
    "RMSNorm": _rms,
    "GroupNorm": _group,
    "SpectralNorm": _spectral,
}
