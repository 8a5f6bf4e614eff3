"""Keras 3: what each of its norms is here. Its epsilon is 1e-3 where it is not given."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxnorm.interop._options import NormOptions, affine, refused


def _axes(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list | tuple) and len(axis) > 1 else _one(axis)


def _one(axis: Any) -> int:
    return axis[0] if isinstance(axis, list | tuple) else axis


def _batch(norm: Any) -> NormOptions:
    if getattr(norm, "renorm", False):
        raise refused(norm, "with renorm=True is batch renormalization; use BatchRenorm")
    options = {
        "epsilon": norm.epsilon,
        "momentum": norm.momentum,
        "axis": norm.axis,
        **affine(norm.scale, norm.center),
    }
    # A frozen layer normalizes by its running statistics in training as well.
    frozen = {} if norm.trainable else {"use_running_average": True}
    return NormOptions("BatchNorm", {**options, **frozen})


def _layer(norm: Any) -> NormOptions:
    if getattr(norm, "rms_scaling", False):
        raise refused(norm, "with rms_scaling=True divides by the deviation; it is no norm of ours")
    axes = _axes(norm.axis)
    over = {"reduction_axes": axes, "feature_axes": axes}
    learned = affine(norm.scale, norm.center)
    return NormOptions("LayerNorm", {"epsilon": norm.epsilon, **learned, **over})


def _group(norm: Any) -> NormOptions:
    if norm.axis != -1:
        raise refused(norm, f"has its channels on axis {norm.axis}; ours has them last")
    options = {"epsilon": norm.epsilon, **affine(norm.scale, norm.center)}
    # Keras's -1, one group for each channel, is our group of one.
    size = (
        {"num_groups": None, "group_size": 1} if norm.groups == -1 else {"num_groups": norm.groups}
    )
    return NormOptions("GroupNorm", {**size, **options})


def _rms(norm: Any) -> NormOptions:
    axes = _axes(norm.axis)
    over = {"reduction_axes": axes, "feature_axes": axes}
    return NormOptions("RMSNorm", {"epsilon": norm.epsilon, **over})


def _unit(norm: Any) -> NormOptions:
    # Keras divides by the root of at least 1e-12.
    return NormOptions(
        "ScaleNorm", {"epsilon": 1e-6, "use_scale": False, "reduction_axes": _axes(norm.axis)}
    )


def _spectral(norm: Any) -> NormOptions:
    return NormOptions("SpectralNorm", {"n_steps": norm.power_iterations})


NORMS: Mapping[str, Callable[[Any], NormOptions]] = {
    "BatchNormalization": _batch,
    "LayerNormalization": _layer,
    "GroupNormalization": _group,
    "RMSNormalization": _rms,
    "UnitNormalization": _unit,
    "SpectralNormalization": _spectral,
}
