"""Sweeps: many small networks that train at once in one compiled program.

The networks of a `Group` share an architecture and an optimizer. They differ in numbers (a weight
scale, a learning rate, weight decay) and in their seed. A group has a network for every trial with
every seed. `vmap` adds two axes, seeds [S] and trials [T], to everything that training changes.
`scan` takes many steps per dispatch. The trials of one seed start from the same random numbers and
see the same batches, so the data are gathered once for all trials.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
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
    latest_step,
    make_eval_step,
    make_evaluation,
    make_scan_steps,
    make_train_step,
    restore_checkpoint,
    save_checkpoint,
)

from ._run import Run
from ._tables import Row, ordered, read_table, select
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
_TRIAL_AXES: Any = TrainState._make((None, 0, 0, 0, None, 0))


class Group(NamedTuple):
    """Networks that train at once."""

    name: str
    build: Build
    trials: tuple[str, ...]  # [T] names
    hyper: Mapping[str, Any]  # numbers by name, broadcastable to [S, T]
    seeds: tuple[int, ...]  # [S]

    @property
    def numbers(self) -> dict[str, jax.Array]:
        """The numbers of all networks, [S, T] float32."""
        shape = (len(self.seeds), len(self.trials))
        return {
            name: jnp.broadcast_to(jnp.asarray(values, jnp.float32), shape)
            for name, values in self.hyper.items()
        }

    @property
    def keys(self) -> jax.Array:
        """One key per seed, [S]."""
        return jax.vmap(jax.random.key)(jnp.asarray(self.seeds))


class Sweep(NamedTuple):
    """Compiled functions of a group's networks, over all seeds and trials at once."""

    start: Callable[[Hyper, jax.Array], TrainState]  # numbers [S, T], keys [S] -> states
    advance: Callable[[Hyper, TrainState, Data], tuple[TrainState, Metrics]]  # metrics [S, T]
    evaluate: Callable[[Hyper, TrainState, Data], Metrics]  # -> loss and accuracy [S, T]
    predict: Callable[[Hyper, TrainState, jax.Array], jax.Array]  # -> probabilities [S, T, N, K]
    advance_one: Callable[[Hyper, TrainState, Data], tuple[TrainState, Metrics]]  # one network
    steps: int  # of one advance


class Point(NamedTuple):
    """A point of a group's training."""

    step: int
    states: TrainState  # [S, T, ...]
    metrics: Metrics  # [S, T] means over the steps since the last point, empty at step 0


class Trials(NamedTuple):
    """Trials of all seeds that train at once; arrays [S, T].

    The initial weights come from the seed alone, so all trials of a seed share them.
    """

    columns: dict[str, Any]  # facts about each trial, by name
    states: TrainState | None = None  # None before the first step

    def kept(self, rows: np.ndarray) -> "Trials":
        """Return the trials at some positions [S, K] of each seed, in that order."""
        seeds = np.arange(len(rows))[:, None]
        return self._each(lambda leaf: leaf[seeds, rows])

    def joined(self, other: "Trials") -> "Trials":
        """Return these trials and then the others of each seed."""
        return self._each(lambda *leaves: jnp.concatenate(leaves, axis=1), other)

    def _each(self, function: Callable, *others: "Trials") -> "Trials":
        """Apply a function to all arrays [S, T, ...] that differ between trials."""
        columns = jax.tree.map(function, self.columns, *(other.columns for other in others))
        if self.states is None:
            return Trials(columns)
        own = [name for name, axis in _TRIAL_AXES._asdict().items() if axis is not None]
        parts = {name: [getattr(trials.states, name) for trials in (self, *others)] for name in own}
        changed = {name: jax.tree.map(function, *part) for name, part in parts.items()}
        return Trials(columns, self.states._replace(**changed))


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


def make_sweep(build: Build, pixels: int, *, batch_size: int, steps: int) -> Sweep:
    """Return the compiled functions of networks that `build` makes.

    Args:
        build: the numbers of one network -> its model and optimizer.
        pixels: length of an input row.
        batch_size: rows of a training batch.
        steps: training steps of one `advance`.
    """
    sample = jnp.zeros((1, pixels))

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
        trials = jax.vmap(function, in_axes=(0, _TRIAL_AXES, *rest), out_axes=out)
        return jax.jit(jax.vmap(trials, in_axes=(0, 0, *rest)))

    trials = jax.vmap(start, in_axes=(0, None), out_axes=_TRIAL_AXES)
    return Sweep(
        start=jax.jit(jax.vmap(trials)),
        advance=over_all(advance, None, out=(_TRIAL_AXES, 0)),
        evaluate=over_all(evaluate, None, out=0),
        predict=over_all(predict, None, out=0),
        advance_one=jax.jit(advance),
        steps=steps,
    )


