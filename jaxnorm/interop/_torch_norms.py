"""PyTorch: what each of its norms is here. Channels are second there and last here."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxnorm.interop._optional import require
from jaxnorm.interop._options import NormOptions, affine, last_axes, refused
from jaxnorm.stats import ema
from jaxnorm.surgery import average_of_batches


def _batch(norm: Any) -> NormOptions:
    options = {"epsilon": norm.eps, **affine(norm.weight is not None, norm.bias is not None)}
    if not norm.track_running_stats:  # there are none: the batch normalizes in evaluation too
        return NormOptions("BatchNorm", {**options, "use_running_average": False})
    if norm.momentum is None:  # every batch weighs the same
        return NormOptions("BatchNorm", {**options, "estimator": average_of_batches()})
    decay = 1 - norm.momentum
    # The running variance is unbiased, though the batch is normalized by the biased one.
    averages = {"momentum": decay, "estimator": ema(decay, unbiased=True)}
    return NormOptions("BatchNorm", {**options, **averages})


def _instance(norm: Any) -> NormOptions:
    if norm.track_running_stats:
        raise refused(
            norm,
            "with track_running_stats=True averages the variances within images, which no module "
            f"of ours does; BatchNorm(use_running_average=True, epsilon={norm.eps}) evaluates it, "
            "and GhostBatchNorm(ghost_batch_size=1) has its outputs in training too, though its "
            "running variance also counts how the means of the images differ",
        )
    learned = affine(norm.weight is not None, norm.bias is not None)
    return NormOptions("InstanceNorm", {"epsilon": norm.eps, **learned})


def _layer(norm: Any) -> NormOptions:
    axes = last_axes(len(norm.normalized_shape))
    over = {"reduction_axes": axes, "feature_axes": axes}
    learned = affine(norm.weight is not None, norm.bias is not None)
    return NormOptions("LayerNorm", {"epsilon": norm.eps, **learned, **over})


def _rms(norm: Any) -> NormOptions:
    axes, epsilon = last_axes(len(norm.normalized_shape)), norm.eps
    if epsilon is None:  # that of the dtype it computes in
        torch = require("torch", "the epsilon of RMSNorm")
        dtype = torch.get_default_dtype() if norm.weight is None else norm.weight.dtype
        epsilon = torch.finfo(dtype).eps
    options = {"epsilon": epsilon, "use_scale": norm.weight is not None}
    return NormOptions("RMSNorm", {**options, "reduction_axes": axes, "feature_axes": axes})


def _group(norm: Any) -> NormOptions:
    learned = affine(norm.weight is not None, norm.bias is not None)
    return NormOptions("GroupNorm", {"num_groups": norm.num_groups, "epsilon": norm.eps, **learned})


def _response(norm: Any) -> NormOptions:
    options = {name: getattr(norm, name) for name in ("size", "alpha", "beta", "k")}
    return NormOptions("LocalResponseNorm", {**options, "average": True})


def _weight(norm: Any) -> NormOptions:
    if norm.dim not in (0, -1, None):
        raise refused(norm, f"has dim={norm.dim}; give feature_axes of the kernel as Flax has it")
    axes = -1 if norm.dim == 0 else None
    return NormOptions("WeightNorm", {"epsilon": 0.0, "feature_axes": axes})


def _spectral(norm: Any) -> NormOptions:
    # PyTorch bounds the length of the vectors, ours adds to its square.
    return NormOptions("SpectralNorm", {"n_steps": norm.n_power_iterations, "epsilon": norm.eps**2})


NORMS: Mapping[str, Callable[[Any], NormOptions]] = {
    "BatchNorm1d": _batch,
    "BatchNorm2d": _batch,
    "BatchNorm3d": _batch,
    "SyncBatchNorm": _batch,  # under jit the batch is the whole batch; in shard_map give axis_name
    "InstanceNorm1d": _instance,
    "InstanceNorm2d": _instance,
    "InstanceNorm3d": _instance,
    "LayerNorm": _layer,
    "RMSNorm": _rms,
    "GroupNorm": _group,
    "LocalResponseNorm": _response,
    "_WeightNorm": _weight,
    "_SpectralNorm": _spectral,
    "WeightNorm": _weight,  # the hooks of the functions before the parametrizations
    "SpectralNorm": _spectral,
}
