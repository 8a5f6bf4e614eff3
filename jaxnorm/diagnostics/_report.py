"""All measures of a model side by side, one row per layer."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, overload

import jax.numpy as jnp
from flax import nnx

from jaxnorm._views import Apply, aligned, opened
from jaxnorm.diagnostics._capture import Layers, layer_values
from jaxnorm.diagnostics._gap import EVALUATE, TRAIN, train_eval_gap
from jaxnorm.diagnostics._gradients import Loss, layer_gradients
from jaxnorm.diagnostics._percentiles import percentiles
from jaxnorm.diagnostics._statistics import statistics_distance
from jaxnorm.diagnostics._units import saturation
from jaxnorm.typing import Array, PyTree

_NORM_EPSILON = 1e-5  # Flax's default: features that vary less look constant to a norm


class LayerRow(NamedTuple):
    """The measures of one layer; not a number where a measure does not apply.

    Examples:
        >>> LayerRow("norm", -1.0, 0.0, 1.0, 0.25, *[math.nan] * 6).dead
        0.25
    """

    layer: str  # path of the module
    low: float  # 15th percentile of the outputs in train mode, the median over units
    middle: float  # 50th percentile
    high: float  # 85th percentile
    dead: float  # share of units that no example sends any gradient to
    saturated: float  # share of outputs on which the given nonlinearity is flat
    gradient: float  # root mean square of the loss's gradient with respect to the outputs
    param_gradient: float  # norm of the loss's gradient with respect to the layer's parameters
    shift: float  # running from population mean, in standard deviations
    log_ratio: float  # natural logarithm of running over population variance, without its sign
    gap: float  # train from eval outputs, in standard deviations


class Report(NamedTuple):
    """A model on a batch, layer by layer.

    Examples:
        >>> Report((), train_loss=0.5, eval_loss=0.75).to_text().splitlines()[-1]
        'loss in train mode 0.5, in eval mode 0.75'
    """

    rows: tuple[LayerRow, ...]  # in the order of the calls
    train_loss: float  # on the batch, in the call's train mode
    eval_loss: float  # on the same batch in eval mode

    def to_text(self) -> str:
        """Returns the report as a table of plain text, one line per layer.

        Returns:
            Lines of equal length, a dash where a measure does not apply, and the losses below.

        Examples:
            >>> row = LayerRow("norm", -1.0, 0.0, 1.0, 0.25, *[float("nan")] * 6)
            >>> print(Report((row,), 0.5, 0.75).to_text().splitlines()[-1])
            loss in train mode 0.5, in eval mode 0.75
        """
        body = [[row.layer, *map(_number, row[1:])] for row in self.rows]
        table = aligned([[name.replace("_", " ") for name in LayerRow._fields], *body])
        losses = f"{_number(self.train_loss)}, in eval mode {_number(self.eval_loss)}"
        return f"{table}\nloss in train mode {losses}"


@overload
def diagnose(
    apply: nnx.Module,
    batch: PyTree,
    loss: Loss,
    /,
    *,
    train: Mapping[str, Any] = ...,
    evaluate: Mapping[str, Any] = ...,
    activation: Callable[[Array], Array] | None = None,
    population: PyTree | None = None,
    layers: Layers = None,
) -> Report: ...


@overload
def diagnose(
    apply: Apply,
    variables: Mapping[str, PyTree],
    batch: PyTree,
    loss: Loss,
    *,
    train: Mapping[str, Any] = ...,
    evaluate: Mapping[str, Any] = ...,
    activation: Callable[[Array], Array] | None = None,
    population: PyTree | None = None,
    layers: Layers = None,
) -> Report: ...


def diagnose(
    apply: Any,
    variables: Any = None,
    batch: Any = None,
    loss: Any = None,
    *,
    train: Mapping[str, Any] = TRAIN,
    evaluate: Mapping[str, Any] = EVALUATE,
    activation: Callable[[Array], Array] | None = None,
    population: PyTree | None = None,
    layers: Layers = None,
) -> Report:
    """Returns what is going on in each layer of a model on one batch.

    Args:
        apply: (variables, batch, mutable=[...], **mode) -> (output, updated), as `model.apply`; or
            an nnx model, which takes the place of the variables too.
        variables: of a linen model.
        batch: the model's input.
        loss: output of the model -> loss [], for example the mean cross-entropy to the labels.
        train: keyword arguments of a call in train mode, with `rngs` where a linen model needs any;
            `train` sets the mode of an nnx model.
        evaluate: keyword arguments of a call in eval mode.
        activation: the nonlinearity behind the layers, for the share of saturated outputs.
        population: `batch_stats` to compare the running statistics with, for example those of
            `jaxnorm.surgery.recalibrate`, or an nnx model that has them.
        layers: paths of modules, or a function that picks them; see `layer_values`.

    Returns:
        A `Report`; `print(report.to_text())` shows it, `draw_report` draws it.

    Examples:
        >>> import flax.linen as nn
        >>> model, x = nn.Dense(1, name="dense"), jnp.array([[3.0], [4.0]])
        >>> variables = {"params": {"kernel": jnp.ones((1, 1)), "bias": jnp.zeros(1)}}
        >>> report = diagnose(model.apply, variables, x, jnp.mean, train={}, evaluate={})
        >>> report.train_loss, report.rows[0].dead
        (3.5, 0.0)
        >>> model = nnx.Linear(1, 1, kernel_init=nnx.initializers.ones, rngs=nnx.Rngs(0))
        >>> diagnose(model, x, jnp.mean).train_loss
        3.5
    """
    apply, variables, batch, loss = opened(diagnose, apply, variables, batch, loss)
    values = layer_values(apply, variables, batch, layers=layers, **train)
    gradients = layer_gradients(apply, variables, batch, loss, layers=layers, **train)
    gaps = train_eval_gap(apply, variables, batch, train=train, evaluate=evaluate, layers=layers)
    distances = {}
    if population is not None:
        running = variables.get("batch_stats", {})
        distances = statistics_distance(running, population, epsilon=_NORM_EPSILON)
    rows = []
    for name, gradient in gradients.items():
        output = values[name].output
        flat = None if activation is None else saturation(output, activation).saturated
        distance = distances.get(name)
        rows.append(
            LayerRow(
                name,
                *jnp.median(percentiles(output), axis=1).tolist(),
                dead=float(jnp.mean(gradient.dead)),
                saturated=math.nan if flat is None else float(jnp.mean(flat)),
                gradient=float(jnp.sqrt(jnp.mean(gradient.output**2))),
                param_gradient=float(gradient.params),
                shift=math.nan if distance is None else float(distance.shift),
                log_ratio=math.nan if distance is None else float(distance.log_ratio),
                gap=float(gaps.get(name, math.nan)),
            )
        )
    losses = [_loss(apply, variables, batch, loss, mode) for mode in (train, evaluate)]
    return Report(tuple(rows), *losses)


def _loss(
    apply: Apply, variables: Mapping[str, PyTree], batch: PyTree, loss: Loss, mode: Any
) -> float:
    output, _ = apply(variables, batch, mutable=["batch_stats"], **mode)
    return float(loss(output))


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3g}"
