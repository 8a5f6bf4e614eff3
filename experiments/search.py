"""Random search for learning rate and weight decay, with and without batch norm."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax

from jaxnorm.models import MLP

from ._figures import COLOURS, new_figure, save, style, subplots
from ._run import Run
from ._sweep import (
    NORM_LABELS,
    NORMS,
    Data,
    Group,
    Hyper,
    Point,
    Sweep,
    Trials,
    compare_speed,
    make_sweep,
    on_device,
    speed_sentence,
    splits,
    trained,
    training,
)
from ._tables import Row, read_table, select

Range = tuple[float, float]

RANGES: dict[str, Range] = {
    "learning_rate": (-6.0, -2.0),
    "weight_decay": (-8.0, -4.0),
}  # exponents of ten
_PLACE = ("learning_rate", "weight_decay", "validation_accuracy")


@dataclasses.dataclass(frozen=True)
class Config:
    """Six ReLU layers of 100 units on 1 000 MNIST images: which learning rates are good?

    Each seed is a search of its own. Its trials are the same with and without batch norm. Every
    trial trains to the first rung, and the better half of the trials goes on to the next rung. A
    second round draws from a quarter of the decades, around the best trial of the first round. The
    test set is used once, on the best trial of both rounds. A scan measures the range of good
    learning rates. It abandons no trial, and its grid goes on beyond the searched range.

    Command: `python -m experiments search`. `--preset paper` takes 100 trials and ten seeds.

    Expected: without batch norm, only rates near 1e-2, the searched range's upper end, learn within
    the steps. With batch norm the range of good rates starts lower and ends higher, so that it is
    wider by a decade or more.

    The kept run of the default preset refutes this. With batch norm the range of good rates is
    about a decade higher, but not wider, and lies above the searched range. See docs/ledger.md.

    Attributes:
        dataset: Name of a data set that is in memory.
        train_examples: How many training images are trained on, from the first on.
        validation_examples: How many of the next training images judge the trials.
        trials: Trials in a round, for each seed.
        rungs: Training steps after which the trials are judged. The better half goes on.
        seeds: Each gives a search, an initialization and an order of the data.
        features: Widths of the hidden layers.
        batch_size: Images in a step.
        evaluate_every: Steps from one point of a curve to the next. It divides the rungs.
        scanned: Exponents of ten of the least and greatest learning rate of the scan.
        scan_rates: How many learning rates the scan has, on a log grid.
        good_within: A rate is good if its validation accuracy is at most this far below the best.
    """

    dataset: str = "mnist"
    train_examples: int = 1000
    validation_examples: int = 1000
    trials: int = 24
    rungs: tuple[int, ...] = (200, 400, 800)
    seeds: tuple[int, ...] = (0, 1, 2)
    features: tuple[int, ...] = (100,) * 6
    batch_size: int = 100
    evaluate_every: int = 100
    scanned: tuple[float, float] = (-5.0, 1.0)
    scan_rates: int = 24
    good_within: float = 0.05


PRESETS = {
    "smoke": Config(
        dataset="digits",
        train_examples=900,
        validation_examples=500,
        trials=8,
        rungs=(80, 160),
        features=(50,) * 4,
        evaluate_every=40,
        scan_rates=8,
    ),
    "default": Config(),
    "paper": Config(trials=100, scan_rates=60, seeds=tuple(range(10))),
}


class Bench(NamedTuple):
    """The data and compiled functions that all trainings of one norm share."""

    run: Run
    config: Config
    norm: str
    sweep: Sweep
    train: Data
    validation: Data


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


def good_range(rates: np.ndarray, accuracy: np.ndarray, least: float) -> Range:
    """Return the range of learning rates around the best in which accuracy is at least `least`.

    Rates are ascending [T]. An end lies where the line between two neighbours on the log grid
    crosses `least`, or at the end of the grid. If the best rate is not good, it is both ends.

    Examples:
        >>> low, high = good_range(np.array([1e-3, 1e-2, 1e-1]), np.array([0.5, 0.9, 0.7]), 0.8)
        >>> round(low, 5), round(high, 5)
        (0.00562, 0.03162)
    """
    places, best = np.log10(rates), int(np.argmax(accuracy))

    def end(steps: range) -> float:
        inside = best
        for outside in steps:
            if accuracy[outside] < least:
                share = (accuracy[inside] - least) / (accuracy[inside] - accuracy[outside])
                return float(10 ** (places[inside] + share * (places[outside] - places[inside])))
            inside = outside
        return float(rates[inside])

    if accuracy[best] < least:
        return float(rates[best]), float(rates[best])
    return end(range(best - 1, -1, -1)), end(range(best + 1, len(rates)))


def run(config: Config, run: Run) -> dict[str, Any]:
    """Search and scan with both norms, and record the tables `trials` and `ranges`."""
    data = run.dataset(config.dataset)
    train, test = splits(data, config.train_examples, None)
    rest = slice(config.train_examples, config.train_examples + config.validation_examples)
    validation = on_device(data.train_images[rest], data.train_labels[rest], data.white)
    results: dict[str, Any] = {"steps": config.rungs[-1], "good_within": config.good_within}
    for norm in NORMS:
        sweep = make_sweep(
            functools.partial(_build, config, norm),
            train["inputs"].shape[1],
            batch_size=config.batch_size,
            steps=config.evaluate_every,
        )
        bench = Bench(run, config, norm, sweep, train, validation)
        best = _search(bench, test)
        _trained(bench, "scan", _grid(config), 0, config.rungs[-1])
        fresh = _group(bench, "speed", _draw(config, 1, [RANGES] * len(config.seeds)))
        results[norm] = {"best": best, "speed": compare_speed(fresh, sweep, train)}
    run.table("ranges").unlink(missing_ok=True)
    run.record("ranges", _ranges(read_table(run.table("trials")), config))
    results["ranges"] = _widths(read_table(run.table("ranges")))
    return results


def _build(config: Config, norm: str, hyper: Hyper) -> tuple[MLP, optax.GradientTransformation]:
    init = nn.initializers.he_normal()
    model = MLP(features=config.features, num_outputs=10, norm=NORMS[norm], kernel_init=init)
    decay = optax.add_decayed_weights(hyper["weight_decay"])
    return model, optax.chain(decay, optax.sgd(hyper["learning_rate"]))


def _group(bench: Bench, name: str, trials: Trials) -> Group:
    names = tuple(map(str, range(trials.columns["trial"].shape[1])))
    build = functools.partial(_build, bench.config, bench.norm)
    hyper = {name: trials.columns[name] for name in RANGES}
    return Group(f"{bench.norm}-{name}", build, names, hyper, bench.config.seeds)


def _draw(config: Config, part: int, ranges: Sequence[Mapping[str, Range]]) -> Trials:
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


def _search(bench: Bench, test: Data) -> list[dict[str, float]]:
    """Search in two rounds, and return the best trial of each seed with its test accuracy."""
    seeds = len(bench.config.seeds)
    first = _halving(bench, "1", _draw(bench.config, 1, [RANGES] * seeds))
    ranges = [
        {name: narrowed(RANGES[name], np.log10(first.columns[name][s, 0])) for name in RANGES}
        for s in range(seeds)
    ]
    second = _halving(bench, "2", _draw(bench.config, 2, ranges))
    both = first.joined(second)
    best = both.kept(both.columns["accuracy"].argmax(1)[:, None])
    # The test set is used here only, on the network that validation has chosen for each seed.
    tested = _measured(bench, best, test)["accuracy"]
    return [
        {
            **{name: float(best.columns[name][s, 0]) for name in RANGES},
            "validation_accuracy": float(best.columns["accuracy"][s, 0]),
            "test_accuracy": float(tested[s, 0]),
        }
        for s in range(seeds)
    ]


def _halving(bench: Bench, part: str, trials: Trials) -> Trials:
    """Train from rung to rung with the better half each time. Return the last trials, ranked."""
    begin = 0
    for rung in bench.config.rungs:
        if begin:
            count = max(1, trials.columns["trial"].shape[1] // 2)
            trials = trials.kept(np.tile(np.arange(count), (len(bench.config.seeds), 1)))
        trials = _ranked(bench, _trained(bench, part, trials, begin, rung))
        begin = rung
    return trials


def _trained(bench: Bench, part: str, trials: Trials, begin: int, end: int) -> Trials:
    """Train from step `begin` to `end` and record the table `trials`."""
    run, sweep = bench.run, bench.sweep
    group = _group(bench, f"{part}-{end}", trials)
    states = trials.states or sweep.start(group.numbers, group.keys)
    points = (end - begin) // sweep.steps
    for point in training(run, group, sweep, bench.train, points=points, states=states):
        if point.metrics:
            _record(bench, part, group, trials, point)
    return trials._replace(states=trained(run, group, states))


def _record(bench: Bench, part: str, group: Group, trials: Trials, point: Point) -> None:
    measured = bench.sweep.evaluate(group.numbers, point.states, bench.validation)
    loss, accuracy = np.asarray(point.metrics["loss"]), np.asarray(measured["accuracy"])
    rows = [
        {
            "group": group.name,
            "norm": bench.norm,
            "part": part,
            "seed": seed,
            "trial": int(trials.columns["trial"][s, t]),
            **{name: float(f"{trials.columns[name][s, t]:.4g}") for name in RANGES},
            "step": point.step,
            "train_loss": float(f"{loss[s, t]:.5g}"),
            "validation_accuracy": round(float(accuracy[s, t]), 4),
        }
        for s, seed in enumerate(group.seeds)
        for t in range(len(group.trials))
    ]
    bench.run.record("trials", rows)
    best = {"validation accuracy of the best": float(accuracy.max())}
    bench.run.scalars(f"{bench.norm}/{part}", point.step, best)


def _ranked(bench: Bench, trials: Trials) -> Trials:
    """Return each seed's trials by validation accuracy and then by loss, the best first."""
    measured = _measured(bench, trials, bench.validation)
    columns = {**trials.columns, "accuracy": measured["accuracy"]}
    order = np.lexsort((measured["loss"], -measured["accuracy"]), axis=1)
    return trials._replace(columns=columns).kept(order)


