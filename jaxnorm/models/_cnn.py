"""A small convolutional network with the normalization as an argument."""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn

from jaxnorm.models._norms import Activation, Initializer, NormFactory, apply_norm, has_own_bias
from jaxnorm.typing import Array, DTypeLike


class CNN(nn.Module):
    """A plain convolutional network: stages of (3x3 convolution, norm, activation), each pooled.

    After the stages the map is flattened, passes hidden dense layers with the same norm and
    activation, and a dense output. Two stages of one convolution suit digits of 8 to 28 pixels;
    `stages=((64, 64), (128, 128), (256, 256))` is VGG-like (Simonyan and Zisserman, Very Deep
    Convolutional Networks, arXiv:1409.1556, 2014).

    The input of each activation is sown as `intermediates/preactivation_{i}`, counted through the
    convolutions and then the dense layers.

    Args:
        num_outputs: the width of the output.
        stages: the widths of the convolutions of each stage; a 2x2 max-pool ends each stage.
        features: the widths of the hidden dense layers.
        norm: makes the norm of each hidden layer, or its name (see `apply_norm`); None for none.
        activation: the nonlinearity.
        use_bias: whether hidden layers have a bias; None for a bias just where the norm that
            follows has none.
        dropout_rate: share of hidden dense units dropped in training, under the rng `dropout`.
        kernel_init: initializer of all kernels.
        bias_init: initializer of all biases.
        dtype: computation dtype of the hidden layers; None for that of the input and parameters.
            The output is float32 or wider.

    Returns:
        The module. A call on x [N, H, W, C] with `train=False` returns [N, num_outputs].

    Examples:
        >>> import jax
        >>> model = CNN(num_outputs=10, stages=((4,), (8,)), features=(16,))
        >>> y, _ = model.init_with_output(jax.random.key(0), jax.numpy.ones((2, 8, 8, 1)))
        >>> y.shape
        (2, 10)
    """

    num_outputs: int
    stages: Sequence[Sequence[int]] = ((32,), (64,))
    features: Sequence[int] = (128,)
    norm: NormFactory | str | None = None
    activation: Activation = nn.relu
    use_bias: bool | None = None
    dropout_rate: float = 0.0
    kernel_init: Initializer = nn.initializers.he_normal()
    bias_init: Initializer = nn.initializers.zeros
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Returns the outputs of the network.

        Args:
            x: [N, H, W, C], with H and W at least 2 to the power of the number of stages.
            train: batch statistics and dropout if true, running averages and none if false.

        Returns:
            [N, num_outputs], float32 or wider.

        Raises:
            ValueError: x is not a batch of images, or the stages pool it away.

        Examples:
            >>> import jax
            >>> x = jax.numpy.ones((2, 4, 4, 1))
            >>> model = CNN(num_outputs=3, stages=((2,),), features=())
            >>> model.apply(model.init(jax.random.key(0), x), x, train=True).shape
            (2, 3)
        """
        self._check(x)
        init: dict[str, Any] = {"kernel_init": self.kernel_init, "bias_init": self.bias_init}
        hidden: dict[str, Any] = {
            "use_bias": has_own_bias(self.norm, self.use_bias),
            "dtype": self.dtype,
        }
        dense = functools.partial(nn.Dense, **init)
        conv = functools.partial(nn.Conv, kernel_size=(3, 3), **hidden, **init)
        depth = 0
        for widths in self.stages:
            for width in widths:
                x = conv(width, name=f"hidden_{depth}")(x)
                x = self._activate(x, depth, train)
                depth += 1
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        for width in self.features:
            x = dense(width, **hidden, name=f"hidden_{depth}")(x)
            x = self._activate(x, depth, train)
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
            depth += 1
        return dense(self.num_outputs, name="output")(x)

    def _activate(self, x: Array, depth: int, train: bool) -> Array:
        x = apply_norm(self.norm, x, train=train, name=f"norm_{depth}")
        self.sow("intermediates", f"preactivation_{depth}", x)
        return self.activation(x)

    def _check(self, x: Array) -> None:
        least = 2 ** len(self.stages)
        if x.ndim != 4 or min(x.shape[1:3]) < least:
            raise ValueError(
                f"CNN with {len(self.stages)} pooled stages needs images [N, H, W, C] of at least "
                f"{least} x {least} pixels, got x {list(x.shape)}; add the channel axis, "
                "or use fewer stages"
            )
