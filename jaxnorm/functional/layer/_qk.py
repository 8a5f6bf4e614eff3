"""Query-key normalization: the queries and the keys of each attention head, before their product.

Henry, Dachapally, Pawar, Chen: Query-Key Normalization for Transformers, arXiv:2010.04245, 2020.
"""

from typing import Literal

import jax.numpy as jnp

from jaxnorm.functional._parameters import place
from jaxnorm.numerics import accumulation_dtype, as_array, canonical_axes, real_dtype
from jaxnorm.ops import Implementation, standardize
from jaxnorm.stats import reduced_stats_shape
from jaxnorm.stats.shapes import broadcasting
from jaxnorm.typing import Array, ArrayLike, Axes, DTypeLike


def qk_norm(
    q: ArrayLike,
    k: ArrayLike,
    q_scale: ArrayLike | None = None,
    k_scale: ArrayLike | None = None,
    temperature: ArrayLike | None = None,
    *,
    kind: Literal["l2", "rms", "layer"] = "l2",
    feature_axes: Axes = -1,
    epsilon: float = 1e-6,
    dtype: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> tuple[Array, Array]:
    """Returns queries and keys of one length per position and head, each with its scale.

    `N(q) * q_scale * temperature` and `N(k) * k_scale`, with `N(u) = u / sqrt(mean(u^2) + epsilon)`
    over the last axis for "rms", the same divided by `sqrt(D)` for "l2", so that lengths are 1, and
    of `u - mean(u)` for "layer"; statistics shape `(*batch, H, 1)`, float32 or wider (Henry et al.,
    arXiv:2010.04245, 2020: "l2" and a learned temperature). With "l2", attention takes
    the softmax of the products themselves, without a division by `sqrt(D)`.

    Args:
        q: [*batch, H, D], floating: queries, any axes before the last.
        k: [*batch, G, D], floating: keys, whose number of heads may differ.
        q_scale: [*features] of `q`, or of its rank and broadcastable to it; None for one.
        k_scale: the same for `k`.
        temperature: [], or broadcastable to `q` such as [H, 1]; None for one. The authors start it
            at `log2(L^2 - L)` for sequences of L positions.
        kind: "l2", "rms" (as in Qwen 3 and Gemma 3) or "layer" (as in ViT-22B).
        feature_axes: the axes that [*features] scales belong to: -1 for [D], (-2, -1) for [H, D].
        epsilon: added to the mean square or to the variance, inside the root.
        dtype: of both outputs; that of `q` and that of `k` if None.
        implementation: "xla", "native" (CPU) or None for the faster one.

    Returns:
        Queries [*batch, H, D] and keys [*batch, G, D], of `dtype`.

    Raises:
        ValueError: `kind` is unknown, a shape does not fit, or q and k differ in their last axis.
        TypeError: `q` or `k` is not floating or complex.

    Examples:
        >>> q, k = qk_norm(jnp.array([[3.0, 4.0]]), jnp.array([[0.0, -2.0]]), temperature=10.0)
        >>> q.round(), k.round(3)
        (Array([[6., 8.]], dtype=float32), Array([[ 0., -1.]], dtype=float32))

    Notes:
        The authors add no epsilon. ViT-22B (arXiv:2302.05442) has scales and no biases.
    """
    q, k = as_array(q), as_array(k)
    if kind not in ("l2", "rms", "layer"):
        raise ValueError(f"kind={kind!r} is unknown; use 'l2', 'rms' or 'layer'")
    if not q.ndim or q.shape[-1:] != k.shape[-1:]:
        raise ValueError(
            f"q {list(q.shape)} and k {list(k.shape)} must have the same last axis, the features "
            "of a head"
        )
    normalized = []
    for name, x, scale in (("q", q, q_scale), ("k", k, k_scale)):
        features = canonical_axes(feature_axes, x.ndim, "feature_axes")
        factors = [place(scale, x.shape, features, f"{name}_scale")]
        if name == "q" and temperature is not None:
            factors.append(broadcasting(temperature, x.shape, "temperature"))
        if kind == "l2":
            factors.append(
                jnp.asarray(x.shape[-1] ** -0.5, real_dtype(accumulation_dtype(x.dtype)))
            )
        y, _ = standardize(
            x,
            reduced_stats_shape(x.shape, -1),
            center=kind == "layer",
            scale=_product([factor for factor in factors if factor is not None]),
            epsilon=epsilon,
            dtype=dtype,
            implementation=implementation,
        )
        normalized.append(y)
    return normalized[0], normalized[1]


def _product(factors: list[Array]) -> Array | None:
    """Returns the product in float32 or wider, None where there is nothing to multiply."""
    if len(factors) < 2:
        return factors[0] if factors else None
    product = factors[0].astype(accumulation_dtype(factors[0].dtype))
    for factor in factors[1:]:
        product = product * factor
    return product
