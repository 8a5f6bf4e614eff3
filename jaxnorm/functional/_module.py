"""The one call of a normalizer by a module: promotion, parameters, state, the call, the update.

`jaxnorm.linen` and `jaxnorm.nnx` differ in where they keep their variables, which is a `Store`.
"""

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxnorm.functional._dtypes import normalizable
from jaxnorm.functional._learning import Store, learn, running_shape, running_stats, step
from jaxnorm.functional._member import Spec
from jaxnorm.numerics import as_array, canonical_axes, real_dtype
from jaxnorm.typing import Array, ArrayLike, Shape


def run(
    spec: Spec,
    layer: Any,
    store: Store,
    x: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    use_running_average: bool = False,
    **given: Any,
) -> Any:
    """Returns what a normalizer makes of `x`, called by a module.

    Args:
        spec: describes the normalizer.
        layer: has a field for each of the `options` of `spec`, and those that go with the
            parameters, the sample and the running statistics.
        store: where the module keeps its variables.
        x: [*shape], real or complex; a kernel for the normalizers of kernels.
        mask: None, or broadcastable to `x`: boolean, integer (an entry that is not zero is valid)
            or floating (the weight of an entry).
        use_running_average: whether running statistics normalize.
        **given: further arguments of the function; a `state` enters into the output's dtype.

    Returns:
        What the function returns; just the output where there are running statistics, which are
        updated in the store.

    Raises:
        ValueError: what the function raises, with the name of the module.
        TypeError: likewise.

    Examples:
        >>> from types import SimpleNamespace
        >>> from jaxnorm.functional import SPECS
        >>> layer = SimpleNamespace(feature_axes=-1, epsilon=0.0, dtype=jnp.float32)
        >>> store = SimpleNamespace(
        ...     label="norm",
        ...     parameter=lambda name, shape: jnp.full(shape, 3.0),
        ...     result_dtype=lambda x, stats, parameters: jnp.float32)
        >>> run(SPECS["weight_standardization"], layer, store, jnp.array([[1.0], [5.0]])).ravel()
        Array([-3.,  3.], dtype=float32)
    """
    with errors_naming(store.label):
        x = as_array(x)
        axes = _feature_axes(spec, layer, x.ndim)
        features = tuple(x.shape[axis] for axis in axes)
        stats = None
        if spec.decay is not None:
            stats = running_stats(spec, layer, store, x, features)
            require_fit(stats.mean, running_shape(spec, layer, features), "mean and var")
        shapes = {name: parameter_shape(spec, layer, name, features) for name in spec.parameters}
        firsts = {name: (first(layer, features),) for name, first in spec.first.items()}
        parameters = {
            name: store.parameter(name, shape, *firsts.get(name, ()))
            for name, shape in shapes.items()
        }
        promoting = (*parameters.values(), *jax.tree.leaves(given.get("state")))
        dtype = store.result_dtype(x, stats or (), promoting)
        call = functools.partial(
            spec.function,
            normalizable(x, real_dtype(dtype) if layer.dtype is None else dtype),
            **{name: _fitted(value, shapes[name], name) for name, value in parameters.items()},
            **{name: getattr(layer, name) for name in spec.options},
            **({} if spec.axes is None else {spec.axes: axes[0] if len(axes) == 1 else axes}),
            **_sample(spec, layer, store, mask),
            **spec.fixed,
            **given,
            dtype=dtype,
        )
        if spec.state is not None:
            return step(spec, layer, store, call, features, use_running_average)
        if stats is None or spec.decay is None:
            return call()
        return learn(layer, store, call, stats, getattr(layer, spec.decay), use_running_average)


def _feature_axes(spec: Spec, layer: Any, ndim: int) -> tuple[int, ...]:
    if spec.axes is None:
        return ()
    axes = getattr(layer, spec.axes, -1)
    return canonical_axes(() if axes is None else axes, ndim, spec.axes)


def _sample(spec: Spec, layer: Any, store: Store, mask: ArrayLike | None) -> dict[str, Any]:
    """Returns the arguments that say what a sample is."""
    if not spec.sample:
        return {}
    sample: dict[str, Any] = {
        "axis_name": None if store.initializing else getattr(layer, "axis_name", None),
        "axis_index_groups": getattr(layer, "axis_index_groups", None),
    }
    sample = {name: value for name, value in sample.items() if name in spec.sample}
    # Flax's fast variance has no correct digit at mean/std 1e4; here both choices are shifted.
    fast = getattr(layer, "use_fast_variance", None)
    if fast is not None:
        sample["variance"] = "one_pass" if fast else "two_pass"
    if mask is None:
        return sample
    mask = jnp.asarray(mask)
    if not jnp.issubdtype(mask.dtype, jnp.inexact):
        return {**sample, "mask": mask.astype(jnp.bool_)}
    if "weights" not in spec.sample:
        raise TypeError(
            f"mask is {mask.dtype} {list(mask.shape)}, which weighs the entries, but this norm "
            "takes no weights; pass a boolean mask"
        )
    return {**sample, "weights": mask}


def parameter_shape(spec: Spec, layer: Any, name: str, features: Shape) -> Shape:
    """Returns the shape in which a module keeps a parameter.

    Args:
        spec: describes the normalizer.
        layer: the module.
        name: the parameter.
        features: [*features].

    Returns:
        `features`, or what `spec` says of this parameter.

    Examples:
        >>> from jaxnorm.functional import SPECS
        >>> parameter_shape(SPECS["layer_norm"], None, "scale", (6,))
        (6,)
    """
    rule = spec.shapes.get(name)
    return features if rule is None else rule(layer, features)


def require_fit(value: Array, sizes: Shape, name: str) -> None:
    """Raises unless a module's variable has one entry for each feature of its input.

    Args:
        value: the variable.
        sizes: [*features].
        name: what the error calls it.

    Returns:
        Nothing.

    Raises:
        ValueError: the number of entries differs.

    Examples:
        >>> require_fit(jnp.arange(4.0), (2, 2), "scale")
    """
    if value.size != math.prod(sizes):
        raise ValueError(
            f"{name} {list(value.shape)} does not fit the features {list(sizes)} of x; give the "
            "module as many features as it was made for"
        )


def _fitted(value: Array | None, shape: Shape, name: str) -> Array | None:
    if value is None:
        return None
    require_fit(value, shape, name)
    return value.reshape(shape)


@contextlib.contextmanager
def errors_naming(label: str) -> Iterator[None]:
    """Puts the module's name before the message of every error about values, shapes and dtypes.

    Args:
        label: the name.

    Yields:
        Nothing.

    Raises:
        ValueError: what was raised inside, with the name.
        TypeError: likewise.

    Examples:
        >>> with errors_naming("encoder/norm"):
        ...     raise ValueError("no samples")
        Traceback (most recent call last):
        ValueError: encoder/norm: no samples
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        # JAX's own subclasses, such as those for leaked tracers, take other arguments.
        if type(error) not in (ValueError, TypeError):
            raise
        raise type(error)(f"{label}: {error}") from error
