"""The paper's five models: what they differ in, and what is taken from their curves."""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from experiments import inception
from experiments._augmentation import photometric
from experiments._tables import read_table, select
from experiments.data import ImageFolder, load, write_images
from experiments.inception import _training

CONFIG = inception.PRESETS["default"]


@pytest.fixture(scope="module")
def smoke(run_smoke):
    return run_smoke(inception)


@pytest.mark.slow
def test_every_model_of_the_paper_has_a_curve(smoke):
    table = read_table(smoke[0] / "curves.csv")
    assert set(table["network"]) == set(CONFIG.models) == set(smoke[1]["models"])
    for name in CONFIG.models:
        assert select(table, network=name)["step"].tolist() == [20, 40, 60]


@pytest.mark.slow
def test_with_batch_norm_and_more_learning_rate_the_network_learns_more(smoke):
    best = {name: reached["best"][0] for name, reached in smoke[1]["models"].items()}
    assert best["BN-x5"] > best["Inception"] + 0.1


@pytest.mark.slow
def test_steps_to_the_baselines_best_are_those_of_the_curve(smoke):
    folder, results = smoke
    table = read_table(folder / "curves.csv")
    goal = select(table, network="Inception")["validation_accuracy"].max()
    for name, reached in results["models"].items():
        rows = select(table, network=name)
        there = rows["step"][rows["validation_accuracy"] >= goal]
        assert reached["steps_to_baseline"] == [int(there[0]) if len(there) else None]


@pytest.mark.slow
def test_the_picture_is_made_from_the_tables(smoke):
    assert [path.name for path in inception.figures(smoke[0])] == ["inception.png"]


def test_learning_rates_are_the_papers_multiples_and_fall_six_times_as_fast_with_batch_norm():
    rates = {n: _training.learning_rate(CONFIG, r, 0) for n, r in inception.RECIPES.items()}
    assert rates["BN-x5"] == pytest.approx(5 * rates["Inception"])
    assert rates["BN-x30"] == pytest.approx(30 * rates["BN-Baseline"])
    half = CONFIG.half_life
    plain, normed = inception.RECIPES["Inception"], inception.RECIPES["BN-Baseline"]
    assert _training.learning_rate(CONFIG, plain, half) == pytest.approx(rates["Inception"] / 2)
    assert _training.learning_rate(CONFIG, normed, half) == pytest.approx(rates["Inception"] / 64)


def test_only_the_models_without_batch_norm_have_dropout_and_local_response_norm():
    plain = _training.make_model(CONFIG, 10, inception.RECIPES["Inception"])
    normed = _training.make_model(CONFIG, 10, inception.RECIPES["BN-x30"])
    assert plain.dropout_rate == 0.4 and plain.norm is None and plain.stem_norm is not None
    assert normed.dropout_rate == 0 and normed.norm is not None and normed.stem_norm is None


def test_local_response_norm_is_that_of_its_definition():
    x = np.random.default_rng(0).standard_normal((2, 3, 3, 7)) * 30
    got = np.asarray(_training.local_response(jax.numpy.asarray(x, np.float32)))
    for channel in range(7):
        window = x[..., max(0, channel - 2) : channel + 3]
        scale = (1 + 1e-4 / 5 * (window**2).sum(-1)) ** 0.75
        np.testing.assert_allclose(got[..., channel], x[..., channel] / scale, rtol=1e-5)


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> tuple[ImageFolder, ImageFolder]:
    return write_images(load("digits").head(96, 60), tmp_path_factory.mktemp("digits"))


class Settings(NamedTuple):
    hyperparams: dict[str, Any]


class Progress(NamedTuple):
    """What a model that does not learn keeps: the step, and what it saw."""

    step: int
    opt_state: Settings
    seen: tuple[tuple[float, tuple[int, ...]], ...]  # learning rate and labels of each step


def note(state: Progress, batch: dict[str, Any]) -> tuple[Progress, dict[str, Any]]:
    rate = float(state.opt_state.hyperparams["learning_rate"])
    seen = (*state.seen, (rate, tuple(np.asarray(batch["labels"]).tolist())))
    return state._replace(step=state.step + 1, seen=seen), {"loss": rate}


def test_a_resumed_model_sees_the_rates_and_batches_that_it_would_have_seen(digits):
    config, (train, validation) = inception.PRESETS["smoke"], digits
    training: Any = note
    network = _training.Network(training, training, training)

    def advance(state: Any, times: int) -> Any:
        recipe = inception.RECIPES["BN-x30"]
        classifier = _training.make_classifier(config, recipe, network, train, validation, 7)
        for _ in range(times):
            state, _ = classifier.advance(state)
        return state

    start = Progress(0, Settings({}), ())
    straight = advance(start, 3)
    assert straight.step == config.steps
    assert advance(advance(start, 1), 2) == straight
    assert len(set(straight.seen)) == config.steps


