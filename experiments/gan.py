"""A DCGAN with batch norm, instance norm, spectral norm and none."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.linalg import sqrtm

from jaxnorm.linen import BatchNorm, InstanceNorm
from jaxnorm.models import CNN, DCGANDiscriminator, DCGANGenerator, NormFactory
from jaxnorm.training import TrainState, create_train_state

from ._classification import Images, centred, make_classifier, on_device
from ._figures import draw_curves, legend, log_axis, new_figure, save, subplots
from ._run import Run
from ._seeds import last, over_seeds, sentence
from ._tables import read_table
from ._trainer import Measured, Point, every, train

_BATCH: NormFactory = functools.partial(BatchNorm, momentum=0.9)
NORMS = ("none", "batch", "instance", "spectral")
LABELS = {
    "none": "none",
    "batch": "batch norm",
    "instance": "instance norm",
    "spectral": "spectral norm in D, batch norm in G",
}
_DIGITS_SHOWN = 8  # along each side of a sample grid
_NOISE = 64


@dataclasses.dataclass(frozen=True)
class Config:
    """Makes handwritten digits with a DCGAN, and lets a classifier judge them.

    Command: `python -m experiments gan`. The preset `paper` trains wider networks for 20 000 steps
    and needs a GPU.

    Both networks are those of Radford et al. (arXiv:1511.06434, 2015), scaled to the images. The
    loss is the non-saturating one (Goodfellow et al., arXiv:1406.2661, 2014, section 3). The
    optimizer is Adam with beta_1 0.5. The paper's learning rate is 2e-4, for a hundred times the
    steps. "spectral" is the pair of Miyato et al. (arXiv:1802.05957, 2018): spectral norm in the
    discriminator, batch norm in the generator.

    A convolutional network is trained on the real training images and gives made images two scores.
    The classifier score is exp(E KL(p(y|x) || p(y))), from 1 to 10, and greater is better. It is
    the inception score of Salimans et al. (arXiv:1606.03498, 2016) with that network. The distance
    is the Frechet distance between two Gaussians, and less is better. The Gaussians are fitted to
    the network's logits on made and on real test images, as in Heusel et al. (arXiv:1706.08500,
    2017).

    Expected: with each norm, the classifier recognizes the digits after fewer steps than without a
    norm. Instance norm is as good as batch norm, since the contrast of a map, which it takes away,
    carries nothing in black and white digits. Spectral norm is behind both in a short training, and
    passes batch norm in one of ten times the steps.

    Attributes:
        dataset: Name of a data set that is in memory.
        norms: Names of the norms.
        seeds: Each gives an initialization and an order of the data. All share one classifier.
        widths: Channels of the generator's layers. The discriminator has them in reverse order.
        batch_size: Real images in a step, and as many made ones.
        steps: Training steps of both networks.
        learning_rate: Learning rate of Adam, for both networks.
        points: How often the scores are measured.
        judged: How many made images a score is taken over.
        classifier_steps: Training steps of the classifier.
    """

    dataset: str = "mnist"
    norms: tuple[str, ...] = NORMS
    seeds: tuple[int, ...] = (0, 1, 2)
    widths: tuple[int, ...] = (48, 24)
    batch_size: int = 32
    steps: int = 600
    learning_rate: float = 1e-3
    points: int = 6
    judged: int = 1000
    classifier_steps: int = 400


PRESETS = {
    "smoke": Config(
        dataset="digits",
        norms=("none", "batch", "spectral"),
        seeds=(0,),
        widths=(16, 8),
        steps=60,
        points=2,
        judged=200,
        classifier_steps=150,
    ),
    "default": Config(),
    "paper": Config(
        widths=(128, 64), batch_size=128, steps=20_000, learning_rate=2e-4, points=50, judged=10_000
    ),
}


class Game(NamedTuple):
    """Both players."""

    generator: TrainState
    discriminator: TrainState


class Players(NamedTuple):
    """The two networks of a norm, and the functions that are compiled for all of its seeds."""

    start: Callable[[jax.Array], Game]  # key -> game
    step: Callable[[Game], tuple[Game, dict[str, jax.Array]]]
    sample: Callable[[TrainState, jax.Array], jax.Array]  # generator, noise -> images


class Judge(NamedTuple):
    """The classifier, and its logits of the real test images."""

    logits: Callable[[jax.Array], np.ndarray]  # images [N, H, W, 1] from -1 to 1 -> [N, 10]
    real: np.ndarray  # [N, 10] logits of the test images
    accuracy: float


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train a pair per norm and seed; `scores` has a row per measurement."""
    data = run.dataset(config.dataset)
    images, test = on_device(data, None, config.judged)
    judge = _judge(config, images, test, data.white)
    real = centred(data.white)(images)
    for norm in config.norms:
        players = _players(config, norm, real)
        for seed in config.seeds:
            generator = _play(run, config, players, judge, norm, seed)
            if seed == config.seeds[0]:
                samples = players.sample(generator, _noise(_DIGITS_SHOWN**2))
                run.keep(f"samples_{norm}", samples[..., 0])
    table = read_table(run.table("scores"))
    return {
        "classifier_accuracy": judge.accuracy,
        "real_score": classifier_score(judge.real),
        "scores": {
            norm: {name: last(table, name, norm=norm) for name in ("score", "distance")}
            for norm in config.norms
        },
    }


