"""A multilayer perceptron in nnx with the normalization as an argument."""

import functools
from collections.abc import Sequence

from flax import nnx

from jaxnorm.models._norms import Activation, Initializer, NormFactory
from jaxnorm.models.nnx._norms import has_own_bias, make_norm, normalized
from jaxnorm.typing import Array, DTypeLike


class MLP(nnx.Module):
    """`jaxnorm.models.MLP` in nnx: (dense, norm, activation, dropout) per hidden layer, then dense.

    The layers are `hidden_{i}`, `norm_{i}` and `output`, whose parameters are those of the linen
    model.

    Args:
        in_features: the size of an input, all its axes but the first.
        features: the widths of the hidden layers.
        num_outputs: the width of the output.
        norm: makes the norm of each hidden layer, or its name (see `make_norm`); None for none.
        activation: the nonlinearity.
        use_bias: whether hidden dense layers have a bias; None for a bias just where the norm that
            follows has none.
        dropout_rate: share of hidden units that are dropped in training.
        kernel_init: initializer of all kernels.
        bias_init: initializer of all biases.
        dtype: computation dtype of the hidden layers; None for that of the input and parameters.
            The output is float32 or wider.
        rngs: keys.

    Examples:
        >>> import jax.numpy as jnp
        >>> model = MLP(16, features=(8,), num_outputs=3, norm="batch_norm", rngs=nnx.Rngs(0))
        >>> model(jnp.ones((2, 4, 4))).shape
        (2, 3)
    """

    def __init__(
        self,
        in_features: int,
        features: Sequence[int],
        num_outputs: int,
        *,
        norm: NormFactory | str | None = None,
        activation: Activation = nnx.relu,
        use_bias: bool | None = None,
        dropout_rate: float = 0.0,
        kernel_init: Initializer = nnx.initializers.lecun_normal(),
        bias_init: Initializer = nnx.initializers.zeros,
        dtype: DTypeLike | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        self.depth, self.activation = len(features), activation
        dense = functools.partial(
            nnx.Linear, kernel_init=kernel_init, bias_init=bias_init, rngs=rngs
        )
        for i, width in enumerate(features):
            layer = make_norm(norm, width, rngs=rngs)
            own_bias = has_own_bias(layer, use_bias)
            setattr(self, f"hidden_{i}", dense(in_features, width, use_bias=own_bias, dtype=dtype))
            setattr(self, f"norm_{i}", layer)
            in_features = width
        self.output = dense(in_features, num_outputs)
        self.dropout = nnx.Dropout(dropout_rate, rngs=rngs) if dropout_rate else None

    def __call__(self, x: Array) -> Array:
        """Returns the outputs of the network.

        Args:
            x: [N, ...], flattened from its second axis on.

        Returns:
            [N, num_outputs], float32 or wider.
        """
        x = x.reshape(x.shape[0], -1)
        for i in range(self.depth):
            x = getattr(self, f"hidden_{i}")(x)
            x = self.activation(normalized(getattr(self, f"norm_{i}"), x))
            if self.dropout is not None:
                x = self.dropout(x)
        return self.output(x)
