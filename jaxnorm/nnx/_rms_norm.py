"""Root mean square normalization as an nnx module.

Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import InitVar
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from flax.typing import PromoteDtypeFn
from jax.nn import initializers

from jaxnorm.functional import SPECS
from jaxnorm.nnx._base import Norm
from jaxnorm.typing import ArrayLike, Axes, DTypeLike


@nnx.dataclass(eq=False)
class RMSNorm(Norm):
    """Divides each position by the root mean square of its features: `flax.nnx.RMSNorm`.

    Zhang, Sennrich: Root Mean Square Layer Normalization, arXiv:1910.07467, 2019. The mean square
    is taken in float32 or wider, of the input as it came.

    Args:
        num_features: the size of the feature axis, or one for each of several.
        epsilon: added to the mean square, inside the root.
        dtype: the output's dtype; if None the promotion of input and scale, so that bfloat16 with
            a float32 scale gives float32.
        param_dtype: the dtype of the scale.
        use_scale: whether a scale is learned.
        scale_init: initializer of the scale.
        reduction_axes: the axes that the mean square is taken over.
        feature_axes: the axes that the scale belongs to.
        axis_name: mapped axes over which the statistics are shared.
        axis_index_groups: disjoint, equally large groups of shards to stay within.
        use_fast_variance: without effect, a mean square needs one pass.
        promote_dtype: (inputs, scale), dtype -> the same promoted; decides the dtype of the result,
            and of nothing else.
        rngs: keys.
        scale_metadata: metadata of the scale.

    Examples:
        >>> layer = RMSNorm(2, scale_init=initializers.constant(5.0), rngs=nnx.Rngs(0))
        >>> layer(jnp.array([[1.0, -1.0], [5.0, 5.0]])).round(3)
        Array([[ 5., -5.],
               [ 5.,  5.]], dtype=float32)
    """

    spec = SPECS["rms_norm"]

    num_features: int | Sequence[int]
    _: dataclasses.KW_ONLY
    epsilon: float = 1e-6
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32
    use_scale: bool = True
    scale_init: InitVar[initializers.Initializer] = initializers.ones
    reduction_axes: Axes = -1
    feature_axes: Axes = -1
    axis_name: str | None = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    promote_dtype: PromoteDtypeFn = dtypes.promote_dtype
    rngs: InitVar[nnx.Rngs]
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})

    # As in Flax, whose only norm with a positional mask this is.
    def __call__(self, x: ArrayLike, mask: ArrayLike | None = None) -> jax.Array:
        """Returns `x` with mean square 1 over `reduction_axes`, then scaled.

        Args:
            x: [*batch, C], of any rank from 1.
            mask: see `jaxnorm.nnx.LayerNorm`.

        Returns:
            [*batch, C].
        """
        return super().__call__(x, mask=mask)
