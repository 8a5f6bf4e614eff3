"""Train steps on slices of many chips that are not there: what they exchange.

The whole ResNet-50 takes minutes to compile. So a model with few layers is compiled, and its
numbers are multiplied by the layers and parameters of the whole one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnorm.training import TrainState, create_train_state, cross_entropy, make_train_step

from ._exchanges import Exchange, exchanges
from ._large import PIXELS, LargeModel, large_model

DATA_PARALLEL = "data parallel"
FSDP = "FSDP"
LAYOUTS = (DATA_PARALLEL, FSDP)
SHARDS = 64  # chips over which FSDP cuts parameters; larger slices have copies
_LEAST = 2**14  # entries of a parameter that is cut
_SMALL = 64  # pixels of the images that are compiled for: exchanges do not depend on them
_FEW = 8  # images of each chip that are compiled for: the same


class Chip(NamedTuple):
    """A chip and the slices of it, with published numbers.

    Peak and memory: cloud.google.com/tpu/docs, the pages v5e, v5p and v6e. Links: Austin et al.,
    How to Scale Your Model (2025), part 2, one way.
    """

    flops: float  # a second, in bfloat16
    link: float  # bytes a second of a link, one way
    wraps: int  # chips along an axis from which on its ends are linked
    slices: dict[int, str]


CHIPS = {
    "v5e": Chip(197e12, 45e9, 16, {8: "v5e:2x4", 64: "v5e:8x8", 256: "v5e:16x16"}),
    "v5p": Chip(459e12, 90e9, 4, {8: "v5p:2x2x2", 64: "v5p:4x4x4", 1024: "v5p:8x8x16"}),
    "v6e": Chip(918e12, 90e9, 16, {8: "v6e:2x4", 64: "v6e:8x8", 256: "v6e:16x16"}),
}


def axes_of(target: str, chips: int) -> tuple[int, ...]:
    """Return how many chips a slice has along each axis."""
    return tuple(map(int, CHIPS[target].slices[chips].split(":")[1].split("x")))


def hops(target: str, chips: int) -> int:
    """Return how many links are between the two chips of a slice that are farthest apart."""
    wraps = CHIPS[target].wraps
    return sum(n // 2 if n >= wraps else n - 1 for n in axes_of(target, chips))


def counted(target: str, name: str, layout: str, chips: int) -> dict[str, Any]:
    """Return what a step of a short model exchanges, in a process of `compiler(target)`.

    Args:
        target: a key of `CHIPS`.
        name: of a model.
        layout: one of `LAYOUTS`.
        chips: of the slice.
    """
    model = large_model(name)
    text, state = compiled(target, model, layout, chips)
    cut = 1 if layout == DATA_PARALLEL else min(chips, SHARDS)
    found = exchanges(text, kernels_of(state, cut))
    own, others = ([x for x in found if x.of_norm is norm] for norm in (True, False))
    # The positions of a transformer are parameters, fewer of small images.
    short, whole = sizes_of(model.short(), _SMALL), sizes_of(model.whole(), PIXELS)
    assert short.parameters == sum(leaf.size for leaf in jax.tree.leaves(state.params))
    forward = [x for x in own if "transpose(" not in x.name]
    backward = [x for x in own if "transpose(" in x.name]
    return {
        "model": name,
        "layout": layout,
        "chips": chips,
        "compiled_norms": model.chain[0],
        "norms": model.chain[1],
        "forward": len(forward),
        "forward_bytes": received(forward, cut) - received_of_parameters(forward, cut),
        "backward": len(backward),
        "backward_bytes": received(backward, cut) - received_of_parameters(backward, cut),
        "apart": sum(x.apart for x in own),
        "between": sum(x.between for x in own),
        "others": len(others),
        "others_bytes": received(others, cut) + received_of_parameters(own, cut),
        "others_apart": sum(x.apart for x in others),
        "others_between": sum(x.between for x in others),
        "channels_ratio": whole.channels / short.channels,
        "parameters_ratio": whole.parameters / short.parameters,
        "parameters": whole.parameters,
    }


def received(found: Sequence[Exchange], cut: int) -> int:
    """Return the bytes that each chip receives at least, however an exchange is done.

    Args:
        found: the exchanges.
        cut: chips that a sum is scattered over.
    """
    # A sum for all is a sum that is scattered, and then gathered.
    times = {"all-reduce": 2, "reduce-scatter": cut}
    return sum(times.get(exchange.kind, 1) * exchange.bytes for exchange in found)


def received_of_parameters(found: Sequence[Exchange], cut: int) -> int:
    """Return the bytes of kernels among those that `received` returns."""
    return received([x._replace(bytes=x.of_parameters) for x in found], cut)


def kernels_of(state: TrainState, cut: int) -> set[tuple[int, ...]]:
    """Return the shapes of kernels, and of the parts into which FSDP cuts them.

    XLA exchanges them together with statistics where both are wanted at one time.
    """
    shapes = {leaf.shape for leaf in jax.tree.leaves(state.params) if leaf.ndim > 1}
    parts = {
        (*shape[:axis], n // cut, *shape[axis + 1 :])
        for shape in shapes
        for axis, n in enumerate(shape)
        if n % cut == 0
    }
    return shapes | parts


class Sizes(NamedTuple):
    """What is extrapolated by."""

    channels: int  # of all norms
    parameters: int


def sizes_of(model: Any, pixels: int) -> Sizes:
    """Return the sizes of a model for images of so many pixels a side, without initializing it."""
    forms = jax.eval_shape(lambda: model.init(jax.random.key(0), _images(1, pixels)))
    flat: Any = traverse_util.flatten_dict(forms["params"])
    norms = [leaf.size for path, leaf in flat.items() if path[-1] == "scale"]
    return Sizes(sum(norms), sum(leaf.size for leaf in flat.values()))


def flops_of_image(name: str) -> float:
    """Return the operations of a train step of a whole model, of each image."""
    model = large_model(name)
    tx = optax.sgd(0.1, momentum=0.9)
    module = model.whole()
    state = jax.eval_shape(
        lambda: create_train_state(module, jax.random.key(0), _images(1, PIXELS), tx)
    )
    step = make_train_step(module, tx, cross_entropy, guard_non_finite=False, donate=False)
    # The optimizer's are among them, and less than a hundredth.
    return step.lower(state, _batch(1, PIXELS)).cost_analysis()["flops"]


def _images(count: int, pixels: int) -> jax.Array:
    return jnp.zeros((count, pixels, pixels, 3))


def _batch(count: int, pixels: int, where: Any = None) -> dict[str, jax.ShapeDtypeStruct]:
    def form(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=where)

    images = (count, pixels, pixels, 3)
    return {"inputs": form(images, jnp.float32), "labels": form((count,), jnp.int32)}


def compiled(target: str, model: LargeModel, layout: str, chips: int) -> tuple[str, TrainState]:
    """Return the program of a step of a short model, and the form of its state."""
    slice_ = topologies.get_topology_desc(platform="tpu", topology_name=CHIPS[target].slices[chips])
    cut = 1 if layout == DATA_PARALLEL else min(chips, SHARDS)
    mesh = Mesh(np.array(slice_.devices).reshape(chips // cut, cut), ("data", "shard"))
    axis = "data" if layout == DATA_PARALLEL else None
    module, tx = model.short(axis_name=axis), optax.sgd(0.1, momentum=0.9)
    form = jax.eval_shape(
        lambda: create_train_state(module, jax.random.key(0), _images(1, _SMALL), tx)
    )
    place = jax.tree.map(lambda leaf: NamedSharding(mesh, _cut(leaf, cut)), form)
    given = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        form,
        place,
    )
    step = make_train_step(
        module, tx, cross_entropy, guard_non_finite=False, axis_name=axis, donate=False
    )
    if axis is not None:
        # TPUs have one exchange for each norm and pass in `shard_map`, and more under `jit`.
        step = jax.shard_map(step, mesh=mesh, in_specs=(P(), P(axis)), out_specs=P())
    rows = NamedSharding(mesh, P(("data", "shard")))
    batch = _batch(chips * _FEW, _SMALL, rows)
    lowered = jax.jit(step, out_shardings=(place, None), donate_argnums=0).lower(given, batch)
    return lowered.compile().as_text() or "", form


def _cut(leaf: jax.ShapeDtypeStruct, shards: int) -> P:
    """Return how FSDP cuts a parameter: along its longest axis that can be cut."""
    axes = [axis for axis, n in enumerate(leaf.shape) if n % shards == 0]
    if shards == 1 or leaf.size < _LEAST or not axes:
        return P()
    longest = max(axes, key=lambda axis: leaf.shape[axis])
    return P(*("shard" if axis == longest else None for axis in range(len(leaf.shape))))


def seconds_of(target: str, chips: int, count: float, size: float) -> float:
    """Return the least time of exchanges of so many bytes that every chip receives.

    Each hop takes a microsecond, and every link of a chip brings bytes at the same time.

    Source: Austin et al., How to Scale Your Model (2025), part 3, "A note on ICI latency".
    """
    links = sum(min(2, n - 1) for n in axes_of(target, chips))
    return max(count * hops(target, chips) * 1e-6, size / (links * CHIPS[target].link))
