"""Equinox: what each of its norms is here. They see one example, channels first."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxnorm.interop._options import NormOptions, affine, last_axes, refused
from jaxnorm.stats import debiased


def _batch(norm: Any) -> NormOptions:
    learned = affine(norm.channelwise_affine, norm.channelwise_affine)
    options = {"epsilon": norm.eps, **learned}
    if norm.mode == "ema":  # running statistics that hold the batch normalize it
        return NormOptions("EMABatchNorm", {**options, "decay": norm.momentum})
    averages = {"momentum": norm.momentum, "estimator": debiased(norm.momentum)}
    return NormOptions("BatchNorm", {**options, **averages})


def _layer(norm: Any) -> NormOptions:
    axes = last_axes(len(norm.shape))
    over = {"reduction_axes": axes, "feature_axes": axes}
    learned = affine(norm.use_weight, norm.use_bias)
    return NormOptions("LayerNorm", {"epsilon": norm.eps, **learned, **over})


def _rms(norm: Any) -> NormOptions:
    axes = last_axes(len(norm.shape))
    over = {"reduction_axes": axes, "feature_axes": axes}
    learned = affine(norm.use_weight, norm.use_bias)
    return NormOptions("RMSNorm", {"epsilon": norm.eps, **learned, **over})


def _group(norm: Any) -> NormOptions:
    learned = affine(norm.channelwise_affine, norm.channelwise_affine)
    return NormOptions("GroupNorm", {"num_groups": norm.groups, "epsilon": norm.eps, **learned})


def _weight(norm: Any) -> NormOptions:
    if norm.axis not in (0, None):
        raise refused(norm, f"has axis={norm.axis}; give feature_axes of the kernel as Flax has it")
    axes = -1 if norm.axis == 0 else None
    return NormOptions("WeightNorm", {"epsilon": 0.0, "feature_axes": axes})


def _spectral(norm: Any) -> NormOptions:
    # Equinox bounds the length of the vectors, ours adds to its square.
    options = {"n_steps": norm.num_power_iterations, "epsilon": norm.eps**2}
    return NormOptions("SpectralNorm", options)


NORMS: Mapping[str, Callable[[Any], NormOptions]] = {
    "BatchNorm": _batch,
    "LayerNorm": _layer,
    "RMSNorm": _rms,
    "GroupNorm": _group,
    "WeightNorm": _weight,
    "SpectralNorm": _spectral,
}