def _judge(config: Config, images: Images, test: Images, white: int) -> Judge:
    model = CNN(10, stages=((16,), (32,)), features=(64,), norm=_BATCH)
    classifier = make_classifier(
        model,
        optax.adam(2e-3),
        images,
        test,
        white=white,
        batch_size=100,
        steps=config.classifier_steps,
    )
    state, _ = classifier.advance(classifier.start(jax.random.key(0)))
    apply = jax.jit(functools.partial(model.apply, state.variables))

    def logits(images: jax.Array) -> np.ndarray:
        return np.asarray(apply(images), np.float64)

    real = logits(centred(white)(test))
    return Judge(logits, real, float(classifier.evaluate(state)["accuracy"]))


def classifier_score(logits: np.ndarray) -> float:
    """Return exp(E KL(p(y|x) || p(y))) of the class probabilities behind logits [N, K].

    Examples:
        >>> round(classifier_score(100 * np.eye(4)), 6), classifier_score(np.zeros((4, 4)))
        (4.0, 1.0)
    """
    logs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    p = np.exp(logs)
    return float(np.exp(np.mean(np.sum(p * (logs - np.log(p.mean(0))), axis=1))))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Frechet distance of Gaussians fitted to two samples [N, K] and [M, K].

    Examples:
        >>> a = np.random.default_rng(0).standard_normal((500, 3))
        >>> round(frechet_distance(a, a + 2.0), 6)
        12.0
    """
    of_a, of_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(np.asarray(sqrtm(of_a @ of_b)))
    between = np.sum((a.mean(0) - b.mean(0)) ** 2)
    return float(between + np.trace(of_a + of_b - 2 * root))


def _players(config: Config, norm: str, real: jax.Array) -> Players:
    """Return the compiled game of a norm over real images [N, H, W, 1] from -1 to 1."""
    factories: dict[str, tuple[NormFactory | None, NormFactory | None]] = {
        "none": (None, None),
        "batch": (_BATCH, _BATCH),
        "instance": (InstanceNorm, InstanceNorm),
        "spectral": (_BATCH, None),
    }
    of_generator, of_discriminator = factories[norm]
    side = real.shape[1] // 2 ** len(config.widths)
    generator = DCGANGenerator(config.widths, (side, side), real.shape[-1], of_generator)
    discriminator = DCGANDiscriminator(
        config.widths[::-1], of_discriminator, spectral=norm == "spectral"
    )
    tx = optax.adam(config.learning_rate, b1=0.5)

    def start(key: jax.Array) -> Game:
        of_g, of_d = jax.random.split(key)
        return Game(
            create_train_state(generator, of_g, jnp.zeros((1, _NOISE)), tx),
            create_train_state(discriminator, of_d, real[:1], tx),
        )

    def step(game: Game) -> tuple[Game, dict[str, jax.Array]]:
        g, d = game
        key = jax.random.fold_in(g.rng, g.step)
        of_images, *of_noise = jax.random.split(key, 3)
        rows = jax.random.randint(of_images, (config.batch_size,), 0, len(real))
        z, other = (jax.random.normal(each, (config.batch_size, _NOISE)) for each in of_noise)
        made = generator.apply(g.variables, z, train=True, mutable=["batch_stats"])[0]

        def judged(params: Any) -> tuple[jax.Array, Any]:
            says, stats = _call(discriminator, params, d.batch_stats, real[rows])
            of_made, stats = _call(discriminator, params, stats, made)
            return jnp.mean(nn.softplus(-says)) + jnp.mean(nn.softplus(of_made)), stats

        (d_loss, stats), gradient = jax.value_and_grad(judged, has_aux=True)(d.params)
        d = _stepped(tx, d, gradient, stats)

        def fooled(params: Any) -> tuple[jax.Array, Any]:
            images, stats = _call(generator, params, g.batch_stats, other)
            says, _ = _call(discriminator, d.params, d.batch_stats, images)
            return jnp.mean(nn.softplus(-says)), stats

        (g_loss, stats), gradient = jax.value_and_grad(fooled, has_aux=True)(g.params)
        losses = {"discriminator_loss": d_loss, "generator_loss": g_loss}
        return Game(_stepped(tx, g, gradient, stats), d), losses

    return Players(
        jax.jit(start),
        jax.jit(step, donate_argnums=0),
        jax.jit(lambda g, z: generator.apply(g.variables, z, train=False)),
    )


def _call(model: nn.Module, params: Any, stats: Any, x: Any) -> tuple[jax.Array, Any]:
    """Return the output in training mode and the new running statistics."""
    variables = {"params": params, "batch_stats": stats}
    y, changed = model.apply(variables, x, train=True, mutable=["batch_stats"])
    return y, changed.get("batch_stats", stats)


def _stepped(
    tx: optax.GradientTransformation, state: TrainState, gradient: Any, stats: Any
) -> TrainState:
    updates, opt_state = tx.update(gradient, state.opt_state, state.params)
    return state._replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=stats,
        opt_state=opt_state,
    )


def _play(
    run: Run, config: Config, players: Players, judge: Judge, norm: str, seed: int
) -> TrainState:
    """Train a pair and return the generator."""

    def measure(point: Point) -> Measured:
        made = judge.logits(players.sample(point.state.generator, _noise(config.judged)))
        score, distance = classifier_score(made), frechet_distance(made, judge.real)
        row = {"score": score, "distance": distance, **point.metrics}
        return Measured({"scores": [row]}, f"score {score:.2f}")

    game = train(
        run,
        f"{norm}-{seed}",
        lambda: players.start(jax.random.key(seed)),
        players.step,
        measure,
        points=every(config.steps // config.points, config.points),
        where={"norm": norm, "seed": seed},
    )
    return game.generator


def _noise(count: int) -> jax.Array:
    return jax.random.normal(jax.random.key(0), (count, _NOISE))


def figures(folder: Path) -> list[Path]:
    """Draw a grid of made digits per norm, and both scores against steps."""
    return [_draw_samples(folder), _draw_scores(folder)]


def _draw_samples(folder: Path) -> Path:
    norms = [norm for norm in NORMS if (folder / f"samples_{norm}.npy").exists()]
    figure = new_figure(3.2 * len(norms), 4.1)
    for axes, norm in zip(subplots(figure, 1, len(norms))[0], norms, strict=True):
        samples = np.load(folder / f"samples_{norm}.npy").astype(np.float32)
        n, height, width = samples.shape
        rows = samples.reshape(_DIGITS_SHOWN, n // _DIGITS_SHOWN, height, width)
        sheet = rows.transpose(0, 2, 1, 3).reshape(_DIGITS_SHOWN * height, -1)
        axes.imshow(sheet, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_title(LABELS[norm].replace(", ", ",\n"), fontsize=13)
        axes.axis("off")
    return save(figure, folder / "samples.png")


def _draw_scores(folder: Path) -> Path:
    table = read_table(folder / "scores.csv")
    figure = new_figure(9.5, 4.2)
    grid = subplots(figure, 1, 2, sharex=True)
    for axes, name in zip(grid.flat, ("score", "distance"), strict=True):
        draw_curves(axes, table, y=name, by="norm", labels=LABELS)
        axes.set_xlabel("step")
    grid[0, 0].set_ylabel("classifier score, 1 to 10")
    grid[0, 1].set(ylabel="Frechet distance of logits", yscale="log")
    log_axis(grid[0, 1].yaxis)
    legend(figure, grid[0, 0])
    return save(figure, folder / "scores.png")


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which of the papers' claims the numbers show."""
    score = {norm: measured["score"] for norm, measured in results["scores"].items()}
    claimed = {
        f"with {norm} norm the generator learns in fewer steps than without a norm": (
            min(score[norm]) > max(score["none"])
        )
        for norm in ("batch", "spectral")
        if {"none", norm} <= {*score}
    }
    if {"batch", "instance"} <= {*score}:
        worse = max(score["instance"]) < min(score["batch"])
        claimed["instance norm does worse than batch norm"] = worse
    return claimed


def summary(results: dict[str, Any]) -> list[str]:
    """Say the two scores of each norm after training, beside the scores of real images."""
    return [
        f"The classifier knows {results['classifier_accuracy']:.1%} of the test images. Their "
        f"score is {results['real_score']:.2f}.",
        *(
            f"{sentence(LABELS[norm])}: score {over_seeds(measured['score'], '.2f')}, distance "
            f"{over_seeds(measured['distance'], '.1f', of='')}."
            for norm, measured in results["scores"].items()
        ),
    ]
