"""How normalization changes the gradient that a nonlinearity lets through."""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxnorm
from jaxnorm.diagnostics import layer_values, saturation
from jaxnorm.models import MLP
from jaxnorm.training import TrainState

from ._figures import COLOURS, legend, new_figure, save, subplots
from ._run import Run
from ._seeds import mean, over_seeds
from ._sweep import NORMS, Data, Group, Hyper, make_sweep, splits
from ._tables import Row, ordered, read_table, select
from ._trainer import Measured, Point, every

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"sigmoid": nn.sigmoid, "relu": nn.relu}
# The inputs of an activation: a layer's values before and after the two halves of a norm.
DRAWN: tuple[str, ...] = ("before", "normalized", "scale and bias")
TRAINED: tuple[str, ...] = ("no norm", *DRAWN)
_TITLES = {
    "no norm": "trained without norm",
    "before": "before normalization",
    "normalized": "normalized",
    "scale and bias": "after learned scale and bias",
}
_NAMES = {"sigmoid": "sigmoid", "relu": "ReLU"}
_EPSILON = 1e-5
_EDGES = np.linspace(-8, 8, 65)
_DESCENT_STEPS, _DESCENT_RATE = 60, 0.25  # each step divides the squared error by four
_BIASES = np.linspace(-2, 2, 81)
_PARTS = 4  # dispatches of a training
Cases = dict[str, jax.Array]
"""Inputs of an activation by case."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The gradient that a sigmoid and a ReLU pass, before and after normalization, drawn and real.

    Command: `python -m experiments saturation`. `--preset smoke` takes digits.

    Expected: inputs spread over -5..5 pass 0.099 of a gradient through a sigmoid, and normalized
    inputs pass 0.202. Both are closed forms for a uniform input. A ReLU passes half of a normalized
    input, and a bias decides how much. Gradient descent finds a scale of sqrt(var + epsilon) and a
    bias of the mean, which give the input back. In a trained network of three layers, the sigmoids
    of the last layer pass more with batch norm than without.

    Attributes:
        dataset: Name of a data set that is in memory.
        train_examples: How many training images are used, from the first on.
        test_examples: How many test images activations are measured on, from the first on.
        draws: How many values are drawn from -5..5.
        seeds: Each gives an initialization and an order of the data.
        features: Widths of the hidden layers.
        steps: Training steps.
        batch_size: Images in a step.
        learning_rate: Learning rate of Adam.
    """

    dataset: str = "mnist"
    train_examples: int = 60000
    test_examples: int = 2000
    draws: int = 100_000
    seeds: tuple[int, ...] = (0, 1, 2)
    features: tuple[int, ...] = (100, 100, 100)
    steps: int = 3000
    batch_size: int = 60
    learning_rate: float = 0.003


PRESETS = {
    "smoke": Config(dataset="digits", test_examples=360, steps=200),
    "default": Config(),
    "paper": Config(steps=10_000, test_examples=10_000),
}


def learn_identity(x: jax.Array) -> tuple[float, float]:
    """Return the scale and the bias with which a normalized input becomes the input again.

    Gradient descent finds both.

    Examples:
        >>> scale, bias = learn_identity(jnp.array([1.0, 5.0]))
        >>> f"{scale:.3f} {bias:.3f}"
        '2.000 3.000'
    """
    column = x[:, None]
    stats = jaxnorm.ema().init((1,))

    def error(affine: tuple[jax.Array, jax.Array]) -> jax.Array:
        scale, bias = affine
        y, _ = jaxnorm.batch_norm(column, stats, scale, bias, use_running_average=False)
        return jnp.mean((y - column) ** 2)

    def step(affine: Any, _: None) -> tuple[Any, None]:
        slopes = jax.grad(error)(affine)
        return jax.tree.map(lambda a, g: a - _DESCENT_RATE * g, affine, slopes), None

    start = (jnp.ones(1), jnp.zeros(1))
    (scale, bias), _ = jax.lax.scan(step, start, None, length=_DESCENT_STEPS)
    return float(scale[0]), float(bias[0])


