"""The running statistics of a module: how they start, serve and take in a batch."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp

from jaxnorm.functional._dtypes import mean_dtype, stats_dtype
from jaxnorm.functional._kept import STATE, Kept, Update, beside, has_memory, of_shape
from jaxnorm.functional._member import Spec
from jaxnorm.numerics import accumulation_dtype
from jaxnorm.stats import BatchStats, Estimator, cumulative, ema
from jaxnorm.typing import Array, ArrayLike, DTypeLike, Shape

Target = Literal["batch_stats", "batch_moments"]
"""What a batch enters: the running statistics, or moments that are collected for later."""

Tree = TypeVar("Tree")


@runtime_checkable
class Store(Protocol):
    """Where a module keeps its variables, and what it may do with them in this call."""

    label: str  # what errors call the module
    initializing: bool  # whether this call makes the variables

    def parameter(self, name: str, shape: Shape, first: float = 0.0) -> Array | None:
        """Returns a parameter as it is stored, made of `shape` if need be; None if it is unused.

        `first` is what it starts at where the module has no initializer for it.
        """
        ...

    def result_dtype(self, x: ArrayLike, stats: Any, parameters: Any) -> jnp.dtype:
        """Returns the dtype of the output for an input, running statistics and parameters."""
        ...

    def complex_as(self, x: Array) -> DTypeLike | None:
        """Returns the dtype that decides whether the running mean is complex."""
        ...

    def read(self, name: str, start: Callable[[], Any], target: Target = "batch_stats") -> Any:
        """Returns a part of the state, made by `start` if need be."""
        ...

    def write(self, name: str, value: Any, target: Target = "batch_stats") -> None:
        """Changes a part of the state to a value of its structure."""
        ...

    def target(self, use_running_average: bool) -> Target | None:
        """Returns what the batch enters, None where nothing is learned from it."""
        ...


def starts(
    spec: Spec, layer: Any, shape: Shape, complex_as: DTypeLike | None
) -> dict[str, Callable[[], Any]]:
    """Returns the parts of the state of a module, each by what makes it.

    Args:
        spec: describes the normalizer.
        layer: has the fields `param_dtype` and, for running statistics, `estimator`.
        shape: [*features].
        complex_as: a complex dtype where the running mean is complex.

    Returns:
        The fields of the state where `spec` has a state. Else `mean` (zeros), `var` (ones) and,
        where the estimator has a state of its own, that.

    Examples:
        >>> from types import SimpleNamespace
        >>> from jaxnorm.functional import SPECS
        >>> layer = SimpleNamespace(param_dtype=jnp.float32, estimator=cumulative())
        >>> list(starts(SPECS["batch_norm"], layer, (2,), None))
        ['mean', 'var', 'estimator_state']
    """
    if spec.state is not None:
        return _fields_of(spec.state(layer, shape))
    shape = running_shape(spec, layer, shape)
    kept = stats_dtype(layer)
    mean = mean_dtype(complex_as, kept)
    parts = {
        "mean": functools.partial(jnp.zeros, shape, mean),
        "var": functools.partial(jnp.ones, shape, kept),
    }
    if has_memory(layer.estimator):
        parts[STATE] = functools.partial(layer.estimator.init, shape, mean)
    return parts


def running_shape(spec: Spec, layer: Any, shape: Shape) -> Shape:
    """Returns the shape in which a module keeps its running mean and variance.

    Args:
        spec: describes the normalizer.
        layer: the module.
        shape: [*features].

    Returns:
        `shape`, or what `spec` says.

    Examples:
        >>> from jaxnorm.functional import SPECS
        >>> running_shape(SPECS["batch_norm"], None, (2,))
        (2,)
    """
    return shape if spec.running is None else spec.running(layer, shape)


def step(
    spec: Spec,
    layer: Any,
    store: Store,
    call: functools.partial[tuple[Any, Any]],
    shape: Shape,
    use_running_average: bool,
) -> Any:
    """Returns the output of a normalizer with a state of its own, which may move on.

    Args:
        spec: says how the state starts.
        layer: the module.
        store: where the module keeps the fields of the state.
        call: the normalizer, with all but its state and what is said of it.
        shape: [*features].
        use_running_average: whether the state normalizes and stays as it is.

    Returns:
        The output.

    Raises:
        ValueError: the moments of the batch are asked for, which enter no such state.

    Examples:
        >>> from types import SimpleNamespace
        >>> from jaxnorm.stats import BatchStats
        >>> first = BatchStats(jnp.zeros(2), jnp.ones(2))
        >>> spec = SimpleNamespace(state=lambda layer, shape: first)
        >>> store = SimpleNamespace(target=lambda average: None, read=lambda name, start: start())
        >>> call = functools.partial(lambda x, state, **how: (x - state.mean, state), jnp.ones(2))
        >>> step(spec, None, store, call, (2,), use_running_average=True)
        Array([1., 1.], dtype=float32)
    """
    target = store.target(use_running_average)
    if target == "batch_moments":
        raise ValueError(
            "the moments of a batch cannot enter the state of this norm later; leave "
            "batch_moments out of the mutable collections"
        )
    first = spec.state(layer, shape)  # type: ignore[reportOptionalCall] is called with a state only
    values = {name: store.read(name, start) for name, start in _fields_of(first).items()}
    state = first._replace(**values)
    y, new = call(state, use_running_average=use_running_average, update_stats=target is not None)
    if target is not None:
        for name, value in new._asdict().items():
            store.write(name, value)
    return y


def _fields_of(state: Any) -> dict[str, Callable[[], Any]]:
    """Returns the fields of a NamedTuple, each by what gives it."""
    return {name: functools.partial(getattr, state, name) for name in state._fields}


def running_stats(spec: Spec, layer: Any, store: Store, x: Array, shape: Shape) -> BatchStats:
    """Returns the running mean and variance of a module, made where they are not there yet.

    Args:
        spec: describes the normalizer.
        layer: see `starts`.
        store: where the module keeps them.
        x: the input.
        shape: [*features].

    Returns:
        The mean is complex where the input is, or where the module was made for complex inputs.

    Examples:
        >>> from types import SimpleNamespace
        >>> store = SimpleNamespace(
        ...     initializing=False, complex_as=lambda x: x.dtype, read=lambda name, start: start())
        >>> layer = SimpleNamespace(param_dtype=jnp.float32, estimator=None)
        >>> from jaxnorm.functional import SPECS
        >>> running_stats(SPECS["batch_norm"], layer, store, jnp.ones((8, 2)), (2,)).var
        Array([1., 1.], dtype=float32)
    """
    kept, like = stats_dtype(layer), store.complex_as(x)
    if accumulation_dtype(kept) != kept:
        warnings.warn(
            f"{store.label} keeps running statistics in {kept}, where a step is soon too small to "
            "change them; leave force_float32_reductions=True",
            stacklevel=2,
        )
    parts = starts(spec, layer, shape, like)
    names = parts if store.initializing else ("mean", "var")
    values = {name: store.read(name, parts[name]) for name in names}
    mean, var = values["mean"], values["var"]
    # Flax starts the mean as real, also for complex inputs.
    return BatchStats(mean.astype(jnp.promote_types(mean.dtype, mean_dtype(like, var.dtype))), var)


def learn(
    layer: Any,
    store: Store,
    call: functools.partial[tuple[Array, Any]],
    stats: BatchStats,
    decay: float,
    use_running_average: bool,
) -> Array:
    """Returns the output of a normalizer with running statistics, which may take in the batch.

    Args:
        layer: has the field `estimator`: None, or how the batch enters.
        store: where the module keeps its state.
        call: the normalizer, with all but its state and what is said of it.
        stats: the running statistics.
        decay: the weight of the old ones, where there is no estimator.
        use_running_average: whether they normalize.

    Returns:
        The output.

    Raises:
        TypeError: the input is complex, but the running mean is not.

    Examples:
        >>> from types import SimpleNamespace
        >>> from jaxnorm.functional import batch_norm
        >>> layer = SimpleNamespace(estimator=None)
        >>> store = SimpleNamespace(initializing=False, target=lambda average: None)
        >>> call = functools.partial(batch_norm, jnp.array([[3.0]]), epsilon=0.0)
        >>> learn(layer, store, call, ema().init((1,)), 0.99, use_running_average=True)
        Array([[3.]], dtype=float32)
    """
    target = store.target(use_running_average)
    x = call.args[0]
    if target is not None and mean_dtype(x.dtype, stats.mean.dtype) != stats.mean.dtype:
        raise TypeError(
            f"x is {x.dtype}, but the running mean is {stats.mean.dtype} and keeps its dtype; pass "
            "a complex dtype to the constructor"
        )
    estimator, state = _how(layer, store, stats, decay, target, x.dtype)
    y, new = call(
        state,
        estimator=of_shape(estimator, stats.mean.shape),
        use_running_average=use_running_average,
        update_stats=target is not None,
        single_value="running" if store.initializing else "warn",
    )
    if target == "batch_stats":
        store.write("mean", new.mean)
        store.write("var", new.var)
        if isinstance(new, Kept):
            store.write(STATE, new.memory)
    elif target == "batch_moments":
        store.write("moments", new.memory, target)
    return y


def constant(tree: Tree) -> Tree:
    """Returns `tree` as a constant for derivatives.

    Args:
        tree: arrays in any structure.

    Returns:
        The same values.

    Examples:
        >>> jax.grad(lambda x: x * constant(x))(3.0)
        Array(3., dtype=float32, weak_type=True)
    """
    return jax.lax.stop_gradient(tree)


def _how(
    layer: Any, store: Store, stats: BatchStats, decay: float, target: Target | None, dtype: Any
) -> tuple[Estimator, BatchStats | Kept]:
    """Returns the estimator that takes in the batch, and its state."""
    if target == "batch_moments":
        if layer.estimator is None:
            store.read("decay", lambda: jnp.asarray(decay, jnp.float32), target)
        else:
            store.read("update", lambda: Update(layer.estimator), target)
        start = functools.partial(cumulative().init, stats.mean.shape, dtype)
        return beside(cumulative()), Kept(*stats, store.read("moments", start, target))
    if target is None or not has_memory(layer.estimator):
        return ema(decay) if layer.estimator is None or target is None else layer.estimator, stats
    start = functools.partial(layer.estimator.init, stats.mean.shape, stats.mean.dtype)
    return beside(layer.estimator), Kept(*stats, store.read(STATE, start))
