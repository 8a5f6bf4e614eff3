"""Scales and biases that make a network sure of what it sees, without labels.

Wang et al.: Tent: Fully Test-Time Adaptation by Entropy Minimization, arXiv:2006.10726, 2020.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from flax.traverse_util import unflatten_dict

from jaxnorm._views import Apply, NnxApply, Path
from jaxnorm.surgery._labels import labels_by_path
from jaxnorm.surgery._paths import by_path
from jaxnorm.typing import Array, PyTree


class TentStep(NamedTuple):
    """What one step of `tent` returns.

    Examples:
        >>> TentStep({}, (), jnp.zeros((2, 10)), jnp.log(10.0)).logits.shape
        (2, 10)
    """

    variables: dict[str, PyTree]  # with new scales and biases of norms
    opt_state: PyTree  # of the optimizer
    logits: Array  # [N, ..., classes], of the batch, from before the step
    entropy: Array  # [], in nats, the mean over the batch, from before the step


class Tent(NamedTuple):
    """Two pure functions.

    Examples:
        >>> Tent(lambda variables: (), lambda variables, opt_state, batch: None).init({})
        ()
    """

    init: Callable[[Mapping[str, PyTree]], PyTree]  # variables -> opt_state
    update: Callable[[Mapping[str, PyTree], PyTree, PyTree], TentStep]  # + opt_state, batch


def tent(apply: Apply | nnx.Module, tx: optax.GradientTransformation) -> Tent:
    """Returns the steps of entropy minimization at test time.

    A step predicts a batch and then moves the scales and biases of the norms down the gradient of
    the mean entropy of the softmax. Batch norms normalize by the batch; running statistics and all
    other parameters stay as they are (Wang et al., arXiv:2006.10726, 2020, section 3).

    Args:
        apply: (variables, batch, mutable=[...]) -> (logits, updated), with the batch norms in train
            mode and dropout off, such as `functools.partial(model.apply, train=True)`; or an nnx
            model, whose variables are `get_variables(model)`.
        tx: the optimizer of scales and biases, such as `optax.adam(1e-3)`.

    Returns:
        A `Tent`: `init(variables)` makes the optimizer's state, `update(variables, opt_state,
        batch)` a `TentStep`. Both may be jitted.

    Raises:
        ValueError: from both functions, if the model has no norm with a scale or a bias.

    Examples:
        >>> from jaxnorm.linen import BatchNorm
        >>> model = BatchNorm(use_running_average=False, use_bias=False)
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
        >>> variables = model.init(jax.random.key(0), x)
        >>> adapt = tent(model.apply, optax.sgd(1.0))
        >>> step = adapt.update(variables, adapt.init(variables), x)
        >>> step.entropy.round(3), step.variables["params"]["scale"].round(3)
        (Array(0.365, dtype=float32), Array([1.21, 1.21], dtype=float32))
    """
    call = NnxApply.of(apply)[0].in_batch_mode() if isinstance(apply, nnx.Module) else apply

    def init(variables: Mapping[str, PyTree]) -> PyTree:
        return tx.init(_adapted(variables))

    def update(variables: Mapping[str, PyTree], opt_state: PyTree, batch: PyTree) -> TentStep:
        def mean_entropy(adapted: dict[Path, Array]) -> tuple[Array, Array]:
            logits, _ = call(_with(variables, adapted), batch, mutable=["batch_stats"])
            return jnp.mean(_entropy(logits)), logits

        adapted = _adapted(variables)
        grad = jax.value_and_grad(mean_entropy, has_aux=True)
        (entropy, logits), gradient = grad(adapted)
        updates, opt_state = tx.update(gradient, opt_state, adapted)
        new: Any = optax.apply_updates(adapted, updates)
        return TentStep(_with(variables, new), opt_state, logits, entropy)

    return Tent(init, update)


def _adapted(variables: Mapping[str, PyTree]) -> dict[Path, Array]:
    """Returns the scales and biases of norms by their paths."""
    params = by_path(variables.get("params", {}))
    found = {
        path: params[path] for path, label in labels_by_path(variables).items() if label == "norm"
    }
    if not found:
        raise ValueError(
            "no norm of the model has a scale or a bias that could be adapted; give a model with "
            "norms that have use_scale=True or use_bias=True"
        )
    return found


def _with(variables: Mapping[str, PyTree], adapted: Mapping[Path, Any]) -> dict[str, PyTree]:
    params = {**by_path(variables["params"], keep_empty=True), **adapted}
    return {**variables, "params": unflatten_dict(params)}


def _entropy(logits: Array) -> Array:
    """Returns the entropy of the softmax, in nats."""
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)