def run(config: Config, run: Run) -> dict[str, Any]:
    """Measure drawn inputs, then the last hidden layer of trained networks."""
    cases, drawn = _drawn(config, run)
    histograms, trained = _histograms("drawn", "both", cases), []
    data = run.dataset(config.dataset)
    train, test = splits(data, config.train_examples, config.test_examples)
    for activation in ACTIVATIONS:
        for norm in NORMS:
            cases, rows = _trained(config, run, activation, norm, train, test)
            histograms += _histograms("trained", activation, cases)
            trained += rows
    run.replace("histograms", histograms)
    run.replace("trained", trained)
    table = read_table(run.table("trained"))
    measures = ("passed", "saturated", "dead", "accuracy")
    of_trained = {
        activation: {
            case: {name: select(table, activation=activation, case=case)[name] for name in measures}
            for case in TRAINED
        }
        for activation in ACTIVATIONS
    }
    return {"drawn": drawn, "seeds": len(config.seeds), "trained": of_trained}


def _drawn(config: Config, run: Run) -> tuple[Cases, dict[str, Any]]:
    """Return drawn inputs, and what is measured on them."""
    x = jax.random.uniform(jax.random.key(0), (config.draws,), minval=-5.0, maxval=5.0)
    taken = jaxnorm.moments(x, (1,))
    normalized = jaxnorm.normalize(x, taken, epsilon=_EPSILON)
    scale, bias = learn_identity(x)
    cases = dict(zip(DRAWN, (x, normalized, normalized * scale + bias), strict=True))
    passed = {
        name: {
            case: float(saturation(values[:, None], activation).passed[0])
            for case, values in cases.items()
        }
        for name, activation in ACTIVATIONS.items()
    }
    shifted = normalized[:, None] + jnp.asarray(_BIASES, jnp.float32)
    by_bias = zip(_BIASES, saturation(shifted, nn.relu).passed, strict=True)
    run.replace("bias", [{"bias": bias, "passed": passed} for bias, passed in by_bias])
    return cases, {
        "passed": passed,
        "scale": scale,
        "bias": bias,
        "std": math.sqrt(float(taken.var[0]) + _EPSILON),
        "mean": float(taken.mean[0]),
        "identity_error": float(jnp.max(jnp.abs(cases["scale and bias"] - x))),
        "relu_bias_1": float(saturation(normalized[:, None] + 1, nn.relu).passed[0]),
    }


def _trained(
    config: Config, run: Run, activation: str, norm: str, train: Data, test: Data
) -> tuple[Cases, list[Row]]:
    """Train all seeds at once. Return the inputs of the last hidden activation, and measures."""
    function, steps = ACTIVATIONS[activation], config.steps // _PARTS
    build = functools.partial(_build, config, function, norm)
    sweep = make_sweep(build, train, batch_size=config.batch_size, steps=steps)
    group = Group(f"{activation}-{norm}", sweep, config.seeds)

    def measure(point: Point) -> Measured:
        return group.curves(train=point.metrics, test=group.evaluate(point.state, test))

    states = group.train(run, measure, points=every(steps, _PARTS))
    model = build({})[0]
    seeds = jax.tree.map(lambda leaf: leaf[:, 0], (states.params, states.batch_stats))
    inside = jax.jit(jax.vmap(functools.partial(_activation_inputs, model), in_axes=(0, 0, None)))
    cases = inside(*seeds, test["inputs"])
    accuracy = group.evaluate(states, test)["accuracy"][:, 0]
    rows: list[Row] = []
    for case, values in cases.items():
        found = jax.vmap(lambda z: saturation(z, function))(values)
        means = {name: getattr(found, name).mean(1) for name in ("passed", "saturated", "dead")}
        rows += [
            {
                "activation": activation,
                "case": case,
                "seed": seed,
                **{name: values[s] for name, values in means.items()},
                "accuracy": accuracy[s],
            }
            for s, seed in enumerate(config.seeds)
        ]
    return cases, rows


