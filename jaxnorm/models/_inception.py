"""The Inception network of the batch normalization paper with the normalization as an argument."""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxnorm.linen import BatchNorm
from jaxnorm.models._norms import Activation, Initializer, NormFactory, apply_norm, has_own_bias
from jaxnorm.typing import Array, DTypeLike


class InceptionBranches(NamedTuple):
    """The widths of one Inception module: a row of the paper's figure 5, in its order.

    Examples:
        >>> row = InceptionBranches("3a", 64, 64, 64, 64, 96, "average", 32)
        >>> row.point + row.single + row.double + row.project
        256
    """

    name: str  # for example 3a
    point: int  # of the 1x1 branch; 0 for none
    reduce_single: int  # of the 1x1 convolution before the 3x3
    single: int  # of the 3x3 branch
    reduce_double: int  # of the 1x1 convolution before the two 3x3
    double: int  # of the branch of two 3x3, both
    pool: Literal["average", "max"]  # of 3x3 pixels
    project: int  # of the 1x1 convolution after the pool; 0 passes the pool through
    strides: int = 1  # of the last convolution of the branches and of the pool


INCEPTION_MODULES = (
    InceptionBranches("3a", 64, 64, 64, 64, 96, "average", 32),
    InceptionBranches("3b", 64, 64, 96, 64, 96, "average", 64),
    InceptionBranches("3c", 0, 128, 160, 64, 96, "max", 0, strides=2),
    InceptionBranches("4a", 224, 64, 96, 96, 128, "average", 128),
    InceptionBranches("4b", 192, 96, 128, 96, 128, "average", 128),
    InceptionBranches("4c", 160, 128, 160, 128, 160, "average", 96),
    InceptionBranches("4d", 96, 128, 192, 160, 192, "average", 96),
    InceptionBranches("4e", 0, 128, 192, 192, 256, "max", 0, strides=2),
    InceptionBranches("5a", 352, 192, 320, 160, 224, "average", 128),
    InceptionBranches("5b", 352, 192, 320, 192, 224, "max", 128),
)


