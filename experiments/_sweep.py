"""Sweeps: many small networks that train at once in one compiled program.

The networks of a `Group` share an architecture and an optimizer. They differ in numbers (a weight
scale, a learning rate, weight decay) and in their seed. A group has a network for every trial with
every seed. `vmap` adds two axes, seeds [S] and trials [T], to everything that training changes.
`scan` takes many steps per dispatch. The trials of one seed start from the same random numbers and
see the same batches, so the data are gathered once for all trials.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnorm.linen import BatchNorm
from jaxnorm.models import NormFactory
from jaxnorm.training import (
    Metrics,
    TrainState,
    create_train_state,
    cross_entropy,
    make_eval_step,
    make_evaluation,
    make_scan_steps,
    make_train_step,
)

from ._run import Run
from ._seeds import last
from ._tables import Row, ordered, read_table, select
from ._trainer import Measured, Point, train
from .data import Dataset

# These networks train for a few hundred steps. A decay of 0.9 forgets the initial statistics
# within them.
NORMS: dict[str, NormFactory | None] = {
    "none": None,
    "batch": functools.partial(BatchNorm, momentum=0.9),
}
NORM_LABELS = {"none": "without batch norm", "batch": "with batch norm"}

Hyper = Mapping[str, jax.Array]
"""Numbers by name: [] for one network, [S, T] for a group."""

Build = Callable[[Hyper], tuple[nn.Module, optax.GradientTransformation]]
"""The numbers of one network -> its model and optimizer."""

Data = dict[str, jax.Array]
"""`inputs` [N, P] float32 from 0 to 1 and `labels` [N], on the device."""

_EVALUATED_AT_A_TIME = 1000
# vmap's axes of the state. The trials of a seed share its step and its key.
TRIAL_AXES: Any = TrainState._make((None, 0, 0, 0, None, 0))


class Sweep(NamedTuple):
    """Compiled functions of networks that train on the same data, over seeds and trials at once."""

    start: Callable[[Hyper, jax.Array], TrainState]  # numbers [S, T], keys [S] -> states
    advance: Callable[[Hyper, TrainState, Data], tuple[TrainState, Metrics]]  # metrics [S, T]
    evaluate: Callable[[Hyper, TrainState, Data], Metrics]  # -> loss and accuracy [S, T]
    predict: Callable[[Hyper, TrainState, jax.Array], jax.Array]  # -> probabilities [S, T, N, K]
    advance_one: Callable[[Hyper, TrainState, Data], tuple[TrainState, Metrics]]  # one network
    build: Build
    data: Data
    steps: int  # of one advance


@dataclasses.dataclass(frozen=True)
class Group:
    """Networks that train at once.

    Attributes:
        name: Names their checkpoints and their rows.
        sweep: Their compiled functions.
        seeds: One for each of the first axis, [S].
        trials: Names along the second axis, [T].
        hyper: Numbers by name, broadcastable to [S, T].
    """

    name: str
    sweep: Sweep
    seeds: tuple[int, ...]
    trials: Sequence[str | int] = ("",)
    hyper: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def numbers(self) -> dict[str, jax.Array]:
        """The numbers of all networks, [S, T] float32."""
        shape = (len(self.seeds), len(self.trials))
        # A group without numbers has one all the same, which gives vmap its axes.
        hyper = self.hyper or {"": 0.0}
        return {
            name: jnp.broadcast_to(jnp.asarray(values, jnp.float32), shape)
            for name, values in hyper.items()
        }

    def start(self) -> TrainState:
        """Return the states [S, T, ...] of fresh networks."""
        return self.sweep.start(self.numbers, jax.vmap(jax.random.key)(jnp.asarray(self.seeds)))

    def evaluate(self, states: TrainState, data: Data) -> Metrics:
        """Return loss and accuracy [S, T]."""
        return self.sweep.evaluate(self.numbers, states, data)

    def predict(self, states: TrainState, inputs: jax.Array) -> jax.Array:
        """Return the probabilities of the classes, [S, T, N, K]."""
        return self.sweep.predict(self.numbers, states, inputs)

    def train(
        self,
        run: Run,
        measure: Callable[[Point], Measured],
        *,
        points: Sequence[int],
        start: Callable[[], TrainState] | None = None,
        **options: Any,
    ) -> TrainState:
        """Train by `_trainer.train`. The metrics [S, T] of a point are means over an advance.

        Args:
            run: takes tables, scalars and checkpoints, and shows progress.
            measure: returns the rows of a point.
            points: training steps at which to measure.
            start: returns the first states; None for fresh networks.
            **options: of `_trainer.train`.
        """
        advance = functools.partial(self.sweep.advance, self.numbers)
        return train(
            run,
            self.name,
            start or self.start,
            lambda states: advance(states, self.sweep.data),
            measure,
            points=points,
            where={"group": self.name},
            steps=self.sweep.steps,
            **options,
        )

    def rows(self, **columns: Any) -> list[Row]:
        """Return a row per network of numbers [S, T] by column."""
        arrays = {name: np.asarray(values) for name, values in columns.items()}
        return [
            {
                **({} if trial == "" else {"trial": trial}),
                "seed": seed,
                **{name: array[s, t] for name, array in arrays.items()},
            }
            for s, seed in enumerate(self.seeds)
            for t, trial in enumerate(self.trials)
        ]

    def curves(self, **measured: Metrics) -> Measured:
        """Return the rows of the table `curves`, whose columns are `train_loss` and so on.

        Args:
            **measured: metrics [S, T] by split.
        """
        columns = {
            f"{split}_{name}": np.asarray(values)
            for split, metrics in measured.items()
            for name, values in sorted(metrics.items())
        }
        means = {
            f"{name}/{trial}": values[:, t].mean()
            for name, values in columns.items()
            for t, trial in enumerate(self.trials)
        }
        name, values = next(iter(columns.items()))
        remark = f"{name.replace('_', ' ')} {np.nanmedian(values):.3g}"
        return Measured({"curves": self.rows(**columns)}, remark, means)

    def train_curves(
        self, run: Run, test: Data, *, points: int, train: Data | None = None
    ) -> TrainState:
        """Train, and record the table `curves`: loss and accuracy on both splits.

        Args:
            run: the run whose table it is.
            test: the test images.
            points: number of times to advance and measure. The start is measured, too.
            train: the training images that are measured; None for all that are trained on.
        """
        parts = {"train": self.sweep.data if train is None else train, "test": test}

        def measure(point: Point) -> Measured:
            return self.curves(
                **{split: self.evaluate(point.state, part) for split, part in parts.items()}
            )

        return self.train(run, measure, points=every(self.sweep.steps, points))

    def compare_speed(self) -> dict[str, float]:
        """Time one `advance` of all networks at once, and of one network, times their number.

        Both are compiled before. Both take the same steps over the same data. The best of three
        times counts, since other work on the machine can only add to it.

        Returns:
            `networks`, `steps`, `at_once_s`, `one_by_one_s` and `speedup`.
        """
        sweep, numbers, states = self.sweep, self.numbers, self.start()
        # The arrays that the trials of a seed share get a trial axis of length one.
        each = states._replace(step=states.step[:, None], rng=states.rng[:, None])
        one_hyper, one_state = jax.tree.map(lambda leaf: leaf[0, 0], (numbers, each))
        networks = len(self.seeds) * len(self.trials)
        at_once = _fastest(sweep.advance, numbers, states, sweep.data)
        one_by_one = networks * _fastest(sweep.advance_one, one_hyper, one_state, sweep.data)
        return {
            "networks": networks,
            "steps": sweep.steps,
            "at_once_s": round(at_once, 4),
            "one_by_one_s": round(one_by_one, 4),
            "speedup": round(one_by_one / at_once, 2),
        }


def on_device(images: np.ndarray, labels: np.ndarray, white: int) -> Data:
    """Return images as rows of pixels from 0 to 1, with their labels, on the device."""
    pixels = images.reshape(len(images), -1).astype(np.float32) / white
    return {"inputs": jnp.asarray(pixels), "labels": jnp.asarray(labels)}


def splits(dataset: Dataset, train: int | None, test: int | None) -> tuple[Data, Data]:
    """Return the first `train` and `test` examples of the two parts; None for all."""
    return (
        on_device(dataset.train_images[:train], dataset.train_labels[:train], dataset.white),
        on_device(dataset.test_images[:test], dataset.test_labels[:test], dataset.white),
    )


def every(steps: int, points: int) -> range:
    """Return the start and as many later points of a training, all `steps` apart."""
    return range(0, points * steps + 1, steps)


def make_sweep(build: Build, data: Data, *, batch_size: int, steps: int) -> Sweep:
    """Return the compiled functions of networks that `build` makes.

    Args:
        build: the numbers of one network -> its model and optimizer.
        data: data to train on.
        batch_size: rows of a training batch.
        steps: training steps of one `advance`.
    """
    sample = jnp.zeros((1, data["inputs"].shape[1]))

    def start(hyper: Hyper, key: jax.Array) -> TrainState:
        model, tx = build(hyper)
        return create_train_state(model, key, sample, tx)

    def advance(hyper: Hyper, state: TrainState, data: Data) -> tuple[TrainState, Metrics]:
        model, tx = build(hyper)
        # A trial that diverges is a result, so its steps are not undone.
        step = make_train_step(model, tx, cross_entropy, guard_non_finite=False, donate=False)
        scan = make_scan_steps(step, batch_size=batch_size, num_steps=steps, donate=False)
        state, metrics = scan(state, data)
        return state, {name: jnp.mean(values) for name, values in metrics.items()}

    def evaluate(hyper: Hyper, state: TrainState, data: Data) -> Metrics:
        step = make_eval_step(build(hyper)[0], cross_entropy)
        return make_evaluation(step, batch_size=_EVALUATED_AT_A_TIME)(state, data)

    def predict(hyper: Hyper, state: TrainState, inputs: jax.Array) -> jax.Array:
        logits: Any = build(hyper)[0].apply(state.variables, inputs, train=False)
        return jax.nn.softmax(logits)

    def over_all(function: Callable, *rest: None, out: Any) -> Callable:
        trials = jax.vmap(function, in_axes=(0, TRIAL_AXES, *rest), out_axes=out)
        return jax.jit(jax.vmap(trials, in_axes=(0, 0, *rest)))

    trials = jax.vmap(start, in_axes=(0, None), out_axes=TRIAL_AXES)
    return Sweep(
        start=jax.jit(jax.vmap(trials)),
        advance=over_all(advance, None, out=(TRIAL_AXES, 0)),
        evaluate=over_all(evaluate, None, out=0),
        predict=over_all(predict, None, out=0),
        advance_one=jax.jit(advance),
        build=build,
        data=data,
        steps=steps,
    )


def decay_kernels(strength: jax.Array) -> optax.GradientTransformation:
    """Return an optimizer's stage that adds the gradient of `strength / 2 * |kernel|^2`.

    Parameters that are not kernels keep their gradients.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        added = jax.tree.map(lambda g, w: g + strength * w if w.ndim > 1 else g, updates, params)
        return added, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def final(folder: Path, column: str) -> dict[str, dict[str, list[float]]]:
    """Return a column [S] of the table `curves` at the last step, by group and trial."""
    table = read_table(folder / "curves.csv")
    return {
        group: {
            trial: last(table, column, group=group, trial=trial)
            for trial in ordered(select(table, group=group)["trial"])
        }
        for group in ordered(table["group"])
    }


def speed_sentence(speed: Mapping[str, float]) -> str:
    """Return the result of `Group.compare_speed` in words."""
    return (
        f"{speed['networks']:.0f} networks at once took {speed['at_once_s']:.2f} s for "
        f"{speed['steps']:.0f} steps each, one by one {speed['one_by_one_s']:.2f} s: "
        f"{speed['speedup']:.2f} times as fast."
    )


def _fastest(function: Callable, *arguments: Any) -> float:
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return min(times)