def _build(
    config: Config, activation: Callable, norm: str, hyper: Hyper
) -> tuple[MLP, optax.GradientTransformation]:
    model = MLP(config.features, 10, norm=NORMS[norm], activation=activation)
    return model, optax.adam(config.learning_rate)


def _activation_inputs(
    model: MLP, params: Any, batch_stats: Any, images: jax.Array
) -> dict[str, jax.Array]:
    """Return the last hidden layer's values by case, in eval mode."""
    last = len(model.features) - 1
    state = TrainState(jnp.zeros(()), params, batch_stats, (), jax.random.key(0), jnp.zeros(()))
    found: dict[str, Any] = layer_values(model.apply, state.variables, images, train=False)
    if model.norm is None:
        return {"no norm": found[f"hidden_{last}"].output}
    stats = batch_stats[f"norm_{last}"]
    before, after = found[f"norm_{last}"]
    normalized = (before - stats["mean"]) / jnp.sqrt(stats["var"] + _EPSILON)
    return dict(zip(DRAWN, (before, normalized, after), strict=True))


def _histograms(source: str, activation: str, cases: Cases) -> list[Row]:
    """Return the share of the values in each bin. The outermost bins hold those outside too."""
    own, middles = {"source": source, "activation": activation}, (_EDGES[1:] + _EDGES[:-1]) / 2
    rows: list[Row] = []
    for case, values in cases.items():
        flat = np.clip(np.asarray(values).ravel(), _EDGES[0], _EDGES[-1])
        shares = np.histogram(flat, _EDGES)[0] / flat.size
        rows += [
            {**own, "case": case, "value": middle, "share": share}
            for middle, share in zip(middles, shares, strict=True)
        ]
    return rows


def figures(folder: Path) -> list[Path]:
    """Draw the functions over drawn inputs, and the inputs of trained networks' activations."""
    return [_draw_drawn(folder), _draw_trained(folder)]


def _draw_drawn(folder: Path) -> Path:
    histograms = select(read_table(folder / "histograms.csv"), source="drawn")
    bias = read_table(folder / "bias.csv")
    figure = new_figure(11.0, 5.4)
    grid = subplots(figure, 2, 4)
    z = jnp.linspace(-6, 6, 241)
    for row, (name, function) in enumerate(ACTIVATIONS.items()):
        slope = jax.vmap(jax.grad(function))(z)
        panel = grid[row, 0]
        panel.plot(z, function(z), color=COLOURS[0], label=_NAMES[name])
        panel.plot(z, slope, color=COLOURS[1], ls="--", label="derivative")
        panel.set(xlabel="input", ylabel="output, derivative", ylim=(-0.05, 1.6))
        legend(panel, loc="upper left", fontsize=8)
        for column, case in enumerate(DRAWN[: 3 - row], start=1):
            _draw_histogram(grid[row, column], select(histograms, case=case), case)
            twin = grid[row, column].twinx()
            twin.plot(z, slope, color=COLOURS[1], ls="--")
            twin.set(ylim=(0, 1.1 * float(slope.max())))
            twin.tick_params(colors=COLOURS[1], labelsize=8)
            twin.set_ylabel("derivative", color=COLOURS[1], fontsize=9)
            twin.grid(False)
    grid[1, 3].plot(bias["bias"], bias["passed"], color=COLOURS[0])
    grid[1, 3].axvline(0, color="0.6", lw=0.8)
    grid[1, 3].set(
        xlabel="bias after normalization", ylabel="share of inputs\nthat a ReLU passes", ylim=(0, 1)
    )
    return save(figure, folder / "drawn.png")


def _draw_histogram(axes: Any, rows: dict[str, np.ndarray], case: str) -> None:
    width = rows["value"][1] - rows["value"][0]
    axes.bar(rows["value"], 100 * rows["share"], width, color=COLOURS[0], alpha=0.6)
    axes.set(xlabel="input", xlim=(-6, 6), title=_TITLES[case])
    axes.set_ylabel("inputs (%)", fontsize=9)
    axes.title.set_fontsize(10)