class InceptionModule(nn.Module):
    """Four branches side by side: 1x1, 3x3, two 3x3 in a row, and a 3x3 pool, concatenated.

    Two 3x3 convolutions take the place of the 5x5 of GoogLeNet: Ioffe and Szegedy, Batch
    Normalization (arXiv:1502.03167, 2015), appendix. Each convolution is followed by the norm and
    the activation, whose input is sown as `intermediates/preactivation` in a child of its own name.

    Args:
        branches: the widths, the kind of pool and the strides.
        norm: makes the norms (see `apply_norm`); None for none.
        activation: the nonlinearity.
        kernel_init: initializer of the kernels.
        dtype: computation dtype; None for that of the input and parameters.

    Returns:
        The module. A call on x [N, H, W, C] returns [N, H', W', K] with H' = ceil(H / strides) and
        K the sum of the branches' widths, C among them where the pool is passed through.

    Examples:
        >>> import jax
        >>> module = InceptionModule(InceptionBranches("a", 0, 2, 3, 2, 4, "max", 0, strides=2))
        >>> y, _ = module.init_with_output(jax.random.key(0), jnp.ones((2, 8, 8, 5)))
        >>> y.shape
        (2, 4, 4, 12)
    """

    branches: InceptionBranches
    norm: NormFactory | None = None
    activation: Activation = nn.relu
    kernel_init: Initializer = nn.initializers.he_normal()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Returns the concatenated branches.

        Args:
            x: [N, H, W, C].
            train: whether batch statistics are used, and running averages updated.

        Returns:
            [N, H', W', K].

        Examples:
            >>> import jax
            >>> module = InceptionModule(InceptionBranches("a", 1, 2, 3, 2, 4, "average", 5))
            >>> module.init_with_output(jax.random.key(0), jnp.ones((2, 4, 4, 3)))[0].shape
            (2, 4, 4, 13)
        """
        b = self.branches
        outputs = []
        if b.point:
            outputs.append(self._unit(b.point, "point", train)(x))
        y = self._unit(b.reduce_single, "reduce_single", train)(x)
        outputs.append(self._unit(b.single, "single", train, 3, b.strides)(y))
        y = self._unit(b.reduce_double, "reduce_double", train)(x)
        y = self._unit(b.double, "double_0", train, 3)(y)
        outputs.append(self._unit(b.double, "double_1", train, 3, b.strides)(y))
        y = _pool(x, b.pool, b.strides)
        outputs.append(self._unit(b.project, "project", train)(y) if b.project else y)
        return jnp.concatenate(outputs, axis=-1)

    def _unit(self, width: int, name: str, train: bool, size: int = 1, strides: int = 1) -> Any:
        fields = (self.norm, self.activation, self.kernel_init, self.dtype)
        return functools.partial(_Unit(width, size, strides, 0, *fields, name=name), train=train)


class Inception(nn.Module):
    """The Inception variant of the batch normalization paper: stem, ten modules, mean pool, dense.

    Ioffe and Szegedy, Batch Normalization (arXiv:1502.03167, 2015), section 4.2 and figure 5. The
    stem is a large convolution, a max-pool, a 1x1 and a 3x3 convolution and a max-pool. The norm
    stands between each convolution and its activation. `inception_224` is the published size
    and `inception_64` a smaller one. The two classifiers that GoogLeNet trains at its side
    are left out.

    The paper's network without batch norm is `norm=None` with dropout and a local response norm.

    Args:
        num_outputs: the width of the output.
        norm: makes every norm (see `apply_norm`); None for none.
        activation: the nonlinearity, for example `flax.linen.sigmoid`.
        modules: the Inception modules, in order.
        width: factor of all widths of convolutions.
        stem_size: height and width of the first kernel.
        stem_strides: of the first convolution.
        stem_multiplier: the first convolution is separable, with that many filters per input
            channel, as in the paper; 0 for an ordinary one.
        stem_pools: whether the first and the second max-pool, of stride 2, are there.
        stem_norm: makes a norm of activations after the first pool and before the second, where
            GoogLeNet has local response norms; None for none.
        dropout_rate: share of the features dropped in training, under the rng `dropout`.
        kernel_init: initializer of the convolutions' kernels.
        dtype: computation dtype of the convolutions; None for that of the input and parameters.
            The output is float32 or wider.

    Returns:
        The module. A call on x [N, H, W, C] with `train=False` returns [N, num_outputs].

    Examples:
        >>> import jax
        >>> model = Inception(10, width=1 / 64, stem_size=3, stem_multiplier=0)
        >>> images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
        >>> jax.eval_shape(model.init_with_output, jax.random.key(0), images)[0].shape
        (2, 10)
    """

    num_outputs: int
    norm: NormFactory | None = BatchNorm
    activation: Activation = nn.relu
    modules: Sequence[InceptionBranches] = INCEPTION_MODULES
    width: float = 1.0
    stem_size: int = 7
    stem_strides: int = 2
    stem_multiplier: int = 8
    stem_pools: tuple[bool, bool] = (True, True)
    stem_norm: NormFactory | None = None
    dropout_rate: float = 0.0
    kernel_init: Initializer = nn.initializers.he_normal()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Array:
        """Returns the outputs of the network.

        Args:
            x: [N, H, W, C].
            train: batch statistics and dropout if true, running averages and none if false.

        Returns:
            [N, num_outputs], float32 or wider.

        Raises:
            ValueError: x is not a batch of images.

        Examples:
            >>> import jax
            >>> model, x = Inception(3, modules=(), width=1 / 16), jnp.ones((2, 8, 8, 1))
            >>> model.apply(model.init(jax.random.key(0), x), x).shape
            (2, 3)
        """
        if x.ndim != 4:
            raise ValueError(f"Inception needs images [N, H, W, C], got x {list(x.shape)}")
        x = self._stem(x, train)
        for branches in self.modules:
            module = InceptionModule(
                self._scaled(branches),
                self.norm,
                self.activation,
                self.kernel_init,
                self.dtype,
                name=f"inception_{branches.name}",
            )
            x = module(x, train=train)
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.Dense(self.num_outputs, name="output")(x)

    def _stem(self, x: Array, train: bool) -> Array:
        def unit(width: int, name: str, size: int, strides: int = 1, multiplier: int = 0) -> Any:
            fields = (self.norm, self.activation, self.kernel_init, self.dtype)
            module = _Unit(self._channels(width), size, strides, multiplier, *fields, name=name)
            return functools.partial(module, train=train)

        first, second = self.stem_pools
        x = unit(64, "conv_1", self.stem_size, self.stem_strides, self.stem_multiplier)(x)
        x = _pool(x, "max", 2) if first else x
        x = apply_norm(self.stem_norm, x, train=train, name="stem_norm_1")
        x = unit(64, "conv_2_reduce", 1)(x)
        x = unit(192, "conv_2", 3)(x)
        x = apply_norm(self.stem_norm, x, train=train, name="stem_norm_2")
        return _pool(x, "max", 2) if second else x

    def _channels(self, width: int) -> int:
        return max(1, round(self.width * width)) if width else 0

    def _scaled(self, b: InceptionBranches) -> InceptionBranches:
        widths = {name: self._channels(n) for name, n in b._asdict().items() if name in _WIDTHS}
        return b._replace(**widths)


class _Unit(nn.Module):
    """Convolution, norm, activation."""

    width: int
    size: int
    strides: int
    multiplier: int  # filters per channel of a depthwise convolution before a 1x1; 0 for neither
    norm: NormFactory | None
    activation: Activation
    kernel_init: Initializer
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        conv = functools.partial(nn.Conv, kernel_init=self.kernel_init, dtype=self.dtype)
        size, strides = (self.size, self.size), self.strides
        if self.multiplier:
            channels, wide = x.shape[-1], self.multiplier * x.shape[-1]
            x = conv(
                wide, size, strides, feature_group_count=channels, use_bias=False, name="depthwise"
            )(x)
            size, strides = (1, 1), 1
        x = conv(self.width, size, strides, use_bias=has_own_bias(self.norm, None), name="conv")(x)
        x = apply_norm(self.norm, x, train=train, name="norm")
        self.sow("intermediates", "preactivation", x)
        return self.activation(x)


_WIDTHS = ("point", "reduce_single", "single", "reduce_double", "double", "project")


def _pool(x: Array, kind: str, strides: int) -> Array:
    window: dict[str, Any] = {"strides": (strides, strides), "padding": "SAME"}
    if kind == "max":
        return nn.max_pool(x, (3, 3), **window)
    return nn.avg_pool(x, (3, 3), **window, count_include_pad=False)


def inception_224(num_outputs: int = 1000, **fields: Any) -> Inception:
    """Returns the network of the paper's figure 5, of 11.2 million parameters.

    Ioffe and Szegedy (arXiv:1502.03167, 2015), appendix. The modules see maps of 28, 14 and 7
    pixels.

    Args:
        num_outputs: the width of the output.
        **fields: further fields of `Inception`, for example `norm`.

    Returns:
        The module, for images [N, 224, 224, 3].

    Examples:
        >>> len(inception_224().modules)
        10
    """
    return Inception(num_outputs, **fields)


def inception_64(num_outputs: int = 200, **fields: Any) -> Inception:
    """Returns half as wide a network for 64 x 64 images, of 2.6 million parameters.

    A first convolution of 3x3 with stride 1, and no second pool: the modules see maps of 32, 16 and
    8 pixels, about those of `inception_224`.

    Args:
        num_outputs: the width of the output.
        **fields: further fields of `Inception`, for example `norm`.

    Returns:
        The module, for images [N, 64, 64, 3].

    Examples:
        >>> inception_64(norm=None).width
        0.5
    """
    own = {"stem_size": 3, "stem_strides": 1, "stem_multiplier": 0, "stem_pools": (True, False)}
    return Inception(num_outputs, **{"width": 0.5, **own, **fields})
