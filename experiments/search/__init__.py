"""Random search for learning rate and weight decay, with and without batch norm."""

import dataclasses
import functools
from typing import Any

import numpy as np

from .._run import Run
from .._seeds import mean, over_seeds, sentence
from .._sweep import NORM_LABELS, NORMS, make_sweep, on_device, speed_sentence, splits
from .._tables import read_table
from ._figures import figures as figures
from ._ranges import best_of_scan, ranges, widths
from ._ranges import good_range as good_range
from ._trials import RANGES, Bench, build, drawn, grid, search, train_trials
from ._trials import narrowed as narrowed


@dataclasses.dataclass(frozen=True)
class Config:
    """Six ReLU layers of 100 units on 1 000 MNIST images: which learning rates are good?

    Each seed is a search of its own. Its trials are the same with and without batch norm. Every
    trial trains to the first rung, and the better half of the trials goes on to the next rung. A
    second round draws from a quarter of the decades, around the best trial of the first round. The
    test set is used once, on the best trial of both rounds. A scan measures the range of good
    learning rates. It abandons no trial, and its grid goes on beyond the searched range, so that
    the networks can be compared at the rate that is best for each, too.

    Command: `python -m experiments search`. `--preset paper` takes 100 trials and ten seeds.

    Expected: without batch norm, rates near 1e-2, the searched range's upper end, learn within the
    steps. With batch norm the range of good rates lies about a decade higher, above the searched
    range, and is not wider. Each at its own best rate, both are equally accurate. On digits with
    few steps (`--preset smoke`) the range is wider by a decade.

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


def run(config: Config, run: Run) -> dict[str, Any]:
    """Search and scan with both norms, and record the tables `trials` and `ranges`."""
    data = run.dataset(config.dataset)
    train, test = splits(data, config.train_examples, None)
    rest = slice(config.train_examples, config.train_examples + config.validation_examples)
    validation = on_device(data.train_images[rest], data.train_labels[rest], data.white)
    results: dict[str, Any] = {"steps": config.rungs[-1], "good_within": config.good_within}
    for norm in NORMS:
        sweep = make_sweep(
            functools.partial(build, config, norm),
            train,
            batch_size=config.batch_size,
            steps=config.evaluate_every,
        )
        bench = Bench(run, config, norm, sweep, validation)
        best = search(bench, test)
        train_trials(bench, "scan", grid(config), 0, config.rungs[-1])
        fresh = bench.group("speed", drawn(config, 1, [RANGES] * len(config.seeds)))
        results[norm] = {"best": best, "speed": fresh.compare_speed()}
    run.replace("ranges", ranges(read_table(run.table("trials")), config))
    results["scanned"] = best_of_scan(read_table(run.table("trials")))
    results["ranges"] = widths(read_table(run.table("ranges")))
    return results


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which claims the numbers show."""
    own = {norm: results["ranges"]["own"][norm] for norm in NORMS}
    lower, wider = (
        np.mean(own["batch"][name]) - np.mean(own["none"][name]) for name in ("low", "decades")
    )
    more = {
        way: np.subtract(_validation(results, way, "batch"), _validation(results, way, "none"))
        for way in ("searched", "scanned")
    }
    return {
        "the range of good learning rates is wider with batch norm": bool(wider > 0),
        "the range of good learning rates lies higher with batch norm": bool(lower > 0),
        "within the searched range the best network is more accurate with batch norm": bool(
            more["searched"].min() > 0
        ),
        "at the rate that is best for each the network is more accurate with batch norm": bool(
            more["scanned"].min() > 0
        ),
    }


def summary(results: dict[str, Any]) -> list[str]:
    """Say which learning rates are good, which the searches chose, and how fast training was."""
    own, common = (results["ranges"][standard] for standard in ("own", "common"))
    wider = np.array(own["batch"]["decades"]) - np.array(own["none"]["decades"])
    within = f"within {100 * results['good_within']:.0f} points"
    searched = ", ".join(
        f"{mean(own[norm]['decades_searched'], '.2f')} {NORM_LABELS[norm]}" for norm in NORMS
    )
    strict = ", ".join(
        f"{mean(common[norm]['decades'], '.2f')} {NORM_LABELS[norm]}" for norm in NORMS
    )
    sentences = [
        f"Rates are good {within} of the same norm's best validation accuracy. With batch norm "
        f"the width of their range changes by {over_seeds(wider, '+.2f', ' decades')}: "
        f"{_ends(own['batch'])}, and {_ends(own['none'])} without.",
        f"Decades of this range within the searched range: {searched}.",
        f"Decades of the range by one standard for both norms, {within} of the better norm's best: "
        f"{strict}.",
    ]
    for norm in NORMS:
        best = results[norm]["best"]
        decays = ", ".join(f"{each['weight_decay']:.1g}" for each in best)
        tests = [each["test_accuracy"] for each in best]
        sentences.append(
            f"{sentence(NORM_LABELS[norm])} the searches chose weight decays {decays}; test "
            f"accuracy {over_seeds(tests, '.1%')} after {results['steps']} steps."
        )
    return [*sentences, _both_ways(results)] + [
        f"{sentence(NORM_LABELS[norm])}: {speed_sentence(results[norm]['speed'])}" for norm in NORMS
    ]


def _both_ways(results: dict[str, Any]) -> str:
    """Return a table of the best networks of the searched range and of all scanned rates."""
    lines = [
        "| norm | best rates of the searches | validation accuracy | best rates of the scan "
        "| validation accuracy |",
        "|---|---|---|---|---|",
    ]
    for norm in NORMS:
        searched = [each["learning_rate"] for each in results[norm]["best"]]
        cells = [NORM_LABELS[norm]]
        for way, rates in (("searched", searched), ("scanned", _scanned_rates(results, norm))):
            accuracy = over_seeds(_validation(results, way, norm), ".1%", of="")
            cells += [", ".join(f"{rate:.2g}" for rate in rates), accuracy]
        lines.append(f"| {' | '.join(cells)} |")
    head = f"Both ways of comparing, the best network of each seed after {results['steps']} steps:"
    return "\n  ".join([head, "", *lines])


def _scanned_rates(results: dict[str, Any], norm: str) -> list[float]:
    return results["scanned"][norm]["learning_rate"]


def _validation(results: dict[str, Any], way: str, norm: str) -> list[float]:
    """Return the validation accuracy [S] of the best networks of the searches or of the scan."""
    if way == "scanned":
        return results["scanned"][norm]["validation_accuracy"]
    return [each["validation_accuracy"] for each in results[norm]["best"]]


def _ends(good: dict[str, list[float]]) -> str:
    low, high = (10 ** np.mean(np.log10(good[name])) for name in ("low", "high"))
    return f"{low:.2g} to {high:.2g} ({mean(good['decades'], '.2f')} decades)"
