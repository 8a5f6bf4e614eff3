"""Trials: networks that differ in learning rate and weight decay, and the better half goes on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnorm.models import MLP
from jaxnorm.training import TrainState

from .._run import Run
from .._sweep import NORMS, TRIAL_AXES, Data, Group, Hyper, Sweep
from .._trainer import Measured, Point

Range = tuple[float, float]

RANGES: dict[str, Range] = {
    "learning_rate": (-6.0, -2.0),
    "weight_decay": (-8.0, -4.0),
}  # exponents of ten


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
        own = [name for name, axis in TRIAL_AXES._asdict().items() if axis is not None]
        parts = {name: [getattr(trials.states, name) for trials in (self, *others)] for name in own}
        changed = {name: jax.tree.map(function, *part) for name, part in parts.items()}
        return Trials(columns, self.states._replace(**changed))


class Bench(NamedTuple):
    """The data and compiled functions that all trainings of one norm share."""

    run: Run
    config: Any
    norm: str
    sweep: Sweep
    validation: Data

    def group(self, name: str, trials: Trials) -> Group:
        """Return the networks of trials."""
        names = tuple(map(str, range(trials.columns["trial"].shape[1])))
        hyper = {name: trials.columns[name] for name in RANGES}
        return Group(f"{self.norm}-{name}", self.sweep, self.config.seeds, names, hyper)

    def measured(self, trials: Trials, data: Data) -> dict[str, np.ndarray]:
        """Return loss and accuracy [S, T] of trained trials."""
        assert trials.states is not None
        measured = self.group("measured", trials).evaluate(trials.states, data)
        return jax.tree.map(np.asarray, measured)


def build(config: Any, norm: str, hyper: Hyper) -> tuple[MLP, optax.GradientTransformation]:
    init = nn.initializers.he_normal()
    model = MLP(features=config.features, num_outputs=10, norm=NORMS[norm], kernel_init=init)
    decay = optax.add_decayed_weights(hyper["weight_decay"])
    return model, optax.chain(decay, optax.sgd(hyper["learning_rate"]))


def drawn(config: Any, part: int, ranges: Sequence[Mapping[str, Range]]) -> Trials:
    """Return trials at random on log scales, from each seed's ranges of exponents."""
    columns: dict[str, Any] = {"trial": np.tile(np.arange(config.trials), (len(config.seeds), 1))}
    sources = [np.random.default_rng((seed, part)) for seed in config.seeds]
    for name in RANGES:
        exponents = [
            source.uniform(*own[name], config.trials)
            for source, own in zip(sources, ranges, strict=True)
        ]
        columns[name] = 10 ** np.stack(exponents)
    return Trials(columns)


def grid(config: Any) -> Trials:
    """Return the scan's trials: learning rates on a grid, all with the middle weight decay."""
    low, high = config.scanned
    rates = np.logspace(low, high, config.scan_rates)
    columns = {
        "trial": np.arange(len(rates)),
        "learning_rate": rates,
        "weight_decay": np.full(len(rates), 10 ** np.mean(RANGES["weight_decay"])),
    }
    return Trials({name: np.tile(row, (len(config.seeds), 1)) for name, row in columns.items()})


def search(bench: Bench, test: Data) -> list[dict[str, float]]:
    """Search in two rounds, and return the best trial of each seed with its test accuracy."""
    seeds = len(bench.config.seeds)
    first = _halving(bench, "1", drawn(bench.config, 1, [RANGES] * seeds))
    ranges = [
        {name: narrowed(RANGES[name], np.log10(first.columns[name][s, 0])) for name in RANGES}
        for s in range(seeds)
    ]
    both = first.joined(_halving(bench, "2", drawn(bench.config, 2, ranges)))
    best = both.kept(both.columns["accuracy"].argmax(1)[:, None])
    # The test set is used here only, on the network that validation has chosen for each seed.
    tested = bench.measured(best, test)["accuracy"]
    return [
        {
            **{name: float(best.columns[name][s, 0]) for name in RANGES},
            "validation_accuracy": float(best.columns["accuracy"][s, 0]),
            "test_accuracy": float(tested[s, 0]),
        }
        for s in range(seeds)
    ]


def narrowed(whole: Range, best: float) -> Range:
    """Return a quarter of the range of exponents, around the best, moved to stay inside.

    Examples:
        >>> narrowed((-6, -2), -4)
        (-4.5, -3.5)
        >>> narrowed((-6, -2), -2.2)
        (-3.0, -2.0)
    """
    width = (whole[1] - whole[0]) / 4
    low = min(max(best - width / 2, whole[0]), whole[1] - width)
    return low, low + width


def _halving(bench: Bench, part: str, trials: Trials) -> Trials:
    """Train from rung to rung with the better half each time. Return the last trials, ranked."""
    begin = 0
    for rung in bench.config.rungs:
        if begin:
            count = max(1, trials.columns["trial"].shape[1] // 2)
            trials = trials.kept(np.tile(np.arange(count), (len(bench.config.seeds), 1)))
        trials = _ranked(bench, train_trials(bench, part, trials, begin, rung))
        begin = rung
    return trials


def train_trials(bench: Bench, part: str, trials: Trials, begin: int, end: int) -> Trials:
    """Train from step `begin` to `end` and record the table `trials`."""
    group, steps = bench.group(f"{part}-{end}", trials), bench.sweep.steps
    own = {"norm": bench.norm, "part": part}

    def measure(point: Point) -> Measured:
        accuracy = group.evaluate(point.state, bench.validation)["accuracy"]
        rows = group.rows(
            **{name: trials.columns[name] for name in ("trial", *RANGES)},
            train_loss=point.metrics["loss"],
            validation_accuracy=accuracy,
        )
        best = {"validation accuracy of the best": accuracy.max()}
        said = f"best accuracy {float(accuracy.max()):.3f}"
        return Measured({"trials": [{**own, **row} for row in rows]}, said, best)

    states = group.train(
        bench.run,
        measure,
        points=range(begin + steps, end + 1, steps),
        start=lambda: trials.states or group.start(),
        begin=begin,
    )
    return trials._replace(states=states)


def _ranked(bench: Bench, trials: Trials) -> Trials:
    """Return each seed's trials by validation accuracy and then by loss, the best first."""
    measured = bench.measured(trials, bench.validation)
    columns = {**trials.columns, "accuracy": measured["accuracy"]}
    order = np.lexsort((measured["loss"], -measured["accuracy"]), axis=1)
    return trials._replace(columns=columns).kept(order)
