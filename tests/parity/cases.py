"""What is compared with PyTorch: normalizers, shapes, dtypes and inputs, as data."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxnorm import batch_norm, ema, group_norm, instance_norm, layer_norm, rms_norm

EPSILON = 1e-5
GROUPS = 3
# Odd sizes, channels second as in PyTorch.
SHAPES = {2: (7, 9), 3: (5, 9, 7), 4: (3, 9, 5, 3), 5: (3, 9, 3, 5, 1)}


class Norm(NamedTuple):
    """A normalizer as both libraries call it."""

    ours: Callable  # (x, scale, bias) -> y
    torch: Callable  # (torch.nn.functional, x, weight, bias) -> y
    stats_shape: Callable  # of an array with channels second
    parameter_axes: Callable  # the axes of x that scale and bias stand on
    center: bool = True
    ranks: tuple[int, ...] = (2, 3, 4, 5)


def trained(x, scale, bias):
    stats = ema().init(x.shape[1:2])
    call = {"axis": 1, "epsilon": EPSILON, "use_running_average": False}
    return batch_norm(x, stats, scale, bias, **call)[0]


def last_axes(ndim):
    """Returns what layer norm takes together: the last axis, or the last two of an image."""
    return (ndim - 1,) if ndim < 4 else (ndim - 2, ndim - 1)


def over_last(norm):
    def call(x, scale, bias):
        axes = last_axes(x.ndim)
        return norm(x, scale, bias, reduction_axes=axes, feature_axes=axes, epsilon=EPSILON)

    return call


def last_reduced(shape):
    return tuple(1 if a in last_axes(len(shape)) else n for a, n in enumerate(shape))


def channel(ndim):
    return (1,)


NORMS = {
    "batch": Norm(
        trained,
        lambda f, x, w, b: f.batch_norm(x, None, None, w, b, training=True, eps=EPSILON),
        lambda shape: (1, shape[1], *(1 for _ in shape[2:])),
        channel,
    ),
    "layer": Norm(
        over_last(layer_norm),
        lambda f, x, w, b: f.layer_norm(x, w.shape, w, b, eps=EPSILON),
        last_reduced,
        last_axes,
    ),
    "rms": Norm(
        over_last(rms_norm),
        lambda f, x, w, b: f.rms_norm(x, w.shape, w, eps=EPSILON) + b,
        last_reduced,
        last_axes,
        center=False,
    ),
    "group": Norm(
        lambda x, s, b: group_norm(x, s, b, num_groups=GROUPS, axis=1, epsilon=EPSILON),
        lambda f, x, w, b: f.group_norm(x, GROUPS, w, b, eps=EPSILON),
        lambda shape: (shape[0], GROUPS, *(1 for _ in shape[2:])),
        channel,
    ),
    "instance": Norm(
        lambda x, s, b: instance_norm(x, s, b, feature_axes=1, epsilon=EPSILON),
        lambda f, x, w, b: f.instance_norm(x, weight=w, bias=b, eps=EPSILON),
        lambda shape: (*shape[:2], *(1 for _ in shape[2:])),
        channel,
        ranks=(3, 4, 5),
    ),
}

DTYPES = {
    "float16": jnp.float16,
    "bfloat16": jnp.bfloat16,
    "float32": jnp.float32,
    "float64": jnp.float64,
}
# Mean and standard deviation, where half precision has less room than float32.
INPUTS = {
    "normal": lambda dtype: (0.5, 1.0),
    "offset": lambda dtype: {"float64": (1e8, 1.0), "float32": (1e4, 1.0)}.get(dtype, (400.0, 8.0)),
    "constant": lambda dtype: (3.3, 0.0),
    "tiny": lambda dtype: (0.0, 1e-4 if dtype == "float16" else 1e-17),
    "huge": lambda dtype: (0.0, {"float16": 1e4, "float64": 1e150}.get(dtype, 1e15)),
}


class Case(NamedTuple):
    """One comparison."""

    norm: str
    ndim: int
    dtype: str
    input: str


CASES = [
    Case(norm, ndim, dtype, kind)
    for norm, row in NORMS.items()
    for ndim in row.ranks
    for dtype in DTYPES
    # All ranks in float32, where rounding is nobody's excuse; two of them in the others.
    if dtype == "float32" or ndim in (3, 4)
    for kind in INPUTS
]


def arrays(case):
    """Returns x, scale, bias and a cotangent, exact in the dtype of the case, as float64."""
    norm, shape = NORMS[case.norm], SHAPES[case.ndim]
    rng = np.random.default_rng(sum(map(ord, "".join(map(str, case)))))
    mean, std = INPUTS[case.input](case.dtype)
    features = tuple(shape[a] for a in norm.parameter_axes(case.ndim))
    drawn = (
        rng.normal(mean, 1, shape) if std == 1 else mean + std * rng.normal(size=shape),
        rng.normal(1, 0.3, features),
        rng.normal(size=features),
        rng.normal(size=shape),
    )
    return [v.astype(DTYPES[case.dtype]).astype(np.float64) for v in drawn]
