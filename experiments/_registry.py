"""The experiments: one row here and one module `experiments.<name>` each.

A module has

- `Config`, a frozen dataclass. Its docstring gives the command and what to expect. An expectation
  that a run refutes does not stand there as one.
- `PRESETS`, a `Config` for each of "smoke", "default" and "paper". Further names are allowed.
- `run(config, run)`, which measures, writes tables into `run.folder`, and returns the numbers that
  `run.json` keeps.
- `figures(folder)`, which draws from the files in `folder` and returns the paths of the pictures.
- `claims(results)`, which says of each claim of the literature whether the numbers of `run` show
  it. An experiment that only measures has none.
- `summary(results)`, which says the numbers of `run` in sentences.

It trains by `_trainer.train`, says numbers over seeds by `_seeds`, and draws by `_figures`.

The time of a preset stands in the row and nowhere else. A preset whose run is kept in
`experiments/results` has the time of that run.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from ._errors import RunError
from ._hosts import DATA_PARALLEL, REPLICATED
from ._run import Run


class Row(NamedTuple):
    """What the list and the ledger say about an experiment."""

    name: str
    line: str  # what the experiment does
    expected: str  # what the literature claims
    presets: Mapping[str, str]  # preset -> time on two shared x86-64 cores, data
    reference: str = "-"
    megabytes: int = 100  # free disk that a run needs
    hosts: str = REPLICATED  # or DATA_PARALLEL, or why it does not run on many hosts


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
        "every norm learns the digits, and batch norm classifies alike in both modes",
        {"smoke": "10 s, digits", "default": "25 s, digits", "paper": "90 s, digits"},
        hosts=DATA_PARALLEL,
    ),
    Row(
        "activations",
        "three sigmoid layers on MNIST with and without batch norm: what the sigmoids see",
        "with batch norm the network learns faster and ends more accurate; the percentiles of a "
        "sigmoid's input drift without batch norm and stay still with it",
        {"smoke": "15 s, digits", "default": "1 min, MNIST", "paper": "8 min, MNIST"},
        "Ioffe and Szegedy 2015 (arXiv:1502.03167), section 4.1, figure 1",
    ),
    Row(
        "inception",
        "the paper's Inception without batch norm and with it, at 1, 5 and 30 times the learning "
        "rate and with sigmoids",
        "batch norm reaches the baseline's accuracy in a fraction of its steps, fewest at 5 and 30 "
        "times the rate, and ends higher, most at 30 times; with sigmoids it still learns",
        {
            "smoke": "30 s, digits",
            "default": "6 min, Tiny ImageNet",
            "paper": "many GPUs, ImageNet",
            "tiny": "hours on a GPU, Tiny ImageNet",
        },
        "Ioffe and Szegedy 2015 (arXiv:1502.03167), section 4.2, figures 2 and 3",
        megabytes=500,
        hosts=DATA_PARALLEL,
    ),
    Row(
        "cifar",
        "a small VGG-like network on CIFAR-10 with and without batch norm",
        "with batch norm the loss falls faster and accuracy ends about 4 points higher; without it "
        "validation loss turns up from about epoch 15 of 30",
        {"smoke": "20 s, digits", "default": "5 min, CIFAR-10", "paper": "15 h, CIFAR-10"},
        "a blog post with experiments on CIFAR-10",
        hosts=DATA_PARALLEL,
    ),
    Row(
        "loss_surface",
        "plain gradient descent on a stretched and on a round bowl",
        "the round bowl needs about a third of the steps (27 s against 9 s of animation in the "
        "post)",
        {"smoke": "8 s, none", "default": "8 s, none", "paper": "8 s, none"},
        "a blog post with experiments on convergence",
    ),
    Row(
        "saturation",
        "the gradient that a sigmoid and a ReLU pass, before and after normalization",
        "normalized inputs pass more of a gradient; half of a normalized input dies in a ReLU "
        "without a bias; scale = sqrt(var) and bias = mean give the input back",
        {"smoke": "30 s, digits", "default": "5 min, MNIST", "paper": "10 min, MNIST"},
        "a blog post with experiments on saturation; a survey",
    ),
    Row(
        "smoothness",
        "the loss and its gradient along a step, without batch norm, with it, and with noise after "
        "it; how the layers below change a layer's gradient",
        "with batch norm the loss and the gradient change less along a step; noise after batch "
        "norm costs little; the internal covariate shift is not smaller with batch norm",
        {"smoke": "30 s, digits", "default": "54 min, CIFAR-10", "paper": "a GPU, CIFAR-10"},
        "Santurkar et al. 2018 (arXiv:1805.11604), sections 2.1, 2.2 and 3.1, figures 2 to 4",
    ),
    Row(
        "scale_invariance",
        "weights before a norm at many learning rates and weight decays: their norms, the angle of "
        "a step, and trainings that are the same function",
        "with batch norm, weights times c at a rate times c² are the same function; a growing "
        "rate is the same as weight decay; in the end a step turns the weights by sqrt(2 rate "
        "decay)",
        {"smoke": "20 s, digits", "default": "33 min, MNIST", "paper": "1 h, MNIST"},
        "van Laarhoven 2017 (arXiv:1706.05350); Li and Arora 2020 (arXiv:1910.07454)",
    ),
    Row(
        "initialization",
        "a five-layer ReLU network at 16 weight scales, with and without batch norm",
        "with batch norm nearly every scale learns, without it most do not",
        {"smoke": "20 s, digits", "default": "54 s, MNIST", "paper": "8 min, MNIST"},
        "Deep Learning from Scratch, chapter 6",
    ),
    Row(
        "overfitting",
        "seven layers of 100 units on 300 images: nothing, weight decay, dropout, batch norm, and "
        "ensembles",
        "weight decay, dropout and batch norm narrow the gap between training and test accuracy; "
        "an ensemble of the networks is better than one",
        {"smoke": "20 s, digits", "default": "48 s, MNIST", "paper": "10 min, MNIST"},
        "Deep Learning from Scratch, chapter 6",
    ),
    Row(
        "search",
        "random search for learning rate and weight decay in two rounds, bad trials abandoned "
        "early, with and without batch norm",
        "with batch norm the range of good learning rates is wider and lies higher",
        {"smoke": "30 s, digits", "default": "7 min, MNIST", "paper": "1 h, MNIST"},
        "Deep Learning from Scratch, chapter 6",
    ),
    Row(
        "optimizers",
        "SGD, momentum, AdaGrad and Adam, with and without batch norm",
        "with batch norm the losses go down faster and lie closer together",
        {"smoke": "15 s, digits", "default": "2 min, MNIST", "paper": "30 min, MNIST"},
        "Deep Learning from Scratch, chapter 6",
    ),
    Row(
        "small_batch",
        "a small ResNet at batch sizes from 32 to 2: batch norm against ghost batch, group, layer "
        "and instance norm, batch renormalization, filter response norm, EvoNorm S0, and group "
        "norm with weight standardization",
        "batch norm's error grows as the batch shrinks, group norm's stays level; the newer ones "
        "are better than either",
        {"smoke": "30 s, digits", "default": "46 min, CIFAR-10", "paper": "a GPU, CIFAR-10"},
        "Wu and He 2018 (arXiv:1803.08494), section 4.1, figure 5; Ioffe 2017 (arXiv:1702.03275); "
        "Singh and Krishnan 2020 (arXiv:1911.09737); Liu et al. 2020 (arXiv:2004.02967); Qiao et "
        "al. 2019 (arXiv:1903.10520)",
    ),
    Row(
        "league",
        "every norm of the catalogue that fits in a small ResNet at two batch sizes and in a small "
        "character language model",
        "no member is best in every contest; at a batch size of 2 members with running statistics "
        "lose most; layer and RMS norm are among the best in the transformer",
        {
            "smoke": "30 s, digits",
            "default": "hours, CIFAR-10",
            "paper": "many hours on a GPU, CIFAR-10",
            "tiny": "19 min, digits",
        },
    ),
    Row(
        "recurrent",
        "an LSTM that reads MNIST in steps: no norm, layer norm, batch norm with statistics "
        "per time step and shared over time",
        "batch norm learns faster, most on permuted pixels; statistics move over time, so that "
        "each time step needs its own: "
        "shared statistics lose accuracy in evaluation",
        {"smoke": "25 s, digits", "default": "4 min, MNIST", "paper": "hours on a GPU, MNIST"},
        "Cooijmans et al. 2016 (arXiv:1603.09025); Ba et al. 2016 (arXiv:1607.06450)",
    ),
    Row(
        "style",
        "feed-forward style transfer with batch, instance and adaptive instance norm",
        "the style loss ends lower with instance norm than with batch norm",
        {
            "smoke": "20 s, photographs",
            "default": "53 min, photographs and CIFAR-10",
            "paper": "a GPU, photographs and CIFAR-10",
        },
        "Ulyanov et al. 2016 (arXiv:1607.08022); Huang and Belongie 2017 (arXiv:1703.06868)",
    ),
    Row(
        "gan",
        "a DCGAN on MNIST with batch norm, instance norm, spectral norm and none",
        "with batch norm or spectral norm the networks learn in fewer steps",
        {"smoke": "20 s, digits", "default": "12 min, MNIST", "paper": "a GPU, MNIST"},
        "Radford et al. 2015 (arXiv:1511.06434); Miyato et al. 2018 (arXiv:1802.05957)",
    ),
    Row(
        "scaling",
        "standard and min-max scaling of real tables, in a stream and over shards",
        "equal to scikit-learn to rounding; gradient descent needs fewer steps on scaled features",
        {"smoke": "10 s, tables", "default": "1 min, tables", "paper": "1 min, tables"},
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
        "the statistics of one example alone fail; population statistics are at least as good as "
        "the moving average; folding into the weights changes nothing but rounding",
        {"smoke": "20 s, digits", "default": "2 min, MNIST", "paper": "15 min, MNIST"},
        "Ioffe and Szegedy 2015 (arXiv:1502.03167), section 3.1, algorithm 2",
    ),
    Row(
        "regularization",
        "batch norm with and without dropout and weight decay at several strengths",
        "batch norm narrows the gap between training and test accuracy, and needs less dropout and "
        "weight decay",
        {"smoke": "20 s, digits", "default": "4 min, MNIST", "paper": "15 min, MNIST"},
        "Ioffe and Szegedy 2015 (arXiv:1502.03167), section 4.2.1; a survey",
    ),
    Row(
        "adaptation",
        "a network trained on clean digits meets corrupted ones: statistics of the target, mixed "
        "with a prior, and Tent",
        "statistics of many target images recover most of the accuracy that a corruption costs; of "
        "few images they need the source as a prior; Tent adds a little",
        {"smoke": "20 s, digits", "default": "50 s, digits", "paper": "3 min, digits"},
        "Schneider et al. 2020 (arXiv:2006.16971); Wang et al. 2021 (arXiv:2006.10726)",
    ),
    Row(
        "bench",
        "time and memory of every normalizer against every rival and the machine's limit",
        "speed of jaxnorm over that of flax.linen and of the best rival, bytes kept for the "
        "backward pass, error against float64",
        {"smoke": "20 s, none", "default": "6 min, none", "paper": "30 min, none"},
        hosts="it times one machine; start it on each by itself",
    ),
    Row(
        "bench.tune",
        "which blocks of the GPU's kernels are the fastest, measured and written into their table",
        "bandwidth near that of a copy; it refuses where there is no GPU",
        {"smoke": "a GPU, none", "default": "a GPU, none", "paper": "a GPU, none"},
        hosts="it times one machine; start it on each by itself",
    ),
)


def find(name: str) -> Row:
    """Return the row of an experiment.

    Raises:
        RunError: there is no experiment of this name.
    """
    for row in ROWS:
        if row.name == name:
            return row
    raise RunError(f"no experiment {name!r}; there are {', '.join(row.name for row in ROWS)}")


def load(row: Row) -> Experiment:
    """Return the module of an experiment. The list does not load it: its imports take seconds."""
    return cast(Experiment, importlib.import_module(f"experiments.{row.name}"))
