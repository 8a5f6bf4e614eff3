"""The experiments: one row here and one module `experiments.<name>` each.

A module has

- `Config`, a frozen dataclass whose docstring gives command, hardware, time and expected result;
- `PRESETS`, a `Config` for each of "smoke", "default" and "paper";
- `run(config, run)`, which measures, writes tables into `run.folder`, and returns the numbers that
  `run.json` keeps;
- `figures(folder)`, which draws from the files in `folder` and returns the paths of the pictures;
- `summary(results)`, which says in sentences what the numbers of `run` show.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from ._run import Run, RunError


class Row(NamedTuple):
    """What the list and the ledger say about an experiment."""

    name: str
    line: str  # what it does
    expected: str  # what it must show
    presets: Mapping[str, str]  # preset -> time on two cores, data
    reference: str = "-"
    megabytes: int = 100  # free disk that a run needs


class Experiment(Protocol):
    """What the module of an experiment has."""

    PRESETS: Mapping[str, Any]

    def run(self, config: Any, run: Run, /) -> dict[str, Any]: ...

    def figures(self, folder: Path, /) -> list[Path]: ...

    def summary(self, results: dict[str, Any], /) -> list[str]: ...


ROWS = (
    Row(
        "quickstart",
        "one small network on digits with each norm and with none, train and eval mode",
        "a table and a plot: accuracy and loss per norm, in both modes",
        {"smoke": "15 s, digits", "default": "50 s, digits", "paper": "3 min, digits"},
    ),
    Row(
        "activations",
        "three sigmoid layers on MNIST with and without batch norm: what the sigmoids see",
        "test accuracy against steps; the percentiles of a sigmoid's input drift without batch "
        "norm and stay still with it",
        {"smoke": "15 s, digits", "default": "1 min, MNIST", "paper": "5 min, MNIST"},
        "Ioffe and Szegedy 2015 (arXiv:1502.03167), section 4.1, figure 1",
    ),
    Row(
        "scaling",
        "standard and min-max scaling of real tables, in a stream and over shards",
        "equal to scikit-learn to rounding; gradient descent needs fewer steps",
        {"smoke": "10 s, tables", "default": "30 s, tables", "paper": "30 s, tables"},
        "a note that compares batch normalization with standardization",
    ),
    Row(
        "numpy_parity",
        "30 generated images normalized per pixel over the batch, against NumPy",
        "equal to NumPy and to the textbook formula: this is stats_shape (1, 32, 32, 1)",
        {"smoke": "5 s, none", "default": "5 s, none", "paper": "5 s, none"},
        "a note that compares batch normalization with standardization",
    ),
    Row(
        "inference",
        "trained batch norm on one example at a time, with six kinds of statistics and folded",
        "one example's own statistics fail; population statistics are at least as good as the "
        "moving average; folding into the weights changes nothing but rounding",
        {"smoke": "20 s, digits", "default": "2 min, MNIST", "paper": "15 min, MNIST"},
        "Ioffe and Szegedy 2015 (arXiv:1502.03167), section 3.1, algorithm 2",
    ),
    Row(
        "saturation",
        "the gradient that a sigmoid and a ReLU pass, before and after normalization",
        "normalized inputs pass more; half of a normalized input dies in a ReLU without a bias; "
        "scale = sqrt(var) and bias = mean give the input back",
        {"smoke": "30 s, digits", "default": "3 min, MNIST", "paper": "10 min, MNIST"},
        "a blog post with experiments on saturation; a survey",
    ),
    Row(
        "loss_surface",
        "plain gradient descent on a stretched and on a round bowl",
        "the round bowl needs about a third of the steps (27 s against 9 s of animation in the "
        "post)",
        {"smoke": "5 s, none", "default": "5 s, none", "paper": "5 s, none"},
        "a blog post with experiments on convergence",
    ),
    Row(
        "initialization",
        "a five-layer ReLU network at 16 weight scales, with and without batch norm",
        "with batch norm nearly every scale learns, without it most do not",
        {"smoke": "20 s, digits", "default": "2 min, MNIST", "paper": "8 min, MNIST"},
        "Deep Learning from Scratch, chapter 6",
    ),
    Row(
        "bench",
        "time and memory of every normalizer against every rival and the machine's limit",
        "ratios to flax.linen and to the best rival, residual bytes, error against float64",
        {"smoke": "20 s, none", "default": "6 min, none", "paper": "30 min, none"},
    ),
)


def find(name: str) -> Row:
    """Return the row of an experiment.

    Raises:
        RunError: there is none of this name.
    """
    for row in ROWS:
        if row.name == name:
            return row
    raise RunError(f"no experiment {name!r}; there are {', '.join(row.name for row in ROWS)}")


def load(row: Row) -> Experiment:
    """Return the module of an experiment; its imports take seconds, so the list does without."""
    return cast(Experiment, importlib.import_module(f"experiments.{row.name}"))
