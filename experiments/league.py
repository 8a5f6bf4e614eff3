"""Every norm of the catalogue in a small ResNet and in a small language model."""

import dataclasses
import functools
import json
import math
import pydoc_data.topics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnorm import linen
from jaxnorm.functional import CATALOGUE, SPECS
from jaxnorm.models import NormFactory, ResNet, Transformer, apply_norm, norm_factory

from ._classification import centred, on_device
from ._league_table import (
    MEASUREMENTS,
    NONE,
    TEXT,
    kept_bytes,
    key_of,
    read_measurements,
    show_table,
    table_of,
    write_table,
)
from ._league_table import figures as figures
from ._run import Run

# What the default of a member needs where channels or images are few.
_OPTIONS: dict[str, dict[str, Any]] = {
    "group_norm": {"num_groups": 4},
    "batch_group_norm": {"num_groups": 4},
    "cumulative_group_norm": {"num_groups": 4},
    "ghost_batch_norm": {"ghost_batch_size": 2},
    "evo_norm_s0": {"num_groups": 4},
    "evo_norm_s1": {"num_groups": 4},
    "evo_norm_s2": {"num_groups": 4},
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Every norm that a model can call by its name, in two tasks and at two batch sizes.

    Command: `python -m experiments league`. The tasks are the images of `dataset` in a small
    ResNet, at each of the batch sizes, and the characters of Python's own help texts
    (`pydoc_data.topics`) in a small causal transformer with the norm before each layer.
    `--preset tiny` takes handwritten digits and needs no data set.

    Norms of activations stand where the model has its norms. Norms of kernels wrap its layers,
    with no norm of activations. A member is left out of a task where a layer of it needs more than
    the model gives, or where it would read the answer: where in evaluation an example's output
    depends on other examples, or a position's output on later positions. The reasons are in the
    results. All members share the optimizer (Adam) and its learning rates, tuned for none of them.

    A training is diverged where the mean loss of the last tenth of its steps is not finite or above
    that of guessing. Kept bytes are the arrays that `jax.vjp` of the loss keeps, parameters among
    them. A run that is resumed goes on after the last finished training.

    Expected: no member is best in every contest. At a batch size of 2 the members with running
    statistics lose more than those without. In short trainings whitening leads at a batch of 32 and
    in the transformer, and weight standardization alone keeps its accuracy at a batch of 2. In a
    transformer of one block, layer and RMS norm are no better than no norm.

    Attributes:
        members: Names of the members; empty for all of the catalogue.
        dataset: Name of a data set that is in memory.
        train_examples: How many training images are used, from the first on; None for all.
        test_examples: How many test images are used, from the first on; at most some thousands.
        half_size: Whether images are averaged over 2 x 2 pixels first.
        batch_sizes: Images in a step.
        steps: Training steps at each of the batch sizes.
        blocks: Residual blocks of each stage.
        widths: Channels of each stage.
        learning_rate: Learning rate at a batch of 32, proportional to the root of the batch size.
            It falls to zero along a cosine.
        decay: Weight of the old running statistics at a batch of 32 and in the transformer. As many
            images, rather than as many steps, are forgotten at every batch size.
        context: Characters of a sequence.
        text_batch_size: Sequences in a step.
        text_steps: Training steps of the transformer.
        text_windows: Sequences of the evaluation.
        width: Channels of the transformer.
        layers: Blocks of the transformer.
        heads: Attention heads of the transformer.
        text_learning_rate: Learning rate of the transformer, falling likewise.
        seeds: Each gives an initialization and an order of the data.
    """

    members: tuple[str, ...] = ()
    dataset: str = "cifar10"
    train_examples: int | None = 10000
    test_examples: int | None = 1000
    half_size: bool = True
    batch_sizes: tuple[int, ...] = (32, 2)
    steps: tuple[int, ...] = (1500, 6000)
    blocks: tuple[int, ...] = (1, 1, 1)
    widths: tuple[int, ...] = (8, 16, 32)
    learning_rate: float = 0.01
    decay: float = 0.9
    context: int = 64
    text_batch_size: int = 16
    text_steps: int = 2000
    text_windows: int = 256
    width: int = 64
    layers: int = 2
    heads: int = 4
    text_learning_rate: float = 0.003
    seeds: tuple[int, ...] = (0, 1, 2)


_TINY = Config(
    dataset="digits",
    train_examples=None,
    test_examples=None,
    half_size=False,
    steps=(150, 600),
    blocks=(1,),
    widths=(12,),
    text_steps=150,
    text_windows=64,
    width=32,
    layers=1,
    text_learning_rate=0.01,
)

PRESETS = {
    "smoke": dataclasses.replace(
        _TINY,
        members=("instance_norm", "pair_norm", "weight_norm", "film"),
        train_examples=256,
        test_examples=100,
        batch_sizes=(4,),
        steps=(12,),
        widths=(4,),
        context=16,
        text_batch_size=4,
        text_steps=20,
        text_windows=8,
        width=8,
        heads=2,
        seeds=(0, 1),
    ),
    "tiny": _TINY,
    "default": Config(),
    "paper": Config(
        train_examples=None,
        half_size=False,
        steps=(20000, 80000),
        blocks=(3, 3, 3),
        widths=(16, 32, 64),
        context=256,
        text_batch_size=32,
        text_steps=10000,
        width=256,
        layers=6,
        heads=8,
        text_learning_rate=0.001,
    ),
}


class Task(NamedTuple):
    """What a member is trained on."""

    name: str
    model: Callable[[NormFactory | None, NormFactory | None], nn.Module]  # (norm, of kernels)
    draw: Callable[[jax.Array, int], tuple[jax.Array, jax.Array]]  # (key, size) -> a batch
    held_out: tuple[jax.Array, jax.Array]
    classes: int
    sizes: Mapping[int, tuple[int, float, float]]  # batch size -> steps, learning rate, decay
    shape: tuple[int, ...]  # of an array that the member normalizes


class Trainer(NamedTuple):
    """A model of a task, compiled once for all of its seeds."""

    start: Callable[[jax.Array], Any]
    evaluate: Callable[[Any], tuple[jax.Array, jax.Array]]  # -> loss, accuracy
    loss: Callable[..., Any]


def run(config: Config, run: Run) -> dict[str, Any]:
    """Train every member in every task; the table `league` has a row per member."""
    tasks = [_images(config, run), _text(config, run)]
    names = [NONE, *(config.members or [member.name for member in CATALOGUE])]
    path = run.folder / MEASUREMENTS
    done = {key_of(row) for row in read_measurements(path)}
    left_out: dict[str, dict[str, str]] = {}
    with run.progress("league", len(names), "members") as report:
        for position, name in enumerate(names, 1):
            for task in tasks:
                reason = why_not(name, task)
                if reason:
                    left_out.setdefault(name, {})[task.name] = reason
                else:
                    _train_member(config, path, task, name, done)
            report(position, name)
    rows = table_of(read_measurements(path))
    write_table(run.folder, rows)
    show_table(run, rows)
    return {"members": rows, "left_out": left_out}


def _images(config: Config, run: Run) -> Task:
    data = run.dataset(config.dataset)
    train, test = on_device(
        data, config.train_examples, config.test_examples, half_size=config.half_size
    )
    scaled, classes = centred(data.white), len(data.classes)

    def draw(key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        chosen = jax.random.randint(key, (size,), 0, len(train["labels"]))
        return scaled({"inputs": train["inputs"][chosen]}), train["labels"][chosen]

    return Task(
        "images",
        lambda norm, of_kernels: ResNet(
            config.blocks, config.widths, classes, norm=norm, kernel_norm=of_kernels
        ),
        draw,
        (scaled(test), test["labels"]),
        classes,
        {
            size: (steps, config.learning_rate * math.sqrt(size / 32), config.decay ** (size / 32))
            for size, steps in zip(config.batch_sizes, config.steps, strict=True)
        },
        (2, *train["inputs"].shape[1:3], config.widths[0]),
    )


def _text(config: Config, run: Run) -> Task:
    text = "".join(pydoc_data.topics.topics.values())
    characters, codes = np.unique(list(text), return_inverse=True)
    run.data_notes["pydoc"] = (
        f"pydoc_data.topics of this Python, {len(text)} characters, {len(characters)} distinct"
    )
    part = len(codes) * 9 // 10
    train, test = jnp.asarray(codes[:part]), codes[part:]
    window = np.arange(config.context + 1)
    starts = np.linspace(0, len(test) - len(window), config.text_windows).astype(int)
    held_out = jnp.asarray(test[starts[:, None] + window])

    def draw(key: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
        first = jax.random.randint(key, (size, 1), 0, part - len(window) + 1)
        tokens = train[first + window]
        return tokens[:, :-1], tokens[:, 1:]

    return Task(
        TEXT,
        lambda norm, of_kernels: Transformer(
            len(characters),
            config.width,
            config.layers,
            config.heads,
            config.context,
            norm=norm,
            kernel_norm=of_kernels,
        ),
        draw,
        (held_out[:, :-1], held_out[:, 1:]),
        len(characters),
        {config.text_batch_size: (config.text_steps, config.text_learning_rate, config.decay)},
        (2, config.context, config.width),
    )


def norms_of(
    name: str, decay: float | None = None
) -> tuple[NormFactory | None, NormFactory | None]:
    """Return what makes the norms of activations and of kernels of a member.

    Args:
        name: the member, or "none".
        decay: weight of the old running statistics, where the member has some; None for its own.

    Raises:
        ValueError: a model cannot call the member by its name.
    """
    if name == NONE:
        return None, None
    if any(member.name == name and member.of == "kernel" for member in CATALOGUE):
        return None, norm_factory(name, "kernel")
    if name not in _OPTIONS:
        norm_factory(name)  # raises where the member needs more than a name
    cls = getattr(linen, SPECS[name].module)
    options = dict(_OPTIONS.get(name, {}))
    named = {"decay", "momentum"} & {field.name for field in dataclasses.fields(cls)}
    options.update({field: decay for field in named if decay is not None})
    return functools.partial(cls, **options) if options else cls, None


def why_not(name: str, task: Task) -> str:
    """Return why a member has no place in a task, or an empty string."""
    x = jax.random.normal(jax.random.key(0), task.shape)
    try:
        norm, of_kernels = norms_of(name)
        inputs = task.held_out[0]
        output, _ = jax.eval_shape(_Layer(norm).init_with_output, jax.random.key(0), x)
        if not isinstance(output, jax.ShapeDtypeStruct):
            return "its layer returns more than one array"
        for train in (False, True):
            model = functools.partial(task.model(norm, of_kernels).init, train=train)
            jax.eval_shape(model, jax.random.key(0), inputs[:2])
    except (ValueError, TypeError) as error:
        return str(error).split(";")[0].splitlines()[0]
    if _reaches(norm, x, x.at[1].multiply(-3.0), slice(0, 1)):
        return "in evaluation, the output of an example depends on other examples"
    if task.name == TEXT and _reaches(norm, x, x.at[:, -1].multiply(-3.0), (slice(0, 2), 0)):
        return "in evaluation, the output of a position depends on later positions"
    return ""


class _Layer(nn.Module):
    norm: NormFactory | None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return apply_norm(self.norm, x, train=False, name="norm")


def _reaches(norm: NormFactory | None, x: jax.Array, changed: jax.Array, where: Any) -> bool:
    """Return whether what differs between two inputs changes the output elsewhere."""
    layer = _Layer(norm)
    variables = layer.init(jax.random.key(0), x)
    before, after = (np.asarray(layer.apply(variables, inputs)) for inputs in (x, changed))
    return not np.allclose(before[where], after[where], rtol=0, atol=1e-4)


def _train_member(config: Config, path: Path, task: Task, name: str, done: set[Any]) -> None:
    """Train a member from every seed at every batch size that has no measurement yet."""
    missing = {
        size: [seed for seed in config.seeds if (task.name, name, size, seed) not in done]
        for size in task.sizes
    }
    if not any(missing.values()):
        return
    for size, seeds in missing.items():
        if not seeds:
            continue
        trainer = _trainer(task, *norms_of(name, task.sizes[size][2]))
        advance, state = _advance(task, trainer, size), trainer.start(jax.random.key(0))
        compiled = jax.jit(advance).lower(state, jax.random.key(0)).compile()
        fixed = {
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(state[0])),
            "kept_bytes": kept_bytes(trainer.loss, *state, *task.draw(jax.random.key(0), size)),
        }
        for seed in seeds:
            of_start, of_data = jax.random.split(jax.random.key(seed))
            state = jax.block_until_ready(trainer.start(of_start))
            began = time.perf_counter()
            state, losses = jax.block_until_ready(compiled(state, of_data))
            seconds = (time.perf_counter() - began) / task.sizes[size][0]
            loss, accuracy = (float(value) for value in trainer.evaluate(state))
            tail = float(losses[-max(1, len(losses) // 10) :].mean())
            row = {
                "task": task.name,
                "member": name,
                "batch_size": size,
                "seed": seed,
                "loss": loss if math.isfinite(loss) else None,
                "accuracy": accuracy,
                "diverged": not tail <= math.log(task.classes),
                "seconds_per_step": seconds,
                **fixed,
            }
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def _trainer(task: Task, norm: NormFactory | None, of_kernels: NormFactory | None) -> Trainer:
    model = task.model(norm, of_kernels)
    inputs, targets = task.held_out

    # Not compiled: the programs of single initializers serve all members.
    def start(key: jax.Array) -> Any:
        variables = dict(model.init(key, inputs[:2], train=True))
        return variables.pop("params"), variables

    def loss(params: Any, kept: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Any]:
        variables = {"params": params, **kept}
        logits, changed = model.apply(variables, x, train=True, mutable=list(kept))
        return _cross_entropy(logits, y), changed

    @jax.jit
    def evaluate(state: Any) -> tuple[jax.Array, jax.Array]:
        params, kept = state
        logits: Any = model.apply({"params": params, **kept}, inputs)
        return _cross_entropy(logits, targets), jnp.mean(logits.argmax(-1) == targets)

    return Trainer(start, evaluate, loss)


def _cross_entropy(logits: Any, targets: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


def _advance(task: Task, trainer: Trainer, size: int) -> Callable[..., Any]:
    """Return the whole training: (start, key) -> (state, losses [steps])."""
    steps, rate, _ = task.sizes[size]
    tx = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def step(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        params, kept, of_tx = carry
        of_params = jax.value_and_grad(trainer.loss, has_aux=True)
        (value, kept), gradient = of_params(params, kept, *task.draw(key, size))
        updates, of_tx = tx.update(gradient, of_tx, params)
        return (optax.apply_updates(params, updates), kept, of_tx), value

    def advance(state: Any, key: jax.Array) -> Any:
        carry = (*state, tx.init(state[0]))
        (params, kept, _), losses = jax.lax.scan(step, carry, jax.random.split(key, steps))
        return (params, kept), losses

    return advance


def claims(results: dict[str, Any]) -> dict[str, bool]:
    """Say which expectations the numbers show, of those about members that were run."""
    rows, stateful = results["members"], {row.name for row in CATALOGUE if row.stateful}
    scores = [name for name in rows[0] if name.endswith(("_accuracy", "_loss"))]
    best = {ranked[0]["member"] for ranked in (_ranked(rows, name) for name in scores) if ranked}
    claimed = {"no member is best in every contest": len(best) > 1}
    sizes = sorted(int(name.split("_")[1]) for name in scores if name.endswith("_accuracy"))
    lost: dict[bool, list[float]] = {True: [], False: []}
    for row in rows:
        few, many = (row[f"images_{size}_accuracy"] for size in (sizes[0], sizes[-1]))
        if row["member"] != NONE and None not in (few, many):
            lost[row["member"] in stateful].append(many - few)
    if len(sizes) > 1 and all(lost.values()):
        claim = f"at a batch size of {sizes[0]} members with running statistics lose most"
        claimed[claim] = bool(np.mean(lost[True]) > np.mean(lost[False]))
    return claimed | _of_text(rows, scores)


def _of_text(rows: list[dict[str, Any]], scores: list[str]) -> dict[str, bool]:
    """Say whether layer and RMS norm are in the first quarter of the transformer's members."""
    column = next(name for name in scores if name.startswith(TEXT))
    names = [row["member"] for row in _ranked(rows, column)]
    if not {"layer_norm", "rms_norm"} <= {*names}:
        return {}
    ahead = {*names[: len(names) // 4]}
    claim = "layer and RMS norm are among the best in the transformer"
    return {claim: {"layer_norm", "rms_norm"} <= ahead}


def _ranked(rows: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    """Return the members that have a score, the best first."""
    present = [row for row in rows if row[column] is not None]
    return sorted(present, key=lambda row: row[column], reverse=column.endswith("accuracy"))


def summary(results: dict[str, Any]) -> list[str]:
    """Say the best members of each task, how many diverged, and who was left out."""
    rows, lines = results["members"], []
    columns = [name for name in rows[0] if name.endswith(("_accuracy", "_loss"))]
    for column in columns:
        task, size, score = column.split("_")
        ranked = _ranked(rows, column)
        form = ".1%" if score == "accuracy" else ".3f"
        told = {row["member"]: f"{row['member']} {row[column]:{form}}" for row in ranked}
        best = ", ".join([*told.values()][:3])
        base = f"{told[NONE]}; " if NONE in told else ""
        diverged = [row["member"] for row in rows if row[f"{task}_{size}_diverged"]]
        lines.append(
            f"{task} at a batch size of {size}, {score}: best of {len(ranked)} {best}; {base}"
            f"diverged for some seed: {', '.join(diverged) or 'no member'}."
        )
    return lines + _left_out(results["left_out"])


def _left_out(reasons: dict[str, dict[str, str]]) -> list[str]:
    """Say who was left out, those with the same reason together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, by_task in reasons.items():
        told = dict.fromkeys(why.removeprefix(f"norm '{name}' ") for why in by_task.values())
        groups.setdefault((" and ".join(by_task), "; ".join(told)), []).append(name)
    return [
        f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} left out of {where}: {told}."
        for (where, told), names in groups.items()
    ]
