"""Weights before a norm have no scale: what learning rate and weight decay do to them."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnorm.linen import BatchNorm
from jaxnorm.models import MLP, NormFactory
from jaxnorm.training import TrainState

from .._run import Run
from .._seeds import Table, last
from .._sweep import Data, Group, Hyper, decay_kernels, make_sweep, splits
from .._tables import read_table, select
from .._trainer import Measured, Point, every
from ._figures import figures as figures
from ._summary import claims as claims
from ._summary import summary as summary
from ._turns import record_turns

# Without an epsilon the norm is exactly invariant. Without a scale and a bias of its own, all that
# is trained is.
NORMS: dict[str, NormFactory | None] = {
    "none": None,
    "batch": functools.partial(
        BatchNorm, epsilon=0.0, use_scale=False, use_bias=False, momentum=0.9
    ),
}
# Of a distance of distributions. float32 has rounding of 1e-7.
ROUNDING = 1e-5
SCALED, WEIGHTS, GROWING, PLAIN = "scaled", "weights only", "growing", "no decay"


@dataclasses.dataclass(frozen=True)
class Config:
    """Two ReLU layers on MNIST whose weights have no scale, with many rates and weight decays.

    Command: `python -m experiments scale_invariance`. It takes four minutes of processor time.
    `--preset smoke` takes digits.

    The output layer stays as it was drawn, as in Li and Arora 2020, so that everything that is
    trained stands before a norm. The optimizer is plain SGD.

    Expected: with batch norm, weights times c at a learning rate times c^2 and a weight decay over
    c^2 are the same function after each step; a rate of `rate * (1 - rate * decay) ** (-2 t - 1)`
    without weight decay is the same function as a constant rate with it, until rounding makes them
    part after some hundred steps; in the end each layer turns by sqrt(2 * rate * decay) at each
    step. Without norm none of these holds.

    Attributes:
        dataset: Name of a data set that is in memory.
        train_examples: How many training images are used, from the first on.
        test_examples: How many test images functions are compared on, from the first on.
        seeds: Each gives an initialization and an order of the data.
        features: Widths of the hidden layers.
        steps: Training steps.
        points: How often is measured.
        batch_size: Images in a step.
        rates: Learning rates. The one in the middle is that of the comparisons.
        products: Products of learning rate and weight decay. The first is that of the comparisons.
        scale: The c of the comparisons. A power of two changes no digit of a number.
    """

    dataset: str = "mnist"
    train_examples: int = 10_000
    test_examples: int = 1000
    seeds: tuple[int, ...] = (0, 1, 2)
    features: tuple[int, ...] = (64, 64)
    steps: int = 2500
    points: int = 25
    batch_size: int = 64
    rates: tuple[float, ...] = (0.03, 0.1, 0.3)
    products: tuple[float, ...] = (2e-3, 5e-3, 1.25e-2)
    scale: float = 4.0


PRESETS = {
    "smoke": Config(
        dataset="digits",
        train_examples=640,
        test_examples=360,
        features=(32, 32),
        steps=600,
        points=6,
        rates=(0.1, 0.3),
        products=(3e-3, 1e-2),
    ),
    "default": Config(),
    "paper": Config(
        train_examples=60_000,
        test_examples=10_000,
        features=(256, 256, 256),
        steps=20_000,
        products=(2e-4, 1e-3, 5e-3),
    ),
}


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train all networks of a norm at once, and compare their functions with the first trial's."""
    data = run.dataset(config.dataset)
    train, test = splits(data, config.train_examples, config.test_examples)
    trials = make_trials(config)
    hyper = {name: [of[name] for of in trials.values()] for name in next(iter(trials.values()))}
    for norm in NORMS:
        sweep = make_sweep(
            functools.partial(_build, config, norm),
            train,
            batch_size=config.batch_size,
            steps=config.steps // config.points,
        )
        _train(config, run, Group(norm, sweep, config.seeds, tuple(trials), hyper), test)
    return _numbers(config, run)