def training(
    run: Run,
    group: Group,
    sweep: Sweep,
    data: Data,
    *,
    points: int,
    save_every_s: float = 30.0,
    states: Any = None,
) -> Iterator[Point]:
    """Train a group, and yield at the start and after every `sweep.advance`.

    The caller measures at each yield. A checkpoint is written after the measurement. With
    `run.resume` training goes on after the group's last checkpoint, and the tables lose this
    group's rows of later steps.

    Args:
        run: takes checkpoints, and shows progress.
        group: the networks.
        sweep: the compiled functions of the group's `build`.
        data: data to train on.
        points: number of times to advance.
        save_every_s: seconds between checkpoints. The last point always gets one.
        states: states of networks that go on where other training ended, with its steps; None for
            fresh networks.
    """
    hyper, folder = group.numbers, run.folder / "checkpoints" / group.name
    states = sweep.start(hyper, group.keys) if states is None else states
    begin = int(states.step[0])
    saved = latest_step(folder) if run.resume else None
    run.rewind(-1 if saved is None else saved, group=group.name)
    if saved is None:
        yield Point(begin, states, {})
    else:
        states = restore_checkpoint(folder, states)
    written = time.monotonic()
    with run.progress(group.name, points, "points") as report:
        done = 0 if saved is None else (saved - begin) // sweep.steps
        for point in range(done + 1, points + 1):
            states, metrics = sweep.advance(hyper, states, data)
            step = begin + point * sweep.steps
            yield Point(step, states, metrics)
            report(point, f"loss {float(jnp.nanmedian(metrics['loss'])):.3g}")
            if point == points or time.monotonic() - written >= save_every_s:
                save_checkpoint(folder, states, step=step, keep=1)
                written = time.monotonic()


def trained(run: Run, group: Group, template: TrainState) -> TrainState:
    """Return the states that a group's `training` ended with, from its checkpoint."""
    return restore_checkpoint(run.folder / "checkpoints" / group.name, template)


def decay_kernels(strength: jax.Array) -> optax.GradientTransformation:
    """Return an optimizer's stage that adds the gradient of `strength / 2 * |kernel|^2`.

    Parameters that are not kernels keep their gradients.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        added = jax.tree.map(lambda g, w: g + strength * w if w.ndim > 1 else g, updates, params)
        return added, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def train_group(
    run: Run, group: Group, sweep: Sweep, train: Data, test: Data, *, points: int
) -> None:
    """Train a group and record the table `curves`: loss and accuracy on both splits."""
    for point in training(run, group, sweep, train, points=points):
        record_curves(
            run,
            group,
            point.step,
            train=sweep.evaluate(group.numbers, point.states, train),
            test=sweep.evaluate(group.numbers, point.states, test),
        )


def record_curves(run: Run, group: Group, step: int, **measured: Metrics) -> None:
    """Append metrics to the table `curves`, and their means over seeds to TensorBoard.

    Args:
        run: the run whose table it is.
        group: the networks.
        step: training steps so far.
        **measured: metrics [S, T] by split. The columns are `train_loss` and so on.
    """
    columns = {
        f"{split}_{name}": np.asarray(values, np.float64)
        for split, metrics in measured.items()
        for name, values in sorted(metrics.items())
    }
    rows: list[Row] = [
        {
            "group": group.name,
            "trial": trial,
            "seed": seed,
            "step": step,
            **{name: round(float(values[s, t]), 6) for name, values in columns.items()},
        }
        for s, seed in enumerate(group.seeds)
        for t, trial in enumerate(group.trials)
    ]
    run.record("curves", rows)
    means = {
        f"{name}/{trial}": float(values[:, t].mean())
        for name, values in columns.items()
        for t, trial in enumerate(group.trials)
    }
    run.scalars(group.name, step, means)


def final(folder: Path, column: str) -> dict[str, dict[str, np.ndarray]]:
    """Return a column [S] of the table `curves` at the last step, by group and trial."""
    table = read_table(folder / "curves.csv")
    return {
        group: {
            trial: _last(select(table, group=group, trial=trial), column)
            for trial in ordered(select(table, group=group)["trial"])
        }
        for group in ordered(table["group"])
    }


def compare_speed(group: Group, sweep: Sweep, data: Data) -> dict[str, float]:
    """Time one `advance` of all networks at once, and of one network, times their number.

    Both are compiled before. Both take the same steps over the same data. The best of three times
    counts, since other work on the machine can only add to it.

    Returns:
        `networks`, `steps`, `at_once_s`, `one_by_one_s` and `speedup`.
    """
    hyper = group.numbers
    states = sweep.start(hyper, group.keys)
    one_hyper, one_state = jax.tree.map(lambda leaf: leaf[0, 0], (hyper, _per_trial(states)))
    networks = len(group.seeds) * len(group.trials)
    at_once = _fastest(sweep.advance, hyper, states, data)
    one_by_one = networks * _fastest(sweep.advance_one, one_hyper, one_state, data)
    return {
        "networks": networks,
        "steps": sweep.steps,
        "at_once_s": round(at_once, 4),
        "one_by_one_s": round(one_by_one, 4),
        "speedup": round(one_by_one / at_once, 2),
    }


def speed_sentence(speed: Mapping[str, float]) -> str:
    """Return the result of `compare_speed` in words."""
    return (
        f"{speed['networks']:.0f} networks at once took {speed['at_once_s']:.2f} s for "
        f"{speed['steps']:.0f} steps each, one by one {speed['one_by_one_s']:.2f} s: "
        f"{speed['speedup']:.2f} times as fast."
    )


def _per_trial(states: TrainState) -> TrainState:
    """Give the arrays that the trials of a seed share a trial axis of length one."""
    return states._replace(step=states.step[:, None], rng=states.rng[:, None])


def _last(rows: dict[str, np.ndarray], column: str) -> np.ndarray:
    return rows[column][rows["step"] == rows["step"].max()]


def _fastest(function: Callable, *arguments: Any) -> float:
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return min(times)
