"""A multilayer perceptron with the normalization as an argument."""

import functools
from collections.abc import Sequence

import flax.linen as nn

from jaxnorm.models._norms import Activation, Initializer, NormFactory, apply_norm, has_own_bias
from jaxnorm.typing import Array, DTypeLike


class MLP(nn.Module):
    """A multilayer perceptron: (dense, norm, activation, dropout) per hidden layer, then dense.

    With `features=(100, 100, 100)`, `activation=nn.sigmoid` and a small Gaussian `kernel_init` it
    is the network of section 4.1 of Ioffe and Szegedy, Batch Normalization (arXiv:1502.03167,
    2015).

    Each hidden layer sows the input of its activation as `intermediates/preactivation_{i}`: pass
    `mutable=["intermediates"]` to `apply` to get them.

    Args:
        features: the widths of the hidden layers.
        num_outputs: the width of the output.
        norm: makes the norm of each hidden layer, or its name (see `apply_norm`); None for none.
        activation: the nonlinearity.
        use_bias: whether hidden dense layers have a bias; None for a bias just where the norm that
            follows has none.
        dropout_rate: share of hidden units that are dropped in training, under the rng `dropout`.
        kernel_init: initializer of all kernels.
        bias_init: initializer of all biases.
        dtype: computation dtype of the hidden layers; None for that of the input and parameters.
            The output is float32 or wider.

    Returns:
        The module. A call on x [N, ...] with `train=False` returns [N, num_outputs].

    Examples:
        >>> import jax
        >>> model = MLP(features=(16,), num_outputs=3)
        >>> y, _ = model.init_with_output(jax.random.key(0), jax.numpy.ones((2, 4, 4)))
        >>> y.shape
        (2, 3)
    """

    features: Sequence[int]
    num_outputs: int
    norm: NormFactory | str | None = None
    activation: Activation = nn.relu
    use_bias: bool | None = None
    dropout_rate: float = 0.0
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Returns the outputs of the network.

        Args:
            x: [N, ...], flattened from its second axis on.
            train: batch statistics and dropout if true, running averages and none if false.

        Returns:
            [N, num_outputs], float32 or wider.

        Examples:
            >>> import jax
            >>> x = jax.numpy.ones((2, 4))
            >>> params = MLP(features=(), num_outputs=3).init(jax.random.key(0), x)
            >>> MLP(features=(), num_outputs=3).apply(params, x, train=True).shape
            (2, 3)
        """
        dense = functools.partial(nn.Dense, kernel_init=self.kernel_init, bias_init=self.bias_init)
        use_bias = has_own_bias(self.norm, self.use_bias)
        x = x.reshape(x.shape[0], -1)
        for i, width in enumerate(self.features):
            x = dense(width, use_bias=use_bias, dtype=self.dtype, name=f"hidden_{i}")(x)
            x = apply_norm(self.norm, x, train=train, name=f"norm_{i}")
            self.sow("intermediates", f"preactivation_{i}", x)
            x = self.activation(x)
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return dense(self.num_outputs, name="output")(x)