def make_trials(config: Config) -> dict[str, dict[str, float]]:
    """Return the numbers of each trial. The first is the one that others are compared with.

    Examples:
        >>> trials = make_trials(Config(rates=(0.1,), products=(1e-3,)))
        >>> list(trials), trials["scaled"]["rate"]
        (['0.001 at 0.1', 'scaled', 'weights only', 'growing', 'no decay'], 1.6)
    """
    rate, product, c = config.rates[len(config.rates) // 2], config.products[0], config.scale
    plain = {"rate": rate, "decay": product / rate, "growth": 0.0, "scale": 1.0}
    grid = {
        trial_name(p, r): {**plain, "rate": r, "decay": p / r}
        for p in config.products
        for r in config.rates
    }
    compared = {
        SCALED: {**plain, "rate": c**2 * rate, "decay": product / rate / c**2, "scale": c},
        WEIGHTS: {**plain, "scale": c},
        GROWING: {**plain, "decay": 0.0, "growth": -math.log1p(-product)},
        PLAIN: {**plain, "decay": 0.0},
    }
    reference = trial_name(product, rate)
    return {reference: grid[reference], **grid, **compared}


def trial_name(product: float, rate: float) -> str:
    """Return the name of the trial of a product of learning rate and weight decay, and a rate."""
    return f"{product:g} at {rate:g}"


def make_model(config: Config, norm: str) -> MLP:
    """Return the network with batch norm or with none, otherwise the same."""
    return MLP(config.features, 10, norm=NORMS[norm], use_bias=False)


def scale_hidden(params: Any, scale: Any) -> dict[str, Any]:
    """Return the parameters with all kernels but the output's times `scale`."""
    return {
        name: part if name == "output" else jax.tree.map(lambda w: scale * w, part)
        for name, part in params.items()
    }


def _build(config: Config, norm: str, hyper: Hyper) -> tuple[MLP, optax.GradientTransformation]:
    return make_model(config, norm), make_optimizer(hyper)


def _is_output(params: Any) -> dict[str, bool]:
    return {name: name == "output" for name in params}


def make_optimizer(hyper: Hyper) -> optax.GradientTransformation:
    """Return SGD with weight decay and a growing rate, which leaves the output layer as it is.

    The rate of step t, from 0 on, is `rate * exp(growth * (2 t + 1))`.

    Args:
        hyper: `rate`, `decay` and `growth`, all [].
    """
    return optax.chain(
        decay_kernels(hyper["decay"]),
        optax.scale_by_learning_rate(
            lambda t: hyper["rate"] * jnp.exp(hyper["growth"] * (2 * t + 1))
        ),
        optax.masked(optax.set_to_zero(), _is_output),
        record_turns(),
    )


def make_function(config: Config, norm: str) -> Callable[[TrainState, jax.Array], jax.Array]:
    """Return a compiled function (states [S, T], inputs [N, P]) -> probabilities [S, T, N, K].

    It is the function that is trained, with the statistics of these inputs. Running statistics lag
    behind weights that grow, so that they make another function.
    """
    model = make_model(config, norm)

    def one(params: Any, batch_stats: Any, inputs: jax.Array) -> jax.Array:
        variables = {"params": params, "batch_stats": batch_stats}
        logits: Any = model.apply(variables, inputs, train=True, mutable=["batch_stats"])[0]
        return jax.nn.softmax(logits)

    over_all = jax.jit(jax.vmap(jax.vmap(one, in_axes=(0, 0, None)), in_axes=(0, 0, None)))
    return lambda states, inputs: over_all(states.params, states.batch_stats, inputs)


def _train(config: Config, run: Run, group: Group, test: Data) -> None:
    function = make_function(config, group.name)

    def start() -> TrainState:
        """Return fresh networks whose hidden kernels are multiplied by the trials' scales."""
        states, scale = group.start(), group.numbers["scale"][:, :, None, None]
        return states._replace(params=scale_hidden(states.params, scale))

    def measure(point: Point) -> Measured:
        states = point.state
        evaluated = group.predict(states, test["inputs"])
        apart = _distances(function(states, test["inputs"]))
        curves = group.rows(
            train_loss=point.metrics["loss"],
            accuracy=jnp.mean(evaluated.argmax(-1) == test["labels"], -1),
            distance=apart.mean(-1),
            greatest=apart.max(-1),
            evaluated=_distances(evaluated).mean(-1),
        )
        angles = states.opt_state[-1].angles()
        layers = []
        for layer in range(len(config.features)):
            kernel = states.params[f"hidden_{layer}"]["kernel"]
            norms = jnp.sqrt(jnp.sum(kernel**2, (-2, -1)))
            turns = angles[f"hidden_{layer}"]["kernel"]
            layers += [{"layer": layer, **row} for row in group.rows(norm=norms, turn=turns)]
        loss = float(np.nanmedian(point.metrics["loss"]))
        scalars = {"median_train_loss": loss}
        return Measured({"curves": curves, "layers": layers}, f"loss {loss:.3f}", scalars)

    points = every(group.sweep.steps, config.points)
    group.train(run, measure, points=points, start=start)


def _distances(probabilities: jax.Array) -> jax.Array:
    """Return how far the classes' distributions [S, T, N, K] are from those of the first trial.

    It is the total variation [S, T, N]. A network that diverged is as far away as can be.
    """
    apart = jnp.sum(jnp.abs(probabilities - probabilities[:, :1]), -1) / 2
    return jnp.nan_to_num(apart, nan=1.0)


def _numbers(config: Config, run: Run) -> dict[str, Any]:
    """Return the distances of the compared trials, and the turns and norms of the grid, by seed."""
    curves, layers = (read_table(run.table(name)) for name in ("curves", "layers"))
    reference = trial_name(config.products[0], config.rates[len(config.rates) // 2])
    results: dict[str, Any] = {"scale": config.scale, "steps": config.steps}
    for norm in NORMS:
        rows = select(curves, group=norm)
        found = {}
        for trial in (SCALED, WEIGHTS, GROWING, PLAIN):
            own = select(rows, trial=trial)
            found[trial] = {
                "distance": last(rows, "distance", trial=trial),
                "greatest": own["greatest"].max(),
                "evaluated": last(rows, "evaluated", trial=trial),
                "together": _together(own),
            }
        turns = {
            f"{product:g}": {
                f"{rate:g}": _turns(layers, norm, product, rate) for rate in config.rates
            }
            for product in config.products
        }
        norms = {
            trial: last(layers, "norm", group=norm, trial=trial) for trial in (reference, WEIGHTS)
        }
        results[norm] = {
            "compared": found,
            "turns": turns,
            "norms": {"reference": norms[reference], WEIGHTS: norms[WEIGHTS]},
            "accuracy": {
                trial: last(rows, "accuracy", trial=trial) for trial in (reference, GROWING, PLAIN)
            },
        }
    return results


def _together(rows: Table) -> list[int]:
    """Return by seed up to which step no image's distance has been above rounding."""
    ends = []
    for seed in np.unique(rows["seed"]):
        own = select(rows, seed=seed)
        apart = own["greatest"] > ROUNDING
        steps = own["step"][: int(apart.argmax()) if apart.any() else None]
        ends.append(int(max(steps, default=0)))
    return ends


def _turns(layers: Table, norm: str, product: float, rate: float) -> list[float]:
    """Return the turn of each layer and seed at the end, over sqrt(2 * product)."""
    found = last(layers, "turn", group=norm, trial=trial_name(product, rate))
    return [turn / math.sqrt(2 * product) for turn in found]