def _draw_trained(folder: Path) -> Path:
    histograms = select(read_table(folder / "histograms.csv"), source="trained")
    table = read_table(folder / "trained.csv")
    figure = new_figure(11.0, 5.4)
    grid = subplots(figure, 2, len(TRAINED))
    for row, name in enumerate(ordered(table["activation"])):
        for column, case in enumerate(TRAINED):
            measured = select(table, activation=name, case=case)
            passed = measured["passed"]
            rows = select(histograms, activation=name, case=case)
            _draw_histogram(grid[row, column], rows, case)
            grid[row, column].set(
                xlim=(-8, 8),
                xlabel=f"input of the {_NAMES[name]}\n(outermost bars: all beyond 8)",
            )
            told = over_seeds(passed, ".3f", of="")
            grid[row, column].set_title(f"{_TITLES[case]}\npasses {told}")
            grid[row, column].title.set_fontsize(9)
    return save(figure, folder / "trained.png")


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which claims the numbers show."""
    drawn, trained = results["drawn"], results["trained"]
    passed = {name: {case: of["passed"] for case, of in by.items()} for name, by in trained.items()}
    return {
        "a sigmoid passes more of a gradient on normalized inputs": drawn["passed"]["sigmoid"][
            "normalized"
        ]
        > drawn["passed"]["sigmoid"]["before"],
        "the sigmoids and ReLUs of a trained network pass more with batch norm": all(
            min(by["scale and bias"]) > max(by["no norm"]) for by in passed.values()
        ),
        "half of a normalized input dies in a ReLU without a bias": abs(
            drawn["passed"]["relu"]["normalized"] - 0.5
        )
        < 0.01,
        "scale = sqrt(var) and bias = mean give the input back": drawn["identity_error"] < 1e-4,
    }


def summary(results: dict[str, Any]) -> list[str]:
    """Say the mean gradient passed in each case, and the scale and bias of the identity."""
    drawn, trained = results["drawn"], results["trained"]
    sigmoid, relu = (drawn["passed"][name] for name in ("sigmoid", "relu"))
    return [
        f"Of a gradient, a sigmoid passes {sigmoid['before']:.4f} on inputs drawn from -5..5 and "
        f"{sigmoid['normalized']:.4f} once they are normalized (closed forms "
        f"{_sigmoid_passes(5):.4f} and {_sigmoid_passes(math.sqrt(3)):.4f}).",
        f"A ReLU passes {relu['normalized']:.3f} of a normalized input, and "
        f"{drawn['relu_bias_1']:.3f} with a bias of 1 (closed form {(1 + 3**-0.5) / 2:.3f}).",
        f"Gradient descent to the identity finds the scale {drawn['scale']:.5f} and the bias "
        f"{drawn['bias']:.5f}; sqrt(var + epsilon) and the mean are {drawn['std']:.5f} and "
        f"{drawn['mean']:.5f}; the input comes back with an error of "
        f"{drawn['identity_error']:.1e}.",
        *(_trained_sentence(name, cases) for name, cases in trained.items()),
    ]


def _sigmoid_passes(bound: float) -> float:
    """Return the mean derivative of a sigmoid over a uniform input from -bound to bound."""
    return math.tanh(bound / 2) / (2 * bound)


def _trained_sentence(name: str, cases: dict[str, dict[str, list[float]]]) -> str:
    passed = ", ".join(
        f"{case} {over_seeds(of['passed'], '.3f', of='')}" for case, of in cases.items()
    )
    without, with_norm = cases["no norm"], cases["scale and bias"]
    return (
        f"Trained networks, last hidden {name}, mean gradient passed (range over seeds): {passed}; "
        f"saturated {mean(without['saturated'], '.3f')} without and "
        f"{mean(with_norm['saturated'], '.3f')} with batch norm; dead units "
        f"{mean(without['dead'], '.3f')} and {mean(with_norm['dead'], '.3f')}; test accuracy "
        f"{mean(without['accuracy'], '.1%')} and {mean(with_norm['accuracy'], '.1%')}."
    )