def test_an_advance_is_short_and_its_metrics_are_those_since_the_last_evaluation(digits):
    config = dataclasses.replace(inception.PRESETS["smoke"], steps=200, points=2)
    training: Any = note
    network = _training.Network(training, training, training)
    recipe = inception.RECIPES["BN-x5"]
    classifier = _training.make_classifier(config, recipe, network, *digits, 0)
    assert classifier.steps == 25
    state: Any = Progress(0, Settings({}), ())
    taken = []
    for _ in range(8):
        state, metrics = classifier.advance(state)
        taken.append(metrics["loss"].tolist())
    rates = [rate for rate, _ in state.seen]
    since = [rates[start:end] for start in (0, 100) for end in range(start + 25, start + 101, 25)]
    assert taken == since


@pytest.mark.slow
def test_a_step_on_all_devices_is_that_on_one(digits, monkeypatch):
    config, (train, validation) = inception.PRESETS["smoke"], digits
    recipe = inception.RECIPES["BN-x5"]
    network = _training.compiled(config, 10, recipe)
    assert len(jax.devices()) == 8

    def first_step():
        classifier = _training.make_classifier(config, recipe, network, train, validation, 0)
        state = classifier.start(jax.random.key(0))
        batch = _training.training_batches(
            train, _training.Crop(config.pixels), batch_size=config.batch_size, seed=0
        )[0]
        mesh = _training.Mesh(np.array(jax.devices()), ("data",))
        state = _training._with_rate(state, 0.1)
        return network.train_step(state, _training._placed(batch, mesh))

    everywhere, told = first_step()
    only = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: only)
    alone, told_alone = first_step()
    np.testing.assert_allclose(told["loss"], told_alone["loss"], rtol=1e-5)
    stats = zip(*map(jax.tree.leaves, (everywhere.batch_stats, alone.batch_stats)), strict=True)
    for shared, single in stats:
        # A tenth of the batch's statistics: float32 sums in another order, through eleven layers.
        np.testing.assert_allclose(shared, single, rtol=1e-4, atol=1e-5)


def test_images_that_are_written_are_read_as_they_were(digits):
    data = load("digits").head(96, 60)
    for folder, images, labels in (
        (digits[0], data.train_images, data.train_labels),
        (digits[1], data.test_images, data.test_labels),
    ):
        numbers = [int(path.stem) for path in folder.paths]
        np.testing.assert_array_equal(folder.labels, labels[numbers])
        found = _training.validation_batches(folder, size=8, batch_size=len(numbers))
        expected = np.round(images[numbers] * 255.0 / 16)
        np.testing.assert_array_equal(
            next(found)["inputs"], np.broadcast_to(expected, (len(numbers), 8, 8, 3))
        )


def test_distortions_change_brightness_contrast_and_saturation_within_their_strength():
    x = np.random.default_rng(0).uniform(90, 130, (64, 4, 4, 3)).astype(np.float32)
    batch = {"inputs": x, "labels": np.arange(64)}
    got = jax.jit(photometric(0.2))(jax.random.key(0), batch)
    y = np.asarray(got["inputs"])

    def spread(images: np.ndarray) -> tuple[np.ndarray, ...]:
        grey = images.mean(3, keepdims=True)
        mean = grey.mean((1, 2, 3), keepdims=True)
        of_grey, of_colour = (grey - mean).std((1, 2, 3)), (images - grey).std((1, 2, 3))
        return mean.squeeze(), of_grey / mean.squeeze(), of_colour / of_grey

    # Brightness scales all; contrast what is left of that, saturation the colours alone.
    for before, after in zip(spread(x), spread(y), strict=True):
        factor = after / before
        assert 0.8 - 1e-4 <= factor.min() < 0.85 and 1.15 < factor.max() <= 1.2 + 1e-4
    np.testing.assert_array_equal(got["labels"], batch["labels"])


def test_the_summary_puts_steps_and_accuracy_beside_the_papers():
    reached = {"best_at": [40, 40]}
    models = {
        "Inception": {**reached, "best": [0.5, 0.54], "steps_to_baseline": [400, 200]},
        "BN-x5": {**reached, "best": [0.6, 0.7], "steps_to_baseline": [100, 100]},
        "BN-x5-Sigmoid": {**reached, "best": [0.4, 0.6], "steps_to_baseline": [None, 100]},
    }
    results = {"baseline": "Inception", "classes": 9, "batch_size": 32, "steps": 400}
    head, first, second, third = inception.summary({**results, "models": models})
    assert "in order: BN-x5 65.0%, Inception 52.0%, BN-x5-Sigmoid 50.0%" in head
    assert first.startswith("Inception: 400, 200 steps; best 52.0% (50.0% to 54.0% over seeds)")
    assert "100, 100 steps, 0.38 of the baseline's" in second and "2.1M steps, best 73%" in second
    assert "never, 100 steps, 0.50 of the baseline's" in third and "never, best 69.8%" in third
