"""Draws of which entries of an array a statistic is taken.

An array is a block of cells: examples go into the depth, positions down, channels to the right.
One statistic is picked, that of the cell in front at the top left, and its sample is coloured. The
other samples have two pale tones in turn. `python docs/_ext/blocks.py FILE` draws the picture of
the README.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

from jaxnorm.functional import CATALOGUE, Member

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "jaxnorm"  # the same picture has the same bytes

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

SHAPE = (4, 2, 2, 6)  # N, H, W, C of a drawn array; h, w, I, O of a kernel are (2, 2, 4, 6)
KERNEL = (2, 2, 4, 6)
PICKED, PALE, PALER, LINE, TEXT = "#2563eb", "#c3cfe4", "#e6ecf6", "#7d8ba6", "#6b7a94"
SHIFT = (0.42, 0.30)  # of one example into the depth, in cells


class Blocks(NamedTuple):
    """What is drawn: the picked sample, the tones of the others, and words."""

    sample: np.ndarray  # [depth, height, width], boolean: the entries behind one statistic
    tone: np.ndarray  # likewise, 0 or 1
    axes: tuple[str, str, str]  # names of depth, height, width
    words: str  # what one statistic is taken of


def blocks(member: Member) -> Blocks:
    """Returns what is drawn for a member of the catalogue."""
    if member.name in SPECIAL:
        return SPECIAL[member.name]()
    assert member.stats_shape is not None, f"{member.name} has no statistics shape and no picture"
    kernel = member.of == "kernel"
    shape = KERNEL if kernel else SHAPE
    index = statistic_of(shape, member.stats_shape(shape))
    if kernel:  # [h, w, I, O] stands as I, h w, O
        index = np.moveaxis(index.reshape(4, 4, 6, -1), 1, 0)
        return _picked(
            index,
            ("I", "h w", "O"),
            "over the inputs and positions of the kernel, for each output channel",
        )
    return _picked(index.reshape(4, 4, 6, -1), ("N", "H W", "C"), _words(member))


def statistic_of(shape: Sequence[int], stats_shape: Sequence[int]) -> np.ndarray:
    """Returns the index of the statistic of each entry, [*shape, rank]."""
    entry = np.moveaxis(np.indices(shape), 0, -1)
    return entry // (np.array(shape) // np.array(stats_shape))


def symbols(member: Member) -> str:
    """Returns the statistics shape with letters, such as `(N, 1, 1, G)`, not to be broken."""
    if member.stats_shape is None:
        return ""
    letters, shape = ("h", "w", "I", "O"), (3, 5, 8, 6)
    if member.of == "activations":
        letters, shape = ("N", "H", "W", "C"), (8, 3, 5, 6)
    part = {"ghost_batch_norm": "N/B", "split_batch_norm": "S"}.get(member.name, "G")
    sizes = zip(letters, shape, member.stats_shape(shape), strict=True)
    cut = [letter if kept == size else "1" if kept == 1 else part for letter, size, kept in sizes]
    return "(" + ",\u00a0".join(cut) + ")"


def draw(ax: Axes, drawn: Blocks, title: str = "") -> None:
    """Draws blocks on axes."""
    depth, height, width = drawn.sample.shape
    dx, dy = SHIFT
    faces, colours = [], []

    def face(corners, n, p, c, light):
        faces.append([(x + dx * z, -y + dy * z) for x, y, z in corners])
        colour = PICKED if drawn.sample[n, p, c] else (PALE, PALER)[drawn.tone[n, p, c] % 2]
        colours.append(_shaded(colour, light))

    for p, c in np.ndindex(height, width):
        face([(c, p, 0), (c + 1, p, 0), (c + 1, p + 1, 0), (c, p + 1, 0)], 0, p, c, 1.0)
    for n, c in np.ndindex(depth, width):
        face([(c, 0, n), (c + 1, 0, n), (c + 1, 0, n + 1), (c, 0, n + 1)], n, 0, c, 1.04)
    for n, p in np.ndindex(depth, height):
        corners = [(width, p, n), (width, p, n + 1), (width, p + 1, n + 1), (width, p + 1, n)]
        face(corners, n, p, width - 1, 0.9)
    ax.add_collection(PolyCollection(faces, facecolors=colours, edgecolors=LINE, linewidths=0.6))
    names = {"color": TEXT, "fontsize": 11, "ha": "center", "va": "center"}
    ax.text(width / 2, -height - 0.55, drawn.axes[2], **names)
    ax.text(-0.55, -height / 2, drawn.axes[1], rotation=90, **names)
    ax.text(depth * dx / 2 - 0.45, depth * dy / 2 + 0.35, drawn.axes[0], **names)
    ax.set_xlim(-1, width + depth * dx + 0.3)
    ax.set_ylim(-height - 1, depth * dy + (1.4 if title else 0.4))
    if title:
        middle = (width + depth * dx) / 2
        ax.text(middle, depth * dy + 0.8, title, **{**names, "fontsize": 13})
    ax.set_aspect("equal")
    ax.axis("off")


def save(path: Path, pictures: Sequence[tuple[str, Blocks]], size: float = 2.4) -> None:
    """Writes a picture with blocks side by side, each with its title."""
    figure, axes = pyplot.subplots(
        1, len(pictures), figsize=(size * len(pictures) * 1.25, size), squeeze=False
    )
    for ax, (title, drawn) in zip(axes[0], pictures, strict=True):
        draw(ax, drawn, title)
    options = {"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 160}
    figure.savefig(path, transparent=True, bbox_inches="tight", pad_inches=0.03, **options)
    pyplot.close(figure)


FOUR = ("batch_norm", "layer_norm", "instance_norm", "group_norm")


def four() -> list[tuple[str, Blocks]]:
    """Returns the four norms that a picture shows side by side."""
    rows = {member.name: member for member in CATALOGUE}
    return [(name.replace("_", " "), blocks(rows[name])) for name in FOUR]


def _picked(index: np.ndarray, axes: tuple[str, str, str], words: str) -> Blocks:
    """Returns the sample of the first statistic; `index` is [depth, height, width, rank]."""
    sample = (index == index[0, 0, 0]).all(-1)
    # Neighbours along each drawn axis have another tone, two axes of positions being one.
    codes = [np.unique(index[..., [a]], return_inverse=True)[1] for a in range(index.shape[-1])]
    if index.shape[-1] == 4:
        codes[1:3] = [codes[1] * 2 + codes[2]] if axes[1] == "H W" else codes[1:3]
    tone = sum(code.reshape(sample.shape) for code in codes) % 2
    return Blocks(sample, np.asarray(tone), axes, words)


def _words(member: Member) -> str:
    """Returns over what a sample of a member is taken, and for each of what, as the shape says."""
    over, each = [], []
    sizes = dict(zip("NHC", (8, 3, 6), strict=True))
    kept = dict(zip("NHWC", statistic_sizes(member), strict=True))
    for axis, all_of, part, one in (
        ("N", "the batch", "a part of the batch", "example"),
        ("H", "all positions", "a part of the positions", "position"),
        ("C", "all channels", "a group of channels", "channel"),
    ):
        if kept[axis] == sizes[axis]:
            each.append(one)
        else:
            over.append(all_of if kept[axis] == 1 else part)
    return f"over {' and '.join(over)}, for each {' and '.join(each)}".removesuffix(", for each ")


def statistic_sizes(member: Member) -> tuple[int, ...]:
    """Returns the statistics shape for `x [8, 3, 5, 6]`."""
    assert member.stats_shape is not None
    return tuple(member.stats_shape((8, 3, 5, 6)))


def _of(
    keys: Callable[..., Sequence], words: str, axes=("N", "H W", "C"), shape=(4, 4, 6), rest=None
) -> Callable[[], Blocks]:
    """Returns blocks whose samples have equal keys; `keys` takes depth, height and width.

    `rest`, where given, tells for each entry whether it is in the picked sample.
    """

    def made() -> Blocks:
        entries = np.indices(shape)
        columns = [np.broadcast_to(np.asarray(key), shape) for key in keys(*entries)]
        index = np.stack(columns, -1) if columns else np.zeros((*shape, 1), int)
        drawn = _picked(index, axes, words)
        return drawn if rest is None else drawn._replace(sample=rest(*entries))

    return made


_ENTRY = _of(
    lambda n, p, c: (n, p, c),
    "no statistics: each entry by itself",
    rest=lambda n, p, c: n + p + c == 0,
)
_CHANNEL = _of(
    lambda n, p, c: (c,), "over the batch, earlier batches and all positions, for each channel"
)
_NODES = (("", "nodes", "C"), (1, 6, 6))
_GRAPHS = np.array([0, 0, 0, 0, 1, 1])  # of six nodes

SPECIAL: dict[str, Callable[[], Blocks]] = {
    "virtual_batch_norm": _of(
        lambda n, p, c: (n, c),
        "over the reference batch, the example itself and all positions, for each channel",
    ),
    "domain_batch_norm": _of(
        lambda n, p, c: (n % 2, c),
        "over the examples of a domain and all positions, for each channel",
    ),
    "batch_group_norm": _of(
        lambda n, p, c: ((c * 4 + p) // 12,),
        "over the batch and a group of values, channel by channel",
    ),
    "p_rms_norm": _of(
        lambda n, p, c: (n, p),
        "over the first features (here half of them), for each example and position",
        rest=lambda n, p, c: (n == 0) & (p == 0) & (c < 3),
    ),
    "cumulative_layer_norm": _of(
        lambda n, p, c: (n, p),
        "over all channels of the steps up to each one (here the third), for each example",
        axes=("N", "T", "C"),
        rest=lambda n, t, c: (n == 0) & (t <= 2),
    ),
    "cumulative_group_norm": _of(
        lambda n, p, c: (n, p, c // 3),
        "over a group of channels of the steps up to each one (here the third), for each example",
        axes=("N", "T", "C"),
        rest=lambda n, t, c: (n == 0) & (t <= 2) & (c < 3),
    ),
    "power_norm": _CHANNEL,
    "moving_average_batch_norm": _CHANNEL,
    "cross_iteration_batch_norm": _CHANNEL,
    "online_norm": _of(
        lambda n, p, c: (n, c),
        "over all earlier examples (here three) and all positions, for each channel",
        rest=lambda n, p, c: (n < 3) & (c == 0),
    ),
    "iterative_norm": _of(
        lambda n, p, c: (c // 3,),
        "a covariance over the batch and all positions, for each group of channels",
    ),
    "decorrelated_batch_norm": _of(
        lambda n, p, c: (c // 3,),
        "a covariance over the batch and all positions, for each group of channels",
    ),
    "complex_batch_norm": _of(
        lambda n, p, c: (c,),
        "a covariance of real and imaginary part over batch and positions, for each channel",
    ),
    "act_norm": _of(
        lambda n, p, c: (c,), "over the first batch and all positions, once, for each channel"
    ),
    "local_response_norm": _of(
        lambda n, p, c: (n, p, c),
        "over the channels around each one (here the third), for each example and position",
        rest=lambda n, p, c: (n == 0) & (p == 0) & (abs(c - 2) <= 2),
    ),
    "local_contrast_norm": _of(
        lambda n, p, c: (n, p),
        "over the positions around each one and all channels, for each example",
        axes=("N", "W", "C"),
        rest=lambda n, p, c: (n == 0) & (p <= 2),
    ),
    "divisive_norm": _of(
        lambda n, p, c: (n, p, c),
        "over the positions around each one, for each example and channel",
        axes=("N", "W", "C"),
        rest=lambda n, p, c: (n == 0) & (p <= 2) & (c == 0),
    ),
    "graph_norm": _of(
        lambda d, p, c: (_GRAPHS[p], c), "over the nodes of a graph, for each feature", *_NODES
    ),
    "pair_norm": _of(
        lambda d, p, c: (_GRAPHS[p],), "over the nodes of a graph and all features", *_NODES
    ),
    "message_norm": _of(lambda d, p, c: (p,), "over all features, for each node", *_NODES),
    "spectral_norm": _of(
        lambda i, p, o: (),
        "over the whole kernel: its largest singular value",
        axes=("I", "h w", "O"),
    ),
    **dict.fromkeys(
        (
            *("film", "dynamic_tanh", "dynamic_erf", "thresholded_linear_unit"),
            *("layer_scale", "re_zero", "skip_init"),
        ),
        _ENTRY,
    ),
}


def _shaded(colour: str, light: float) -> tuple[float, float, float]:
    red, green, blue = (min(1.0, v * light) for v in matplotlib.colors.to_rgb(colour))
    return red, green, blue


if __name__ == "__main__":
    save(Path(sys.argv[1]), four())
