"""Variants of batch normalization as linen modules."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn import initializers

from jaxnorm.functional import SPECS, run
from jaxnorm.linen._base import Norm, RunningNorm, Store, averages
from jaxnorm.stats import Estimator, Variance
from jaxnorm.typing import ArrayLike, Axes, AxisIndexGroups, AxisName, DTypeLike


class BatchRenorm(RunningNorm):
    """Normalizes each feature by the batch, corrected towards the running statistics.

    Ioffe: Batch Renormalization, arXiv:1702.03275, 2017. The bounds of the correction are fields or
    arguments of the call, which may be traced: `jaxnorm.batch_renorm_schedule(step)` has the
    paper's.

    Examples:
        >>> layer = BatchRenorm(d_max=2.5, use_running_average=False)
        >>> x = jnp.array([[1.0], [5.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> y, _ = layer.apply(variables, x, mutable=["batch_stats"])
        >>> y.ravel().round(2)
        Array([0.5, 4.5], dtype=float32)
    """

    spec = SPECS["batch_renorm"]

    use_running_average: bool | None = None  # whether running statistics normalize
    r_max: float = 3.0  # the largest ratio of standard deviations, at least 1
    d_max: float = 5.0  # the largest shift of the mean in running standard deviations
    axis: Axes = -1  # the feature axes
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None

    @nn.compact
    def __call__(
        self,
        x: ArrayLike,
        use_running_average: bool | None = None,
        *,
        mask: ArrayLike | None = None,
        r_max: ArrayLike | None = None,
        d_max: ArrayLike | None = None,
    ) -> jax.Array:
        """Returns `x` normalized per feature, and updates the running statistics by the batch.

        Args:
            x: [N, *spatial, *features] (or features at `axis`).
            use_running_average: whether the running statistics normalize.
            mask: broadcastable to `x`; an entry's part in the statistics, or its weight.
            r_max: [], the bound of the ratio in this call; the field if None.
            d_max: [], the bound of the shift in this call; the field if None.

        Returns:
            The shape of `x`.
        """
        bounds = {
            "r_max": self.r_max if r_max is None else r_max,
            "d_max": self.d_max if d_max is None else d_max,
        }
        average = averages(self, use_running_average)
        store = Store(self)
        return run(self.spec, self, store, x, mask=mask, use_running_average=average, **bounds)


class EMABatchNorm(RunningNorm):
    """Normalizes each feature by running statistics that hold the batch, in training too.

    Kidger, Garcia: Equinox: neural networks in JAX via callable PyTrees, arXiv:2111.00254, 2021
    (`mode="ema"` of its batch norm). The gradient sees the batch by the share `1 - decay`.

    Examples:
        >>> layer = EMABatchNorm(decay=0.5, use_running_average=False)
        >>> x = jnp.array([[1.0], [3.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> y, _ = layer.apply(variables, x, mutable=["batch_stats"])
        >>> y.ravel().round(2)
        Array([0., 2.], dtype=float32)
    """

    spec = SPECS["ema_batch_norm"]

    use_running_average: bool | None = None  # whether running statistics normalize
    axis: Axes = -1  # the feature axes
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None


class MeanOnlyBatchNorm(RunningNorm):
    """Subtracts from each feature its mean over the batch, beside weight-normalized kernels.

    Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016, section 4. The running variance
    is kept, as every estimator has one, but normalizes nothing.

    Examples:
        >>> layer = MeanOnlyBatchNorm(use_running_average=False)
        >>> x = jnp.array([[1.0], [5.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> y, _ = layer.apply(variables, x, mutable=["batch_stats"])
        >>> y.ravel()
        Array([-2.,  2.], dtype=float32)
    """

    spec = SPECS["mean_only_batch_norm"]

    use_running_average: bool | None = None  # whether running statistics normalize
    axis: Axes = -1  # the feature axes
    decay: float = 0.99  # the weight of the old running statistics
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None


class VirtualBatchNorm(Norm):
    """Normalizes each example by a reference batch, which goes through the network beside it.

    Salimans et al.: Improved Techniques for Training GANs, arXiv:1606.03498, 2016, section 3.4. A
    layer returns the reference batch as well, normalized by itself, for the layer that follows.

    Examples:
        >>> layer, x, reference = VirtualBatchNorm(), jnp.array([[4.0]]), jnp.array([[0.0], [2.0]])
        >>> layer.init_with_output(jax.random.key(0), x, reference)[0][0].round(3)
        Array([[1.225]], dtype=float32)
    """

    spec = SPECS["virtual_batch_norm"]

    include_example: bool = True  # whether an example is in the sample that normalizes it
    axis: Axes = -1  # the feature axes, not the first
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"

    @nn.compact
    def __call__(
        self,
        x: ArrayLike,
        reference: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        reference_mask: ArrayLike | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns `x` normalized by the reference batch, and that batch normalized by itself.

        Args:
            x: [N, *spatial, *features] (or features at `axis`).
            reference: [R, *spatial, *features].
            mask: broadcastable to `x`; an entry's part in the statistics, or its weight.
            reference_mask: boolean, broadcastable to `reference`.

        Returns:
            The shapes of `x` and of `reference`.
        """
        given = {"reference": reference, "reference_mask": reference_mask}
        return run(self.spec, self, Store(self), x, mask=mask, **given)


class SplitBatchNorm(RunningNorm):
    """Normalizes each feature within each split of the batch; evaluation uses the first split's.

    Xie et al.: Adversarial Examples Improve Image Recognition, arXiv:1911.09665, 2019. Scale, bias
    and running statistics are [num_splits, *features].

    Examples:
        >>> layer = SplitBatchNorm(use_running_average=False)
        >>> x = jnp.array([[1.0], [3.0], [10.0], [30.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> y, _ = layer.apply(variables, x, mutable=["batch_stats"])
        >>> y.ravel().round(2)
        Array([-1.,  1., -1.,  1.], dtype=float32)
    """

    spec = SPECS["split_batch_norm"]

    use_running_average: bool | None = None  # whether running statistics normalize
    num_splits: int = 2  # contiguous parts of the batch in training, the main one first
    shared_affine: bool = False  # whether one scale and bias serve all splits
    axis: Axes = -1  # the feature axes, not the first
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None


class DomainBatchNorm(RunningNorm):
    """Normalizes each feature by the examples of one domain, with all that belongs to a domain.

    Chang et al.: Domain-Specific Batch Normalization, arXiv:1906.03950, 2019. Scale, bias and
    running statistics are [num_domains, *features]; the call takes the domain of each example.

    Examples:
        >>> ids = jnp.array([0, 1, 0, 1])
        >>> layer = DomainBatchNorm(num_domains=2, use_running_average=False)
        >>> x = jnp.array([[1.0], [10.0], [3.0], [30.0]])
        >>> variables = layer.init(jax.random.key(0), x, domain=ids)
        >>> y, _ = layer.apply(variables, x, domain=ids, mutable=["batch_stats"])
        >>> y.ravel().round(2)
        Array([-1., -1.,  1.,  1.], dtype=float32)
    """

    spec = SPECS["domain_batch_norm"]

    num_domains: int  # how many domains
    use_running_average: bool | None = None  # whether running statistics normalize
    shared_affine: bool = False  # whether one scale and bias serve all domains
    axis: Axes = -1  # the feature axes, not the first
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None

    @nn.compact
    def __call__(
        self,
        x: ArrayLike,
        use_running_average: bool | None = None,
        *,
        domain: ArrayLike,
        mask: ArrayLike | None = None,
    ) -> jax.Array:
        """Returns `x` normalized per feature and domain, and updates the running statistics.

        Args:
            x: [N, *spatial, *features] (or features at `axis`).
            use_running_average: whether the running statistics normalize.
            domain: [N] or [], integers, which may be traced; one out of range marks padding.
            mask: broadcastable to `x`; an entry's part in the statistics, or its weight.

        Returns:
            The shape of `x`.
        """
        average = averages(self, use_running_average)
        given = {"use_running_average": average, "domain": domain}
        return run(self.spec, self, Store(self), x, mask=mask, **given)


class RecurrentBatchNorm(RunningNorm):
    """Normalizes one time step over the batch, with running statistics of each step.

    Cooijmans et al.: Recurrent Batch Normalization, arXiv:1603.09025, 2016. Running statistics are
    [max_steps, *features]; the call takes the step. Scale starts at 0.1 as in the paper.

    Examples:
        >>> layer = RecurrentBatchNorm(max_steps=4, use_running_average=False)
        >>> x = jnp.array([[1.0], [3.0]])
        >>> variables = layer.init(jax.random.key(0), x, step=0)
        >>> y, _ = layer.apply(variables, x, step=0, mutable=["batch_stats"])
        >>> y.ravel().round(1)
        Array([-0.1,  0.1], dtype=float32)
    """

    spec = SPECS["recurrent_batch_norm"]

    max_steps: int  # how many steps have running statistics of their own
    use_running_average: bool | None = None  # whether running statistics normalize
    axis: Axes = -1  # the feature axes, not the first
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.constant(0.1)  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None

    @nn.compact
    def __call__(
        self,
        x: ArrayLike,
        use_running_average: bool | None = None,
        *,
        step: ArrayLike,
        mask: ArrayLike | None = None,
    ) -> jax.Array:
        """Returns `x` normalized per feature, and updates the running statistics of the step.

        Args:
            x: [N, *spatial, *features] (or features at `axis`).
            use_running_average: whether the running statistics normalize.
            step: [], integer from zero, which may be traced; beyond `max_steps` the last serves.
            mask: broadcastable to `x`; an entry's part in the statistics, or its weight.

        Returns:
            The shape of `x`.
        """
        average = averages(self, use_running_average)
        given = {"use_running_average": average, "step": step}
        return run(self.spec, self, Store(self), x, mask=mask, **given)


class L1BatchNorm(RunningNorm):
    """Normalizes each feature over the batch by its mean absolute deviation.

    Wu et al.: L1-Norm Batch Normalization, arXiv:1802.09769, 2018. The running statistics are
    `mean` and `deviation`.

    Examples:
        >>> layer = L1BatchNorm(use_running_average=False)
        >>> x = jnp.array([[1.0], [5.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> y, _ = layer.apply(variables, x, mutable=["batch_stats"])
        >>> y.ravel().round(1)
        Array([-0.8,  0.8], dtype=float32)
    """

    spec = SPECS["l1_batch_norm"]

    use_running_average: bool | None = None  # whether running statistics normalize
    axis: Axes = -1  # the feature axes
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the deviation
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"


class BatchGroupNorm(RunningNorm):
    """Normalizes groups of channels and positions over the batch.

    Zhou et al.: Batch Group Normalization, arXiv:2012.02782, 2020. Running statistics are
    [num_groups].

    Examples:
        >>> layer = BatchGroupNorm(num_groups=2, use_running_average=False)
        >>> x = jnp.array([[1.0, 3.0, 8.0, 4.0]])
        >>> variables = layer.init(jax.random.key(0), x)
        >>> y, _ = layer.apply(variables, x, mutable=["batch_stats"])
        >>> y.round(2)
        Array([[-1.,  1.,  1., -1.]], dtype=float32)
    """

    spec = SPECS["batch_group_norm"]

    num_groups: int  # contiguous groups of channels and positions
    use_running_average: bool | None = None  # whether running statistics normalize
    axis: int = -1  # the channel axis, not the first
    decay: float = 0.99  # the weight of the old running statistics
    epsilon: float = 1e-5  # added to the variance
    dtype: DTypeLike | None = None  # the output's dtype
    param_dtype: DTypeLike = jnp.float32  # of the parameters
    use_bias: bool = True  # whether a bias is learned
    use_scale: bool = True  # whether a scale is learned
    bias_init: initializers.Initializer = initializers.zeros  # of the bias
    scale_init: initializers.Initializer = initializers.ones  # of the scale
    axis_name: AxisName | None = None  # of shards that share statistics
    axis_index_groups: AxisIndexGroups = None  # groups of shards to stay within
    variance: Variance = "one_pass"  # or "two_pass" or "fast"
    estimator: Estimator | None = None  # of the running statistics; ema(decay) if None
