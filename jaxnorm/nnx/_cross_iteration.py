"""Cross-iteration batch normalization as an nnx module that owns the layer before it."""

import dataclasses
from collections.abc import Mapping
from dataclasses import InitVar
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn import initializers

from jaxnorm.functional import SPECS, run
from jaxnorm.nnx._base import RunningNorm, Store, averages
from jaxnorm.nnx._kernels import call_with, parameters
from jaxnorm.typing import ArrayLike, DTypeLike, Shape


@nnx.dataclass(eq=False)
class CrossIterationBatchNorm(RunningNorm):
    """Runs a layer, and normalizes its output over this batch and earlier ones.

    Yao et al., arXiv:2002.05712, 2020: CBN. Earlier batches count with the moments that they have,
    to first order, with the current kernel. The layer's one parameter is a `kernel` with the
    outputs on its last axis: `nnx.Linear` or `nnx.Conv` with `use_bias=False`.

    Examples:
        >>> linear = nnx.Linear(1, 1, use_bias=False, rngs=nnx.Rngs(0))
        >>> norm = CrossIterationBatchNorm(linear, rngs=nnx.Rngs(0))
        >>> abs(norm(jnp.array([[1.0], [3.0]]))).round(2).ravel()
        Array([1., 1.], dtype=float32)
    """

    spec = SPECS["cross_iteration_batch_norm"]

    layer_instance: nnx.Module  # whose output is normalized
    _: dataclasses.KW_ONLY
    use_running_average: bool | None = False  # whether running statistics serve, and stay
    window: int = 4  # how many batches are pooled, this one among them
    decay: float = 0.9  # the weight of the old running statistics
    burn_in_steps: int = 0  # in these first batches each is by itself
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: InitVar[initializers.Initializer] = initializers.zeros  # of the bias
    scale_init: InitVar[initializers.Initializer] = initializers.ones  # of the scale
    rngs: InitVar[nnx.Rngs]  # keys
    bias_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the bias
    scale_metadata: InitVar[Mapping[str, Any]] = MappingProxyType({})  # of the scale

    def __post_init__(self, *given: Any) -> None:
        found = sorted(path[-1] for path in parameters(self.layer_instance))
        if found != ["kernel"]:
            raise ValueError(
                f"CrossIterationBatchNorm needs a layer whose one parameter is a kernel, got one "
                f"with {found}; make it with use_bias=False"
            )
        self.num_features = self.kernel_shape[-1]
        super().__post_init__(*given)

    @property
    def kernel_shape(self) -> Shape:
        """The shape of the layer's kernel."""
        return next(iter(parameters(self.layer_instance).values())).shape

    def __call__(
        self,
        x: ArrayLike,
        use_running_average: bool | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> jax.Array:
        """Returns the layer's output normalized per feature, and updates the state by the batch.

        Args:
            x: the input of the layer.
            use_running_average: whether the running statistics normalize and stay as they are.
            mask: boolean, broadcastable to the output; true where an entry takes part.

        Returns:
            The shape of the layer's output.
        """
        average = averages(self, use_running_average)
        ((path, kernel),) = parameters(self.layer_instance).items()
        kernel = kernel[...]
        y, back = jax.vjp(lambda kernel: call_with(self.layer_instance, {path: kernel}, x), kernel)
        how = {"kernel": kernel, "pullback": lambda g: back(g.astype(y.dtype))[0]}
        return run(self.spec, self, Store(self), y, mask=mask, use_running_average=average, **how)
