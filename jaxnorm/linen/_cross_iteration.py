"""Cross-iteration batch normalization as a linen module that owns the layer before it."""

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS, run
from jaxnorm.linen._base import Store, averages
from jaxnorm.typing import Array, ArrayLike, DTypeLike, Shape


class CrossIterationBatchNorm(nn.Module):
    """Runs a layer, and normalizes its output over this batch and earlier ones.

    Yao et al., arXiv:2002.05712, 2020: CBN. Earlier batches count with the moments that they have,
    to first order, with the current kernel. The layer's one parameter is a `kernel` with the
    outputs on its last axis: `nn.Dense` or `nn.Conv` with `use_bias=False`.

    Examples:
        >>> dense, x = nn.Dense(1, use_bias=False), jnp.array([[1.0], [3.0]])
        >>> norm = CrossIterationBatchNorm(dense, use_running_average=False, use_scale=False)
        >>> variables = norm.init(jax.random.key(0), x)
        >>> y, _ = norm.apply(variables, x, mutable=["batch_stats"])
        >>> abs(y).round(2).ravel()
        Array([1., 1.], dtype=float32)
    """

    spec = SPECS["cross_iteration_batch_norm"]

    layer_instance: nn.Module  # whose output is normalized
    use_running_average: bool | None = None  # whether running statistics serve, and stay
    window: int = 4  # how many batches are pooled, this one among them
    decay: float = 0.9  # the weight of the old running statistics
    burn_in_steps: int = 0  # in these first batches each is by itself
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype; if None what input and parameters give
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale

    @property
    def kernel_shape(self) -> Shape:
        """The shape of the layer's kernel, once it is made."""
        return jnp.shape(_kernel(self))

    @nn.compact
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

        Raises:
            ValueError: the layer has other parameters than a kernel, or as in `BatchNorm`.
        """
        average = averages(self, use_running_average)
        if self.is_initializing():
            self.layer_instance(x)  # type: ignore[reportCallIssue]  # a linen module is called
        kernel, alone = _kernel(self), self.layer_instance.clone(parent=None)

        def output(kernel: Array) -> Array:
            return cast(Array, alone.apply({"params": {"kernel": kernel}}, x))

        y, back = jax.vjp(output, kernel)
        how = {"kernel": kernel, "pullback": lambda g: back(g.astype(y.dtype))[0]}
        return run(self.spec, self, Store(self), y, mask=mask, use_running_average=average, **how)


# A function, not a method: `nn.tabulate` calls every method of a module that was called, by itself.
def _kernel(norm: Any) -> Array:
    params = nn.meta.unbox(norm.layer_instance.variables.get("params", {}))
    if set(params) != {"kernel"}:
        raise ValueError(
            f"{Store(norm).label} needs a layer whose one parameter is a kernel, got one with "
            f"{sorted(params)}; make it with use_bias=False"
        )
    return params["kernel"]