def _measured(bench: Bench, trials: Trials, data: Data) -> dict[str, np.ndarray]:
    numbers = _group(bench, "measured", trials).numbers
    assert trials.states is not None
    return jax.tree.map(np.asarray, bench.sweep.evaluate(numbers, trials.states, data))


def _grid(config: Config) -> Trials:
    """Return the scan's trials: learning rates on a grid, all with the middle weight decay."""
    rates = np.logspace(*config.scanned, config.scan_rates)
    columns = {
        "trial": np.arange(len(rates)),
        "learning_rate": rates,
        "weight_decay": np.full(len(rates), 10 ** np.mean(RANGES["weight_decay"])),
    }
    return Trials({name: np.tile(row, (len(config.seeds), 1)) for name, row in columns.items()})


def _ranges(trials: dict[str, np.ndarray], config: Config) -> list[Row]:
    """Return which rates are good, measured by the norm's own best and by the best of both."""
    scan = select(trials, part="scan", step=config.rungs[-1])
    rows: list[Row] = []
    for seed, norm in itertools.product(config.seeds, NORMS):
        both = select(scan, seed=seed)
        own = select(both, norm=norm)
        for standard, judged in (("own", own), ("common", both)):
            least = judged["validation_accuracy"].max() - config.good_within
            low, high = good_range(own["learning_rate"], own["validation_accuracy"], least)
            inside = np.clip(np.log10([low, high]), *RANGES["learning_rate"])
            rows.append(
                {
                    "norm": norm,
                    "seed": seed,
                    "standard": standard,
                    "least_accuracy": round(float(least), 4),
                    "low": float(f"{low:.4g}"),
                    "high": float(f"{high:.4g}"),
                    "decades": round(float(np.log10(high / low)), 4),
                    "decades_searched": round(float(inside[1] - inside[0]), 4),
                }
            )
    return rows


