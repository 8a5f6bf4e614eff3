"""What the sigmoids of a deep network see while it trains, with and without batch norm."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnorm.diagnostics import drift, percentiles
from jaxnorm.models import MLP

from ._figures import COLOURS, draw_curves, legend, new_figure, save, subplots
from ._run import Run
from ._seeds import last, listed, mean, per_seed
from ._sweep import NORM_LABELS, NORMS, Data, Group, Hyper, make_sweep, splits
from ._tables import ordered, read_table, select
from ._trainer import Measured, Point, every

_PERCENTILES = (15, 50, 85)
_OF_UNIT = tuple(f"p{q}" for q in _PERCENTILES)


@dataclasses.dataclass(frozen=True)
class Config:
    """Three sigmoid layers of 100 units on MNIST, batches of 60: figure 1 of the paper.

    Command: `python -m experiments activations --preset paper`. The preset `paper` takes 50 000
    steps, as the paper does.

    Expected: with batch norm the test accuracy rises sooner and ends higher. The percentiles of a
    sigmoid's input drift about half as far as without batch norm.

    Attributes:
        dataset: Name of a data set that is in memory.
        seeds: Each gives an initialization and an order of the data.
        features: Widths of the hidden layers.
        steps: Training steps.
        evaluate_every: Steps between two measurements.
        batch_size: Images in a step.
        learning_rate: Learning rate of plain SGD. The paper does not give its own.
        weight_scale: Standard deviation of the initial weights.
        probe: How many test images the percentiles are taken over.
        unit: The unit of the last hidden layer that the figure shows.
    """

    dataset: str = "mnist"
    seeds: tuple[int, ...] = (0, 1, 2)
    features: tuple[int, ...] = (100, 100, 100)
    steps: int = 10_000
    evaluate_every: int = 250
    batch_size: int = 60
    learning_rate: float = 0.1
    weight_scale: float = 0.1
    probe: int = 1000
    unit: int = 0


PRESETS = {
    "smoke": Config(dataset="digits", steps=2_000, evaluate_every=100, probe=360),
    "default": Config(),
    "paper": Config(steps=50_000, evaluate_every=500),
}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train both networks; the table `curves` has a row per measurement, seed and network."""
    data = run.dataset(config.dataset)
    train, test = splits(data, None, None)
    for norm in NORMS:
        build, steps = functools.partial(_build, config, norm), config.evaluate_every
        sweep = make_sweep(build, train, batch_size=config.batch_size, steps=steps)
        group = Group(norm, sweep, config.seeds, hyper={"learning_rate": config.learning_rate})
        see = _make_probe(config, norm, test["inputs"][: config.probe])
        group.train(
            run,
            functools.partial(_measure, config, group, test, see),
            points=every(steps, config.steps // steps, start=True),
        )
    return _results(run.folder, config)


def _model(config: Config, norm: str) -> MLP:
    return MLP(
        features=config.features,
        num_outputs=10,
        norm=NORMS[norm],
        activation=nn.sigmoid,
        kernel_init=nn.initializers.normal(config.weight_scale),
    )


def _build(config: Config, norm: str, hyper: Hyper) -> tuple[MLP, optax.GradientTransformation]:
    return _model(config, norm), optax.sgd(hyper["learning_rate"])


def _make_probe(config: Config, norm: str, inputs: jax.Array) -> Any:
    """Return a function of states [S, T]: percentiles [S, Q, C] of the last sigmoid's inputs.

    The inputs are those in train mode, as the sigmoids see them while the network learns. The
    images are the same each time. So a change comes from the network, and not from the noise of a
    running average over few batches.
    """
    model = _model(config, norm)
    name = f"preactivation_{len(config.features) - 1}"

    def see(params: Any, batch_stats: Any) -> jax.Array:
        variables = {"params": params, "batch_stats": batch_stats}
        _, sown = model.apply(
            variables, inputs, train=True, mutable=["intermediates", "batch_stats"]
        )
        seen: Any = sown["intermediates"]
        return percentiles(seen[name][0], _PERCENTILES)

    over_all = jax.jit(jax.vmap(jax.vmap(see)))
    return lambda states: over_all(states.params, states.batch_stats)[:, 0]


def _measure(config: Config, group: Group, test: Data, see: Any, point: Point) -> Measured:
    measured = group.evaluate(point.state, test)
    seen = np.asarray(see(point.state))  # [S, Q, C]
    of_unit = dict(
        zip(_OF_UNIT, np.moveaxis(seen[:, :, config.unit], 1, 0)[..., None], strict=True)
    )
    columns = {f"test_{name}": measured[name] for name in ("loss", "accuracy")} | of_unit
    curves = group.rows(**columns)
    # Each percentile of each unit: the drift is taken over all units.
    units = [
        {"seed": seed, "percentile": q, **{f"u{unit}": v for unit, v in enumerate(seen[i, j])}}
        for i, seed in enumerate(group.seeds)
        for j, q in enumerate(_PERCENTILES)
    ]
    shown = {f"{name}/seed{row['seed']}": row[name] for row in curves for name in columns}
    accuracy = f"accuracy {mean(columns['test_accuracy'], '.3f')}"
    return Measured({"curves": curves, "units": units}, accuracy, shown)


def _results(folder: Path, config: Config) -> dict[str, Any]:
    curves, units = read_table(folder / "curves.csv"), read_table(folder / "units.csv")
    results: dict[str, Any] = {"steps": config.steps, "evaluate_every": config.evaluate_every}
    for norm in NORMS:
        moves = [_drift(select(units, group=norm, seed=float(seed))) for seed in config.seeds]
        results[norm] = {
            "test_accuracy": last(curves, "test_accuracy", group=norm),
            "steps_to_90_percent": [
                _first(steps, accuracy >= 0.9)
                for steps, accuracy in zip(
                    per_seed(curves, "step", group=norm),
                    per_seed(curves, "test_accuracy", group=norm),
                    strict=True,
                )
            ],
            "drift_per_measurement": [float(np.median(each.per_step)) for each in moves],
            "drift_extent": [float(np.median(each.range)) for each in moves],
        }
    return results


def _drift(rows: dict[str, np.ndarray]) -> Any:
    """Return the drift of every unit [Q, C] of one seed."""
    names = [name for name in rows if name.startswith("u")]
    history = np.stack([rows[name] for name in names], axis=-1)
    return drift(jnp.asarray(history.reshape(-1, len(_PERCENTILES), len(names))))


def _first(steps: np.ndarray, reached: np.ndarray) -> int | None:
    return int(steps[reached].min()) if reached.any() else None


def figures(folder: Path) -> list[Path]:
    """Draw accuracy against steps, and the percentiles of one unit's input in both networks."""
    table = read_table(folder / "curves.csv")
    figure = new_figure(11, 3.6)
    accuracy, *units = subplots(figure, 1, 3)[0]
    draw_curves(accuracy, table, y="test_accuracy", by="group", labels=NORM_LABELS)
    accuracy.set(xlabel="training step", ylabel="test accuracy", title="(a)", ylim=(0, 1))
    legend(accuracy, loc="center right", fontsize=9)
    shown = ordered(table["group"])
    for axes, letter, norm in zip(units, "bc", shown, strict=False):
        _draw_unit(axes, select(table, group=norm))
        axes.set_title(f"({letter}) {NORM_LABELS[norm]}")
    if len(shown) == 2:
        units[1].sharey(units[0])
    units[0].set_ylabel("input of one sigmoid")
    legend(figure, units[0], loc="outside lower right", fontsize=9)
    return [save(figure, folder / "activations.png")]


def _draw_unit(axes: Any, rows: dict[str, np.ndarray]) -> None:
    seeds = np.unique(rows["seed"])
    for position, (q, name) in enumerate(zip(_PERCENTILES, _OF_UNIT, strict=True)):
        for seed in seeds:
            one = select(rows, seed=float(seed))
            first = seed == seeds[0]
            label = f"{q}th percentile" if first else "other seeds"
            label = label if first or (q == _PERCENTILES[-1] and seed == seeds[1]) else None
            width = 1.6 if first else 0.6
            axes.plot(one["step"], one[name], color=COLOURS[position], lw=width, label=label)
    axes.set_xlabel("training step")


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which of the paper's claims the numbers show."""
    none, batch = results["none"], results["batch"]
    never = float("inf")
    soonest = {name: [s or never for s in results[name]["steps_to_90_percent"]] for name in NORMS}
    return {
        "with batch norm the network ends more accurate": min(batch["test_accuracy"])
        > max(none["test_accuracy"]),
        "the network learns faster with batch norm": max(soonest["batch"]) < min(soonest["none"]),
        "the inputs of the last sigmoids drift less with batch norm": max(batch["drift_extent"])
        < min(none["drift_extent"]),
    }


def summary(results: dict[str, Any]) -> list[str]:
    """Say the accuracy, the steps to 90% and the drift of both networks."""
    none, batch = results["none"], results["batch"]
    extent = {name: np.mean(results[name]["drift_extent"]) for name in NORMS}
    return [
        f"Test accuracy after {results['steps']} steps: {mean(batch['test_accuracy'], '.1%')} with "
        f"batch norm, {mean(none['test_accuracy'], '.1%')} without.",
        f"Steps to an accuracy of 90%, per seed: {listed(batch['steps_to_90_percent'])} with, "
        f"{listed(none['steps_to_90_percent'])} without.",
        "Percentiles of the last sigmoids' inputs move by "
        f"{mean(batch['drift_per_measurement'], '.3f')} of their spread from one measurement to "
        f"the next with batch norm, {mean(none['drift_per_measurement'], '.3f')} without "
        f"(median unit; every {results['evaluate_every']} steps).",
        f"Over the whole run they range over {extent['batch']:.2f} spreads with batch norm, "
        f"{extent['none']:.2f} without: {extent['batch'] / extent['none']:.0%}.",
    ]