def _widths(ranges: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the columns [S] of the table `ranges`, by standard and norm."""
    return {
        standard: {
            norm: {
                name: select(ranges, norm=norm, standard=standard)[name].tolist()
                for name in ("low", "high", "decades", "decades_searched")
            }
            for norm in NORMS
        }
        for standard in ("own", "common")
    }


def figures(folder: Path) -> list[Path]:
    """Draw the trials, and accuracy against the learning rate."""
    return [_draw_trials(folder), _draw_scan(folder)]


def _draw_trials(folder: Path) -> Path:
    table = read_table(folder / "trials.csv")
    figure = new_figure(9.0, 7.0)
    grid = subplots(figure, 2, len(NORMS), sharex="row", sharey="row")
    points: Any = None
    for column, norm in enumerate(NORMS):
        rows = select(table, norm=norm)
        rows = {name: values[rows["part"] != "scan"] for name, values in rows.items()}
        _draw_curves(grid[0, column], rows)
        grid[0, column].set(title=NORM_LABELS[norm], xlabel="training step", ylim=(0, 1))
        points = _draw_places(grid[1, column], rows)
        grid[1, column].set(xscale="log", yscale="log", xlabel="learning rate")
        grid[1, column].set(
            xlim=10.0 ** np.array(RANGES["learning_rate"]),
            ylim=10.0 ** np.array(RANGES["weight_decay"]),
        )
    grid[0, 0].set_ylabel("validation accuracy")
    grid[1, 0].set_ylabel("weight decay")
    named = zip(*(axes.get_legend_handles_labels() for axes in grid[:, 0]), strict=True)
    figure.legend(
        *(list(itertools.chain(*each)) for each in named), loc="outside lower center", ncols=5
    )
    figure.colorbar(points, ax=list(grid[1]), label="validation accuracy when it ended")
    return save(figure, folder / "trials.png")


def _runs(rows: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Yield the rows of each trial of one norm, with ascending steps."""
    keys = list(zip(rows["seed"], rows["part"], rows["trial"], strict=True))
    for key in dict.fromkeys(keys):
        own = np.array([each == key for each in keys])
        order = np.argsort(rows["step"][own])
        yield {name: values[own][order] for name, values in rows.items()}


def _draw_curves(axes: Any, rows: dict[str, np.ndarray]) -> None:
    """Draw a line per trial: each seed's best trial thick, abandoned trials grey."""
    end = rows["step"].max()
    runs = list(_runs(rows))
    finals = [each for each in runs if each["step"][-1] == end]
    best = {
        seed: max(
            (each["validation_accuracy"][-1] for each in finals if each["seed"][0] == seed),
        )
        for seed in np.unique(rows["seed"])
    }
    for each in runs:
        accuracy = each["validation_accuracy"]
        if each["step"][-1] < end:
            line: dict[str, Any] = {"color": "#B0B0B0", "lw": 0.6, "label": "abandoned"}
        elif accuracy[-1] == best[each["seed"][0]]:
            line = {"color": COLOURS[1], "lw": 1.8, "zorder": 4, "label": "best of a seed"}
        else:
            line = {"color": COLOURS[0], "lw": 0.8, "zorder": 3, "label": "trained to the end"}
        if line["label"] in axes.get_legend_handles_labels()[1]:
            line["label"] = None
        axes.plot(each["step"], accuracy, **line)


def _draw_places(axes: Any, rows: dict[str, np.ndarray]) -> Any:
    """Draw a point per trial, and return the points that the colour bar belongs to."""
    runs = list(_runs(rows))
    points = None
    for part, marker in (("1", "o"), ("2", "^")):
        last = [[each[name][-1] for name in _PLACE] for each in runs if each["part"][0] == part]
        x, y, accuracy = np.array(last).T
        points = axes.scatter(
            *(x, y), c=accuracy, marker=marker, s=26, vmin=0, vmax=1, label=f"round {part}"
        )
    return points


def _draw_scan(folder: Path) -> Path:
    scan = select(read_table(folder / "trials.csv"), part="scan")
    scan = select(scan, step=scan["step"].max())
    ranges = read_table(folder / "ranges.csv")
    figure = new_figure(7.5, 4.5)
    axes = subplots(figure, 1, 1)[0, 0]
    searched = 10.0 ** np.array(RANGES["learning_rate"])
    axes.axvspan(*searched, color="#000000", alpha=0.05, lw=0, label="searched range")
    for position, norm in enumerate(NORMS):
        rows = select(scan, norm=norm)
        values = np.stack(
            [select(rows, seed=seed)["validation_accuracy"] for seed in np.unique(rows["seed"])]
        )
        rates, line = np.unique(rows["learning_rate"]), style(norm, position)
        axes.plot(rates, values.mean(0), label=NORM_LABELS[norm], **line)
        axes.fill_between(rates, values.min(0), values.max(0), color=line["color"], alpha=0.2, lw=0)
        good = select(ranges, norm=norm, standard="own")
        ends = [10 ** np.log10(good[name]).mean() for name in ("low", "high")]
        height = 1.06 - 0.04 * position
        axes.plot(ends, [height] * 2, color=line["color"], lw=5, solid_capstyle="butt")
        axes.annotate(
            f"good: {good['decades'].mean():.1f} decades",
            (ends[0], height),
            xytext=(-6, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=9,
        )
    axes.set(xscale="log", ylim=(0, 1.1), xlim=(rates[0], rates[-1]))
    axes.set(xlabel="learning rate", ylabel="validation accuracy after the last step")
    axes.legend(loc="center left", fontsize=9)
    return save(figure, folder / "scan.png")


def summary(results: dict[str, Any]) -> list[str]:
    """Say which learning rates are good, which the searches chose, and how fast training was."""
    own, common = (results["ranges"][standard] for standard in ("own", "common"))
    wider = np.array(own["batch"]["decades"]) - np.array(own["none"]["decades"])
    compared = "wider" if wider.mean() >= 0 else "narrower"
    within = f"within {100 * results['good_within']:.0f} points"
    searched = ", ".join(
        f"{np.mean(own[norm]['decades_searched']):.2f} {NORM_LABELS[norm]}" for norm in NORMS
    )
    strict = ", ".join(
        f"{np.mean(common[norm]['decades']):.2f} {NORM_LABELS[norm]}" for norm in NORMS
    )
    sentences = [
        f"Rates are good {within} of the same norm's best validation accuracy. The range is "
        f"{abs(wider.mean()):.2f} decades {compared} with batch norm ({wider.min():+.2f} to "
        f"{wider.max():+.2f} over seeds): {_ends(own['batch'])}, and {_ends(own['none'])} without.",
        f"Decades of this range within the searched range: {searched}.",
        f"Decades of the range by one standard for both norms, {within} of the better norm's best: "
        f"{strict}.",
    ]
    for norm in NORMS:
        best = results[norm]["best"]
        rates = ", ".join(f"{each['learning_rate']:.2g}" for each in best)
        decays = ", ".join(f"{each['weight_decay']:.1g}" for each in best)
        tests = [each["test_accuracy"] for each in best]
        sentences.append(
            f"{NORM_LABELS[norm].capitalize()} the searches chose learning rates {rates} and "
            f"weight decays {decays}; test accuracy {np.mean(tests):.3f} ({min(tests):.3f} to "
            f"{max(tests):.3f} over seeds) after {results['steps']} steps."
        )
    return sentences + [
        f"{NORM_LABELS[norm].capitalize()}: {speed_sentence(results[norm]['speed'])}"
        for norm in NORMS
    ]


def _ends(good: dict[str, list[float]]) -> str:
    low, high = (10 ** np.mean(np.log10(good[name])) for name in ("low", "high"))
    return f"{low:.2g} to {high:.2g} ({np.mean(good['decades']):.2f} decades)"
